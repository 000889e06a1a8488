"""Compiled kernels: a shared library with a plain C interface, called through ctypes. Each has a torch twin.

How to add one: README.md in this folder.
"""

from dbp.kernels import status
from dbp.native.library import call, empty_like, serves, widen
from dbp.native.operator import PLAIN, operator, traced

__all__ = ["PLAIN", "call", "empty_like", "operator", "serves", "status", "traced", "widen"]
