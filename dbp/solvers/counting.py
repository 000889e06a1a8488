"""Counts and times the calls of a solver."""

from copy import copy
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from dbp.core import Solver

S = TypeVar("S", bound=Solver)


class Call(NamedTuple):
    """One call of a solver: how many inputs, and how long it was busy (on CUDA: until its work was queued)."""

    inputs: int
    seconds: float


def counted(solver: S) -> tuple[S, list[Call]]:
    """The same solver, of a subclass of its class, and a list that grows by each call."""
    calls: list[Call] = []

    def solve(self: Any, theta: Tensor, instance: Any) -> Tensor:
        began = perf_counter()
        y = type(solver).solve(self, theta, instance)
        calls.append(Call(theta.shape[: theta.ndim - self.event_dim].numel(), perf_counter() - began))
        return y

    twin = copy(solver)
    cls = type(type(solver).__name__, (type(solver),), {"solve": solve, "__slots__": ()})
    object.__setattr__(twin, "__class__", cls)  # solvers are frozen
    return twin, calls
