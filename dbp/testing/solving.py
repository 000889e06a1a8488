"""A solver with inputs to check it on."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dbp.core import Solver
from dbp.errors import Unsupported, UserError
from dbp.solvers.scores import random_scores


@dataclass(frozen=True)
class SolverCase:
    """A solver with inputs to try it on."""

    solver: Solver
    shape: tuple[int, ...]
    instance: Any
    device: torch.device

    def scores(self, *leading: int, dtype: torch.dtype = torch.float32) -> Tensor:
        shape = (*leading, *self.shape)
        return random_scores(self.solver, shape, self.instance, dtype, self.device)

    def solve(self, theta: Tensor) -> Tensor:
        return self.solver(theta, self.instance)

    @property
    def event(self) -> tuple[int, ...]:
        return self.shape[len(self.shape) - self.solver.event_dim :]

    @cached_property
    def vertices(self) -> Tensor | None:
        """Every decision, or None if the solver does not list them, or not so many."""
        try:
            return self.solver.vertices(self.event, self.instance).to(self.device)
        except UserError:
            return None

    def matches(self, y: Tensor, vertices: Tensor) -> Tensor:
        """True where a decision is a vertex, `[decisions, vertices]`."""
        rows = y.reshape(-1, *vertices.shape[1:])
        return (rows[:, None] == vertices.to(y)).reshape(len(rows), len(vertices), -1).all(-1)

    def events(self, count: int) -> Tensor:
        """Scores of so many single inputs, in double precision."""
        return self.scores(count, dtype=torch.float64).reshape(-1, *self.event)[:count]

    def worth(self, theta: Tensor, decisions: Tensor) -> Tensor:
        """`<theta, y>` of each input with each decision, `[inputs, decisions]`."""
        width = max(1, torch.Size(self.event).numel())
        return theta.double().reshape(-1, width) @ decisions.double().reshape(-1, width).T

    def is_feasible(self, y: Tensor) -> bool:
        """True if the solver calls all decisions feasible, or cannot tell."""
        try:
            return bool(self.solver.is_feasible(y, self.instance).all())
        except Unsupported:
            return True


def masked(theta: Tensor, event: tuple[int, ...]) -> Tensor:
    """The scores with every fifth of an event forbidden by -1e9, the first among them."""
    hidden = torch.arange(torch.Size(event).numel(), device=theta.device).reshape(event) % 5 == 0
    return theta.masked_fill(hidden, -1e9)


def gap(worth: Tensor) -> float:
    """The most by which another decision is worth more to an input than its own: `[inputs, decisions]`, own first."""
    return (worth.amax(1) - worth.diagonal()).amax().item() if len(worth) else 0.0
