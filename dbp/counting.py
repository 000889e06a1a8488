"""How often a solver is called, measured at the solver."""

from copy import copy
from typing import Any, TypeVar

from torch import Tensor

from dbp.core import Solver

S = TypeVar("S", bound=Solver)


def counted(solver: S) -> tuple[S, list[int]]:
    """The same solver, of a subclass of its class, and a list that grows by the number of inputs of each call."""
    calls: list[int] = []

    def solve(self: Any, theta: Tensor, instance: Any) -> Tensor:
        calls.append(theta.shape[: theta.ndim - self.event_dim].numel())
        return type(solver).solve(self, theta, instance)

    twin = copy(solver)
    cls = type(type(solver).__name__, (type(solver),), {"solve": solve, "__slots__": ()})
    object.__setattr__(twin, "__class__", cls)  # solvers are frozen
    return twin, calls
