"""Travelling salesman tours."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array, vstack
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.shapes import normalise
from dbp.solvers.highs import maximise
from dbp.solvers.instances import naming, require_whole
from dbp.solvers.listing import listed
from dbp.solvers.parts import in_parts
from dbp.solvers.workers import call_each

_EXACT = 13  # cities


@dataclass(frozen=True)
class Tour(Solver):
    """The best tour through all cities: `argmax <theta, y>` over the adjacency matrices y of tours.

    theta, minus the distances, is `[*leading, n, n]`; its diagonal is ignored. A tour has no direction unless
    `directed`: y then has a one at both (i, j) and (j, i), and only the sum of these two scores matters, so that theta
    need not be symmetric. Directed, y_ij = 1 where j comes after i.

    Up to 13 cities the answer is exact, by dynamic programming (Held and Karp, J. SIAM 10, 1962) in float64 for float64
    theta, else in float32; ties go to the first tour in lexicographic order, from city 0. Above, the kernel searches
    locally from a fixed seed, in float64: among random points in the plane it finds the best tour of 20 cities nearly
    always, and of 50 one that is 0.04 % longer on average. Without the kernel, tours of more than 13 cities are integer
    programs for HiGHS: exact, and hundreds of times slower.

    Args:
        directed: the direction of a tour matters.
        kicks: restarts of the local search from a disturbed tour; by default 4 for each city, 30 if directed.
    """

    binary = True
    event_dim = 2
    directed: bool = False
    kicks: int | None = None

    def __post_init__(self) -> None:
        require_whole(self, 0, "kicks")

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        n = theta.shape[-1]
        if theta.shape[-2] != n:
            raise UserError(f"Tour takes a square matrix of scores, got shape {list(theta.shape)}")
        wide = ops.widen(theta)
        if n > _EXACT:
            wide = wide.cpu()  # local search is not for a GPU
        if ops.serves(wide):
            kicks = (30 if self.directed else 4) * n if self.kicks is None else self.kicks
            return tour(wide, self.directed, kicks).to(theta)
        return (tour_torch if n <= _EXACT else tour_highs)(wide, self.directed).to(theta)

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        n = theta.shape[-1]
        edges = 1 - torch.eye(n, dtype=theta.dtype, device=theta.device)
        if not self.directed:
            theta = (theta + theta.mT) / 2
        mean = (theta * edges).sum((-1, -2), keepdim=True) / max(n * (n - 1), 1)
        return normalise((theta - mean) * edges, 2)

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        n = y.shape[-1]
        degree = min(n - 1, 1 if self.directed else 2)
        fair = ((y == 0) | (y == 1)).flatten(-2).all(-1) & ~y.diagonal(dim1=-2, dim2=-1).any(-1)
        fair &= (y.sum(-1) == degree).all(-1) & (y.sum(-2) == degree).all(-1)
        if not self.directed:
            fair &= (y == y.mT).flatten(-2).all(-1)
        reach = (y != 0).float() + torch.eye(n, device=y.device)
        for _ in range(n.bit_length()):
            reach = (reach @ reach).clamp_max(1)
        return fair & (reach > 0).flatten(-2).all(-1)

    def vertices(self, shape: Sequence[int], instance: Instance = None) -> Tensor:
        n = shape[-1]
        rest = [p for p in listed(itertools.permutations(range(1, n))) if self.directed or n < 3 or p[0] < p[-1]]
        cities = torch.tensor([(0, *p) for p in rest], dtype=torch.int64).reshape(len(rest), n)
        return _adjacency(cities, self.directed).to(torch.get_default_dtype())


@ops.operator
def tour(theta: Tensor, directed: bool, kicks: int) -> Tensor:
    """`Tour` by the kernel: dynamic programming up to 13 cities, local search with kicks above."""
    theta = theta.contiguous()
    y = ops.empty_like(theta)
    if theta.numel():
        n = theta.shape[-1]
        status = ops.call("tour", (theta, y), theta.numel() // n**2, n, int(directed), kicks)
        if status:
            raise _not_finite(status // 8, theta.shape[:-2])
    return y


@ops.operator
def tour_torch(theta: Tensor, directed: bool) -> Tensor:
    """`Tour` by the dynamic program of the kernel, on any device."""
    if not theta.numel():
        return torch.empty_like(theta)
    n = theta.shape[-1]
    (y,) = in_parts(_held_karp, 8 * n * 2**n, theta.reshape(-1, n, n), directed)
    return y.reshape(theta.shape)


def _held_karp(theta: Tensor, directed: bool) -> tuple[Tensor]:
    """The tours of `[rows, n, n]`.

    `left[:, S, j]` is the shortest way from city j + 1 through the set S of cities and back to city 0.
    """
    d, n = _distances(theta, directed), theta.shape[-1]
    m, inner = n - 1, d[:, 1:, 1:]
    members = torch.arange(2**m, device=theta.device)[:, None] >> torch.arange(m, device=theta.device) & 1
    left = d[:, None, 1:, 0].repeat(1, len(members), 1)  # [batch, sets, cities]
    by_size = members.sum(1).argsort(stable=True).split([math.comb(m, size) for size in range(m + 1)])
    for size in range(1, m):
        sets = by_size[size]
        cities = members[sets].argsort(dim=1, descending=True, stable=True)[:, :size]  # [sets, size]
        rest = left[:, sets[:, None] - (1 << cities), cities]
        left[:, sets] = (inner[:, :, cities].movedim(1, -1) + rest.unsqueeze(-1)).amin(2)
    order = torch.zeros(len(d), n, dtype=torch.int64, device=theta.device)
    here, open_ = order[:, :1], torch.full_like(order[:, :1], 2**m - 1)
    for step in range(1, n):
        bit = 1 << torch.arange(m, device=theta.device)
        ways = d[:, :, 1:].gather(1, here[..., None].expand(-1, -1, m))[:, 0]
        ways = ways + left.gather(1, (open_ & ~bit)[:, None])[:, 0]
        chosen = ways.masked_fill(open_ & bit == 0, torch.inf).argmin(-1, keepdim=True)
        here, open_ = chosen + 1, open_ & ~bit[chosen]
        order[:, step : step + 1] = here
    return (_adjacency(order, directed).to(theta),)


@ops.operator
def tour_highs(theta: Tensor, directed: bool) -> Tensor:
    """`Tour` as an integer program for HiGHS, through scipy: degrees, and cuts for the parts that solutions fall into.

    Source: Dantzig, Fulkerson, Johnson, "Solution of a large-scale traveling-salesman problem", 1954.
    """
    if not theta.numel():
        return torch.empty_like(theta)
    n = theta.shape[-1]
    distances = _distances(theta, directed).detach().cpu().double().numpy().reshape(-1, n, n)
    if not np.isfinite(distances).all():
        raise _not_finite(int(np.nonzero(~np.isfinite(distances))[0][0]), theta.shape[:-2])
    y = np.zeros_like(distances)
    if n > 1:
        calls = [(d, directed, out) for d, out in zip(distances, y, strict=True)]
        call_each(_branch_and_cut, calls, naming("Tour", theta.shape[:-2]))
    return torch.from_numpy(y).reshape(theta.shape).to(theta)


def _branch_and_cut(d: np.ndarray, directed: bool, y: np.ndarray) -> None:
    n = len(d)
    tails, heads = np.nonzero(~np.eye(n, dtype=bool)) if directed else np.triu_indices(n, 1)
    if n == 2 or (n == 3 and not directed):
        y[tails, heads] = y[heads, tails] = 1
        return
    edges, ones = np.arange(len(tails)), np.ones(len(tails))
    leaves, enters = (coo_array((ones, (ends, edges)), shape=(n, len(tails))) for ends in (tails, heads))
    degrees = vstack([leaves, enters]) if directed else leaves + enters
    degree = np.full(degrees.shape[0], 1.0 if directed else 2.0)
    cuts, most = csr_array((0, len(tails))), np.zeros(0)
    while True:
        taken = maximise(-d[tails, heads], cuts, most, degrees, degree, 0 * ones, ones, ones) > 0.5
        graph = csr_array((ones[taken], (tails[taken], heads[taken])), shape=(n, n))
        parts, part = connected_components(graph, directed=False)
        if parts == 1:
            break
        inside = [(part[tails] == which) & (part[heads] == which) for which in range(parts)]
        cuts = vstack([cuts, csr_array(np.array(inside, dtype=float))])
        most = np.concatenate([most, np.bincount(part) - 1])
    y[tails[taken], heads[taken]] = 1
    if not directed:
        y[heads[taken], tails[taken]] = 1


def _distances(theta: Tensor, directed: bool) -> Tensor:
    return -theta if directed else -(theta + theta.mT)


def _adjacency(order: Tensor, directed: bool) -> Tensor:
    """The matrices of tours that are given as the order of the cities, `[tours, n]`."""
    n = order.shape[-1]
    y = torch.zeros(len(order), n, n, device=order.device)
    if n > 1:
        y[torch.arange(len(order), device=order.device)[:, None], order, order.roll(-1, 1)] = 1
    return y if directed else torch.maximum(y, y.mT)


def _not_finite(row: int, leading: torch.Size) -> UserError:
    return UserError(f"{naming('Tour', leading)(row)}: scores are NaN or infinite: they must be finite")
