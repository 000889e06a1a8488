"""Shortest paths."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.shapes import normalise
from dbp.solvers.grid import NEGATIVE, OUTSIDE, is_chordless, paths, shortest_path
from dbp.solvers.instances import naming, whole


@dataclass(frozen=True)
class GridPath(Solver):
    """The vertices on a shortest path through a grid, with a cost for each vertex.

        argmax <theta, y> over the 0/1 matrices y that mark a path without shortcuts from source to target

    theta = -cost is `[*leading, height, width]` and not positive; both ends count. Of several shortest paths it takes
    one with the fewest vertices, and of these, from the target back, always the lowest index (row by row). Distances
    are sums in float64 for float64 theta, else in float32. On the CPU a kernel sweeps over a register of instances at
    once; the torch twin is equal to it.

    An `instance` is a mapping of some of
        mask: `[*leading, height, width]`, true where a path may pass: obstacles, or the size of each instance;
        source, target: `[*leading, 2]`, row and column, instead of the options below.

    Args:
        neighbours: 8 with diagonals, or 4 without.
        source: row and column of the first vertex; negative ones count from the end.
        target: row and column of the last vertex.
        clip: takes positive scores as zero, as the published code does with costs that noise or a step of blackbox made
            negative; otherwise they are an error.

    Raises:
        UserError: a positive score, an end outside the grid, or no way from source to target; it names the row.
    """

    binary = True
    instance_keys = ("mask", "source", "target")
    neighbours: int = 8
    source: tuple[int, int] = (0, 0)
    target: tuple[int, int] = (-1, -1)
    clip: bool = False
    event_dim = 2

    @property
    def nonpositive(self) -> bool:  # type: ignore[override]
        return not self.clip

    def __post_init__(self) -> None:
        if self.neighbours not in (4, 8):
            raise UserError(f"GridPath: neighbours must be 4 or 8, got {self.neighbours}")
        if any(np.shape(end) != (2,) for end in (self.source, self.target)):
            raise UserError(f"GridPath: source and target are a row and a column, got {self.source} and {self.target}")
        whole((self.source, self.target), "GridPath: source and target", "cpu", bounds=None)

    def solve(self, theta: Tensor, instance: Instance) -> Tensor:
        arguments = self._arguments(theta.shape, theta.device, instance)
        return grid_path(ops.widen(theta), *arguments, self.neighbours, True, self.clip).to(theta)

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return normalise(theta, 2)

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        mask, source, target = self._arguments(y.shape, y.device, instance)
        allowed = torch.ones_like(y, dtype=torch.bool) if mask is None else mask
        ends = _ends(y, source, target)
        return ((y == 0) | (y == 1) & allowed).all(-1).all(-1) & is_chordless(y == 1, *ends, self.neighbours)

    def vertices(self, shape: tuple[int, ...], instance: Instance = None) -> Tensor:
        y = torch.zeros(shape)
        mask, source, target = self._arguments(y.shape, y.device, instance)
        open_ = torch.ones_like(y, dtype=torch.bool) if mask is None else mask
        start, end = _ends(y, source, target)
        return paths(open_, int(start), int(end), self.neighbours)

    def _arguments(
        self, shape: torch.Size, device: torch.device, instance: Instance
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        given = instance or {}
        mask = given.get("mask")
        if mask is not None:
            mask = _fits("mask", mask, shape, device).to(torch.bool)
        source = self._end(given.get("source"), self.source, (0, 0), shape, device)
        return mask, source, self._end(given.get("target"), self.target, (-1, -1), shape, device)

    def _end(
        self, given: Tensor | None, option: tuple[int, int], default: tuple[int, int], shape: torch.Size, device: Any
    ) -> Tensor | None:
        """The vertex of each row, -1 where it is outside of the grid; null for the kernel's default."""
        if given is None and option == default:
            return None
        size = torch.tensor(shape[-2:], device=device)
        if given is None:
            given = torch.tensor(option, device=device)
            given = torch.where(given < 0, given + size, given)
        given = whole(given, "GridPath: source and target", device, bounds=None)
        given = _fits("source and target", given, torch.Size((*shape[:-2], 2)), device)
        inside = ((given >= 0) & (given < size)).all(-1)
        return torch.where(inside, given[..., 0] * shape[-1] + given[..., 1], -1)


@ops.operator
def grid_path(
    theta: Tensor,
    mask: Tensor | None,
    source: Tensor | None,
    target: Tensor | None,
    neighbours: int,
    sweep: bool = True,
    clip: bool = False,
) -> Tensor:
    """`GridPath` of `[*leading, height, width]`, with the ends as `[*leading]` numbers of vertices.

    With `clip` positive scores are taken as zero. Without `sweep` the kernel is a scalar Dijkstra, which takes over
    anyway where sweeping takes long.
    """
    theta = theta.contiguous()
    y = ops.empty_like(theta)
    if not theta.numel():
        return _empty(y)
    if ops.serves(theta):
        tensors = (theta, mask, source, target, y)
        count = theta.shape[:-2].numel()
        status = ops.call("grid_path", tensors, count, *theta.shape[-2:], neighbours, sweep, clip)
    else:
        scores = theta.clamp_max(0) if clip else theta
        y, status = shortest_path(scores, mask, *_ends(theta, source, target), neighbours)
    if status:
        raise _failed(theta, *divmod(status, 8))
    return y


def _ends(theta: Tensor, source: Tensor | None, target: Tensor | None) -> tuple[Tensor, Tensor]:
    """The vertices from and to which paths go, with the defaults filled in."""
    leading, last = theta.shape[:-2], theta.shape[-2:].numel() - 1
    first = torch.zeros(leading, dtype=torch.int64, device=theta.device)
    return first if source is None else source, first + last if target is None else target


def _fits(what: str, given: Any, shape: torch.Size, device: torch.device) -> Tensor:
    try:
        tensor = torch.as_tensor(given, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"GridPath: {what} is no array of numbers: {error}") from error
    try:
        return tensor.expand(shape)
    except RuntimeError:
        raise UserError(f"GridPath: {what} of shape {list(tensor.shape)} does not fit {list(shape)}") from None


def _empty(y: Tensor) -> Tensor:
    if y.shape[:-2].numel():
        raise UserError(f"GridPath: a grid has at least one vertex, got shape {list(y.shape)}")
    return y


def _failed(theta: Tensor, row: int, code: int) -> UserError:
    where = naming("GridPath", theta.shape[:-2])(row)
    if code == NEGATIVE:
        return UserError(f"{where} has a positive score: scores are minus costs, theta <= 0; or take clip=True")
    if code == OUTSIDE:
        return UserError(f"{where}: source or target is outside of the {theta.shape[-2]} x {theta.shape[-1]} grid")
    return UserError(f"{where}: no path from source to target, which are blocked, cut off, or infinitely far apart")
