"""Knapsacks: the most valuable items that fit."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.optimize import LinearConstraint, milp
from torch import Tensor

from dbp.core import Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.shapes import normalise, unexpanded, unravel
from dbp.solvers.listing import listed
from dbp.solvers.parts import in_parts

_CELLS = 2**26  # of a table of the dynamic program; above, it is an integer program
_TOLERANCE = 1e-6  # of HiGHS

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Knapsack(Solver):
    """The best items that fit: `argmax <theta, y>` over 0/1 vectors y with `weights @ y <= capacity`.

    theta is `[*leading, items]`. Items whose score is not positive are never chosen. One resource with integer weights
    is solved by dynamic programming, in float64 for float64 theta, else in float32; as far as its sums are exact, ties
    go to the lowest index: the first item is chosen if any best choice has it, then the second, and so on. Several
    resources, real weights and capacities beyond 2^26 / items are integer programs for HiGHS, one after the other.

    Args:
        weights: a number for each item, or for each resource as many; not negative.
        capacity: a number, or one for each resource. Without weights and capacity the instance is a pair of tensors,
            weights `[*leading, resources, items]` and capacity `[*leading, resources]`, which may broadcast.

    Raises:
        UserError: weights or a capacity that are not finite, or negative; it names the row.
    """

    binary = True
    weights: Numbers | tuple[Numbers, ...] | None = None
    capacity: float | Numbers | None = None
    _resources: tuple[Tensor, Tensor] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (self.weights is None) != (self.capacity is None):
            raise UserError("Knapsack: give weights and capacity together, or neither and an instance")
        if self.weights is None:
            return
        try:
            weights, capacity = torch.tensor(self.weights), torch.tensor(self.capacity)
            weights, capacity = weights.reshape(-1, weights.shape[-1]), capacity.reshape(-1)
        except (ValueError, TypeError, IndexError, RuntimeError):
            raise UserError("Knapsack: weights are a list of numbers, or several of one length") from None
        if len(weights) != len(capacity):
            raise UserError(f"Knapsack: {len(weights)} lists of weights, but {len(capacity)} capacities")
        if any(not ((part >= 0) & part.isfinite()).all() for part in (weights, capacity)):
            raise UserError("Knapsack: weights and capacity are finite and not negative")
        object.__setattr__(self, "weights", _as_tuple(self.weights))  # a configuration has lists
        object.__setattr__(self, "capacity", _as_tuple(self.capacity))
        object.__setattr__(self, "_resources", (weights, capacity))

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        wide = ops.widen(theta)
        weights, capacity = self._problem(theta, instance)
        if weights.is_floating_point() or weights.shape[-2] > 1:
            return knapsack_highs(wide, weights.double(), capacity.double()).to(theta)
        if capacity.is_floating_point():
            capacity = capacity.floor()
        program = knapsack if ops.serves(wide) else knapsack_torch
        return program(wide, weights.squeeze(-2).long(), capacity.squeeze(-1).long()).to(theta)

    def project(self, theta: Tensor) -> Tensor:
        return normalise(theta, 1)

    def is_feasible(self, y: Tensor, instance: Any = None) -> Tensor:
        weights, capacity = (part.double() for part in self._problem(y, instance))
        load = (weights * y.unsqueeze(-2)).sum(-1)
        return ((y == 0) | (y == 1)).all(-1) & (load <= capacity + _TOLERANCE * capacity.clamp_min(1)).all(-1)

    def vertices(self, shape: Sequence[int], instance: Any = None) -> Tensor:
        subsets = torch.tensor(listed(itertools.product((0, 1), repeat=shape[0])), dtype=torch.get_default_dtype())
        return subsets[self.is_feasible(subsets, instance)]

    def _problem(self, theta: Tensor, instance: Any) -> tuple[Tensor, Tensor]:
        """Weights `[*leading, resources, items]` and capacities `[*leading, resources]`; shared ones without a copy."""
        if (self._resources is None) == (instance is None):
            raise UserError("Knapsack: give weights and capacity once, as options or as the instance")
        try:
            weights, capacity = (torch.as_tensor(part, device=theta.device) for part in self._resources or instance)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError("Knapsack: an instance is a pair of arrays, weights and capacity") from error
        try:
            wide = weights.expand(*theta.shape[:-1], weights.shape[-2], theta.shape[-1])
            return wide, capacity.expand(wide.shape[:-1])
        except (RuntimeError, IndexError):
            raise UserError(
                f"Knapsack: scores {list(theta.shape)} need weights [*leading, resources, {theta.shape[-1]}] and "
                f"capacity [*leading, resources], got {list(weights.shape)} and {list(capacity.shape)}"
            ) from None


@ops.operator
def knapsack(theta: Tensor, weights: Tensor, capacity: Tensor) -> Tensor:
    """`Knapsack` with one resource by the kernel: a dynamic program over capacities, a register of them at a time."""
    theta = theta.contiguous()
    if not theta.numel():
        return torch.empty_like(theta)
    weight, limit = unexpanded(weights, 1), unexpanded(capacity, 0)
    if _too_large(weight, limit):
        return knapsack_highs(theta, weights.unsqueeze(-2).double(), capacity.unsqueeze(-1).double())
    y, items = ops.empty_like(theta), theta.shape[-1]
    status = ops.call("knapsack", (theta, weight, limit, y), theta.numel() // items, items, len(weight), len(limit))
    if status:
        raise _negative(status // 8, theta.shape[:-1])
    return y


@ops.operator
def knapsack_torch(theta: Tensor, weights: Tensor, capacity: Tensor) -> Tensor:
    """`Knapsack` with one resource by the dynamic program of the kernel, on any device."""
    if not theta.numel():
        return torch.empty_like(theta)
    _require_positive(weights.unsqueeze(-2), capacity.unsqueeze(-1))
    if _too_large(weights, capacity):
        return knapsack_highs(theta, weights.unsqueeze(-2).double(), capacity.unsqueeze(-1).double())
    items = theta.shape[-1]
    left = torch.minimum(capacity, weights.sum(-1)).reshape(-1, 1)  # [batch, 1]
    cells = int(left.max()) + 1
    each = (items + 64) * cells
    (y,) = in_parts(_fill, each, theta.reshape(-1, items), weights.reshape(-1, items), left, cells)
    return y.reshape(theta.shape)


def _fill(scores: Tensor, weights: Tensor, left: Tensor, cells: int) -> tuple[Tensor]:
    """The choices of `[rows, items]` for capacities `[rows, 1]` below `cells`."""
    within = torch.arange(cells, device=scores.device)
    best, worth = scores.new_zeros(len(scores), cells), []
    for score, weight in zip(scores.flip(1).split(1, 1), weights.flip(1).split(1, 1), strict=True):
        rest = within - weight
        taken = best.gather(1, rest.clamp_min(0)) + score
        worth.append((score > 0) & (rest >= 0) & (taken >= best))
        best = torch.where(worth[-1], taken, best)
    chosen = []
    for weight in weights.split(1, 1):
        chosen.append(worth.pop().gather(1, left))
        left = left - chosen[-1] * weight
    return (torch.cat(chosen, 1).to(scores),)


@ops.operator
def knapsack_highs(theta: Tensor, weights: Tensor, capacity: Tensor) -> Tensor:
    """`Knapsack` as an integer program for HiGHS, through scipy."""
    _require_positive(weights, capacity)
    y = np.zeros((theta.shape[:-1].numel(), theta.shape[-1]))
    parts = [part.detach().cpu().double().numpy() for part in (theta, weights, capacity)]
    flat = [part.reshape(len(y), *part.shape[theta.ndim - 1 :]) for part in parts]
    for row, (score, weight, limit) in enumerate(zip(*flat, strict=True)):
        wanted = score > 0
        if not wanted.any():
            continue
        cost = -score[wanted] / score.max()
        fits = LinearConstraint(weight[:, wanted], ub=limit)
        result = milp(cost, integrality=np.ones_like(cost), bounds=(0, 1), constraints=fits, options={"mip_rel_gap": 0})
        if result.x is None:
            raise UserError(f"Knapsack: HiGHS found nothing for row {unravel(row, theta.shape[:-1])}: {result.message}")
        y[row, wanted] = result.x > 0.5
    return torch.from_numpy(y).reshape(theta.shape).to(theta)


def _too_large(weights: Tensor, capacity: Tensor) -> bool:
    if weights.shape[-1] * int(capacity.max()) <= _CELLS:
        return False
    return weights.shape[-1] * int(torch.minimum(capacity, weights.sum(-1)).max()) > _CELLS


def _require_positive(weights: Tensor, capacity: Tensor) -> None:
    light, room = ((part >= 0) & part.isfinite() for part in (weights, capacity))
    wrong = ~(light.flatten(-2).all(-1) & room.all(-1))
    if wrong.any():
        raise _negative(int(wrong.flatten().nonzero()[0]), wrong.shape)


def _negative(row: int, leading: torch.Size) -> UserError:
    where = unravel(row, leading)
    return UserError(f"Knapsack: row {where} has a weight or a capacity that is negative or not finite")


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, Sequence) else value
