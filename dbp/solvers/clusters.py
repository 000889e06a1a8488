"""Clusters: k centres for n points."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.solvers.instances import require_whole
from dbp.solvers.parts import in_parts


@dataclass(frozen=True)
class KMeans(Solver):
    """Lloyd's algorithm: k centres, each the mean of the points that are nearest to it.

        z of [*leading, n, d]  ->  centres of [*leading, k, d]

    Deterministic: it starts with the point nearest to the mean and adds the point farthest from all chosen so far; ties
    go to the lowest index. A centre without points moves to the point farthest from its own centre, so that a cluster
    is empty only if there are fewer than k distinct points. Distances are in float64. The relaxation is one soft step
    from the solution, weights softmax(-|z_i - c_j|^2 / temperature) over j.

    Args:
        k: how many centres, from 1 to the number of points.
        assign: return each point's cluster instead of the centres: 0/1 memberships of `[*leading, n, k]`.
        iterations: the most steps; it stops earlier when no instance changes.

    Raises:
        UserError: there are fewer than k points, or centres are wanted of integers.

    Source: Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28, 1982; the start:
    Gonzalez, "Clustering to minimize the maximum intercluster distance", Theoretical Computer Science 38, 1985.
    """

    linear = False
    event_dim = 2
    k: int
    assign: bool = False
    iterations: int = 100

    def __post_init__(self) -> None:
        require_whole(self, 1, "k", "iterations")

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        if not (self.assign or theta.is_floating_point()):
            raise UserError(f"KMeans: the mean of points of {theta.dtype} is no integer; give it points.float()")
        leading, (n, d) = theta.shape[:-2], theta.shape[-2:]
        if ops.traced(theta):
            return self._solve(theta)[0]
        (y,) = in_parts(self._solve, 32 * n * (d + self.k), theta.reshape(leading.numel(), n, d))
        return y.reshape(*leading, *y.shape[1:])

    def _solve(self, theta: Tensor) -> tuple[Tensor]:
        z = theta.double()
        centres = self._centres(z)
        return ((_members(_distances(z, centres)) if self.assign else centres).to(theta),)

    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0, instance: Instance = None) -> Tensor:
        with torch.no_grad():
            centres = self._centres(theta.double()).to(theta)
        squares = (theta.unsqueeze(-2) - centres.unsqueeze(-3)).square().sum(-1)  # [*leading, n, k]
        weights = (-squares / temperature).softmax(-1)
        if self.assign:
            return weights
        total = weights.sum(-2).unsqueeze(-1).clamp_min(torch.finfo(theta.dtype).tiny)
        return weights.transpose(-1, -2) @ theta / total

    def _centres(self, z: Tensor) -> Tensor:
        if z.shape[-2] < self.k:
            raise UserError(f"KMeans: cannot make k={self.k} clusters of {z.shape[-2]} points")
        return lloyd(_spread(z, self.k), z, self.iterations)


def _spread(z: Tensor, k: int) -> Tensor:
    """The point nearest to the mean, then k - 1 times the one farthest from all chosen: `[*leading, k, d]`."""
    index = _distances(z, z.mean(-2, keepdim=True)).argmin(-2, keepdim=True)  # [*leading, 1, 1]
    centres, gap = [_points(z, index)], z.new_full((*z.shape[:-1], 1), torch.inf)
    for _ in range(k - 1):
        gap = torch.minimum(gap, _distances(z, centres[-1]))
        centres.append(_points(z, gap.argmax(-2, keepdim=True)))
    return torch.cat(centres, -2)


def _points(z: Tensor, index: Tensor) -> Tensor:
    """The points of these indices, `[*leading, m, 1]`."""
    return z.gather(-2, index.expand(*index.shape[:-1], z.shape[-1]))


@ops.operator
def lloyd(centres: Tensor, z: Tensor, iterations: int) -> Tensor:
    """Lloyd's steps from given centres `[*leading, k, d]`, each row until nothing changes."""
    rows = z.shape[:-2].numel()
    result, points = centres.reshape(rows, *centres.shape[-2:]).clone(), z.reshape(rows, *z.shape[-2:])
    moving = torch.arange(rows, device=z.device)
    for _ in range(iterations):
        if not len(moving):
            break
        before, after = result[moving], _step(points[moving], result[moving])
        result[moving] = after
        moving = moving[(after != before).flatten(1).any(1)]
    return result.reshape(centres.shape)


def _step(z: Tensor, centres: Tensor) -> Tensor:
    distances = _distances(z, centres)
    members = _members(distances)
    count = members.sum(1).unsqueeze(-1)  # [rows, k, 1]
    means = members.transpose(1, 2) @ z / count.clamp_min(1)
    if (count > 0).all():
        return means
    order = distances.amin(-1).argsort(dim=1, descending=True, stable=True)  # the farthest point first
    turn = ((count == 0).cumsum(1) - 1).clamp_min(0)  # the first empty cluster takes the first of them
    far = _points(z, order.gather(1, turn[..., 0]).unsqueeze(-1))
    return torch.where(count > 0, means, far)


def _members(distances: Tensor) -> Tensor:
    return torch.zeros_like(distances).scatter(-1, distances.argmin(-1, keepdim=True), 1)


def _distances(z: Tensor, centres: Tensor) -> Tensor:
    """Euclidean, `[rows, n, k]`, from differences: equal points have equal distances."""
    return torch.cdist(z, centres, compute_mode="donot_use_mm_for_euclid_dist")
