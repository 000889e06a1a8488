"""Compiled kernels: a shared library with a plain C interface, called through ctypes. Each has a torch twin.

How to add one: README.md in this folder.
"""

from dbp.solvers.native.library import call, serves, status, widen
from dbp.solvers.native.operator import operator

__all__ = ["call", "operator", "serves", "status", "widen"]
