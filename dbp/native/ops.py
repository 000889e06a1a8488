"""The interface of the kernels for other rooms: availability, calls, operators, tracing."""

from dbp.native.library import call, empty_like, serves, widen
from dbp.native.loader import status
from dbp.native.operator import PLAIN, eager, operator, traced

__all__ = ["PLAIN", "call", "eager", "empty_like", "operator", "serves", "status", "traced", "widen"]
