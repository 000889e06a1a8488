"""Knapsacks: the most valuable items that fit."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.shapes import normalise, unexpanded
from dbp.solvers.highs import maximise
from dbp.solvers.instances import naming
from dbp.solvers.listing import listed
from dbp.solvers.parts import in_parts
from dbp.solvers.workers import call_each

_CELLS = 2**26  # of a table of the dynamic program; above, it is an integer program
_EXACT = 2.0**53  # up to which float64 has every whole number
_TOLERANCE = 1e-6  # of HiGHS

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Knapsack(Solver):
    """The best items that fit: `argmax <theta, y>` over 0/1 vectors y with `weights @ y <= capacity`.

    theta is `[*leading, items]`. Items whose score is not positive are never chosen. One resource with whole weights,
    in numbers of any dtype, is solved by dynamic programming, in float64 for float64 theta, else in float32; as far as
    its sums are exact, ties go to the lowest index: the first item is chosen if any best choice has it, then the
    second, and so on. Several resources, real weights and capacities beyond 2^26 / items are integer programs for
    HiGHS, one after the other.

    Args:
        weights: a number for each item, or for each resource as many; not negative.
        capacity: a number, or one for each resource. An instance may have others: tensors `weights` of `[*leading,
            resources, items]` and `capacity` of `[*leading, resources]`, which may broadcast.

    Raises:
        UserError: weights or a capacity that are not finite, or negative; it names the row.
    """

    binary = True
    instance_keys = ("weights", "capacity")
    weights: Numbers | tuple[Numbers, ...] | None = None
    capacity: float | Numbers | None = None
    _own: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (self.weights is None) != (self.capacity is None):
            raise UserError("Knapsack: give weights and capacity together, or neither and an instance")
        if self.weights is None:
            return
        try:
            weights, capacity = (torch.tensor(x, dtype=torch.float64) for x in (self.weights, self.capacity))
            weights, capacity = weights.reshape(-1, weights.shape[-1]), capacity.reshape(-1)
        except (ValueError, TypeError, IndexError, RuntimeError):
            raise UserError("Knapsack: weights are a list of numbers, or several of one length") from None
        if len(weights) != len(capacity):
            raise UserError(f"Knapsack: {len(weights)} lists of weights, but {len(capacity)} capacities")
        if any(not ((part >= 0) & part.isfinite()).all() for part in (weights, capacity)):
            raise UserError("Knapsack: weights and capacity are finite and not negative")
        object.__setattr__(self, "weights", _as_tuple(self.weights))  # a configuration has lists
        object.__setattr__(self, "capacity", _as_tuple(self.capacity))
        if bool(_are_whole(weights)):  # decided here, by value: looking takes as long as a small problem
            weights, capacity = weights.long(), torch.minimum(capacity, weights.sum(-1)).long()
        object.__setattr__(self, "_own", {"weights": weights, "capacity": capacity})

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        wide = ops.widen(theta)
        weights, capacity = self._problem(theta, instance)
        if weights.is_floating_point() or capacity.is_floating_point() or weights.shape[-2] > 1:
            return knapsack_by_value(wide, weights.double(), capacity.double()).to(theta)
        program = knapsack if ops.serves(wide) else knapsack_torch
        return program(wide, weights.squeeze(-2).long(), capacity.squeeze(-1).long()).to(theta)

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return normalise(theta, 1)

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        weights, capacity = (part.double() for part in self._problem(y, instance))
        load = (weights * y.unsqueeze(-2)).sum(-1)
        return ((y == 0) | (y == 1)).all(-1) & (load <= capacity + _TOLERANCE * capacity.clamp_min(1)).all(-1)

    def vertices(self, shape: Sequence[int], instance: Instance = None) -> Tensor:
        subsets = torch.tensor(listed(itertools.product((0, 1), repeat=shape[0])), dtype=torch.get_default_dtype())
        return subsets[self.is_feasible(subsets, instance)]

    def _problem(self, theta: Tensor, instance: Any) -> tuple[Tensor, Tensor]:
        """Weights `[*leading, resources, items]` and capacities `[*leading, resources]`; shared ones without a copy."""
        given = self._own | dict(instance or {})
        if len(given) < 2:
            raise UserError("Knapsack has no weights or no capacity: give both, as options or in the instance")
        try:
            weights, capacity = (torch.as_tensor(given[name], device=theta.device) for name in ("weights", "capacity"))
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError("Knapsack: weights and capacity of an instance are arrays of numbers") from error
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
def knapsack_by_value(theta: Tensor, weights: Tensor, capacity: Tensor) -> Tensor:
    """`Knapsack` of any numbers, `[*leading, resources, items]`: rows of one resource with whole weights by a table."""
    _require_positive(weights, capacity)
    flat = _flat(theta, weights, capacity)
    whole = _are_whole(flat[1])
    y = torch.empty_like(flat[0])
    if whole.any():
        scores, weight, limit = (part[whole] for part in flat)
        weight, limit = weight[:, 0].long(), torch.minimum(limit, weight.sum(-1))[:, 0].long()
        y[whole] = (knapsack if ops.serves(scores) else knapsack_torch)(scores, weight, limit)
    if not whole.all():
        name = naming("Knapsack", theta.shape[:-1])
        at = (~whole).nonzero().flatten().tolist()
        scores, weight, limit = (part[~whole] for part in flat)
        y[~whole] = _highs(scores, weight, limit, lambda index: name(at[index]))
    return y.reshape(theta.shape)


@ops.operator
def knapsack_highs(theta: Tensor, weights: Tensor, capacity: Tensor) -> Tensor:
    """`Knapsack` as an integer program for HiGHS, through scipy."""
    _require_positive(weights, capacity)
    flat = _flat(theta, weights, capacity)
    return _highs(*flat, naming("Knapsack", theta.shape[:-1])).reshape(theta.shape)


def _flat(theta: Tensor, weights: Tensor, capacity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All leading dims as one, which may be empty."""
    rows, (resources, items) = theta.shape[:-1].numel(), weights.shape[-2:]
    return theta.reshape(rows, items), weights.reshape(rows, resources, items), capacity.reshape(rows, resources)


def _highs(theta: Tensor, weights: Tensor, capacity: Tensor, name: Callable[[int], str]) -> Tensor:
    parts = [part.detach().cpu().double().resolve_neg().numpy() for part in (theta, weights, capacity)]
    y = call_each(_program, list(zip(*parts, strict=True)), name)
    return torch.from_numpy(np.reshape(y, theta.shape)).to(theta)


def _program(score: np.ndarray, weight: np.ndarray, limit: np.ndarray) -> np.ndarray:
    y, wanted = np.zeros_like(score), score > 0
    if n := wanted.sum():
        nothing = np.zeros((0, n)), np.zeros(0)
        y[wanted] = maximise(score[wanted], weight[:, wanted], limit, *nothing, np.zeros(n), np.ones(n), np.ones(n))
    return y


def _are_whole(weights: Tensor) -> Tensor:
    """True for rows of one resource with whole weights, of `[*leading, resources, items]`."""
    whole = ((weights == weights.round()) & (weights < _EXACT)).flatten(-2).all(-1)
    return whole if weights.shape[-2] == 1 else torch.zeros_like(whole)


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
    return UserError(f"{naming('Knapsack', leading)(row)} has a weight or a capacity that is negative or not finite")


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, Sequence) else value
