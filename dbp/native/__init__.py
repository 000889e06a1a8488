"""Compiled kernels: a shared library with a plain C interface, called through ctypes. Each has a torch twin.

`ops` is what other rooms use. How to add one: README.md in this folder.
"""
