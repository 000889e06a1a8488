"""Orders: ranks, sorted scores, the permutation that sorts. Equal scores keep the order of their indices.

An `instance` is a mapping with a boolean `mask` that broadcasts to theta, true for entries that exist. A row may have
none.
"""

import itertools
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.shapes import standardise
from dbp.solvers import masks, permutations
from dbp.solvers.instances import require_whole
from dbp.solvers.listing import listed

Relaxation = Literal["permutahedron", "neural_sort", "soft_sort", "network"]


@dataclass(frozen=True)
class Rank(Solver):
    """The rank of each score, 1 for the smallest: `argmax <theta, y>` over the permutations of 1..n of the last dim.

    Among equal scores the lower index has the lower rank. Metrics count from the largest: `Rank()(-x)` gives the best x
    rank 1, and its estimators the right sign, as the ranks are `argmin <x, y>` (Rolínek et al., "Optimizing rank-based
    metrics with blackbox differentiation", CVPR 2020). Ranks have theta's dtype: bfloat16 is exact up to 256 of them,
    float16 up to 2048.

        permutahedron:  ranks = Proj(theta / temperature) onto the hull of the permutations of (1, ..., n)
        all others:     ranks = P' (n, ..., 1),   P the relaxation of `Permutation`

    The projection is exact, by isotonic regression in closed form, with n^2 memory. Source: Blondel, Teboul, Berthet,
    Djolonga, "Fast differentiable sorting and ranking", ICML 2020.

    With a mask the m existing entries have ranks 1..m, and masked ones have rank 0.

    Args:
        relaxation: the differentiable stand-in.
    """

    instance_keys = ("mask",)
    relaxation: Relaxation = "permutahedron"

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        if instance:
            mask = masks.of(self, theta, instance)
            return self.solve(masks.filled(ops.widen(theta), mask, torch.inf), None).masked_fill(~mask, 0).to(theta)
        wide = ops.widen(theta)
        return (rank if ops.serves(wide) else rank_torch)(wide).to(theta)

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return standardise(theta, 1, masks.of(self, theta, instance) if instance else None)

    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0, instance: Instance = None) -> Tensor:
        if instance:
            mask = masks.of(self, theta, instance)
            return masks.spread(masks.by_size(lambda x, _: self.relax(x, temperature), theta, mask, 1), mask)
        if self.relaxation == "permutahedron":
            return permutations.soft_rank(theta, temperature)
        p = permutations.MATRICES[self.relaxation](theta, temperature)
        return (p.mT @ permutations.falling(theta).unsqueeze(-1)).squeeze(-1)

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        if instance:
            mask = masks.of(self, y, instance)
            absent = (~mask).sum(-1, keepdim=True)  # as many zeros, which come first
            right = (torch.arange(1, y.shape[-1] + 1, device=y.device) - absent).clamp_min(0)
            return ((y.sort(-1).values == right) & (mask | (y == 0))).all(-1)
        return (y.sort(-1).values == torch.arange(1, y.shape[-1] + 1, device=y.device)).all(-1)

    def vertices(self, shape: tuple[int, ...], instance: Instance = None) -> Tensor:
        if instance:
            mask = masks.of(self, torch.zeros(shape), instance)
            ys = self.vertices((int(mask.sum()),))
            return torch.zeros(len(ys), *shape).masked_scatter(mask, ys)
        return 1.0 + torch.tensor(listed(itertools.permutations(range(*shape))))


@dataclass(frozen=True)
class Sort(Solver):
    """The scores of the last dim in order, the first k of them. Not linear: y_i is not theta_i's.

        permutahedron:  Proj(rho / temperature) onto the hull of the permutations of theta,   rho = (n, ..., 1)
        all others:     P theta,   P the relaxation of `Permutation`

    With a mask the existing scores come first, in order, and zeros fill the rest.

    Args:
        descending: the largest first.
        k: how many; null for all. The decision has k entries.
        relaxation: the differentiable stand-in; see `Rank` for the permutahedron's source.

    Raises:
        UserError: k is not from 1 to the number of scores.
    """

    linear = False
    instance_keys = ("mask",)
    descending: bool = True
    k: int | None = None
    relaxation: Relaxation = "permutahedron"

    def __post_init__(self) -> None:
        require_whole(self, 1, "k")

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        if instance:
            mask = masks.of(self, theta, instance)
            last = -torch.inf if self.descending else torch.inf
            values = self.solve(masks.filled(ops.widen(theta), mask, last), None)
            absent = torch.arange(values.shape[-1], device=theta.device) >= mask.sum(-1, keepdim=True)
            return values.masked_fill(absent, 0).to(theta)
        if self.k is None:
            return theta.sort(-1, descending=self.descending).values
        self._check(theta, self.k)
        return theta.topk(self.k, -1, largest=self.descending).values

    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0, instance: Instance = None) -> Tensor:
        if instance:
            mask, every = masks.of(self, theta, instance), replace(self, k=None)
            soft = masks.by_size(lambda x, _: every.relax(x, temperature), theta, mask, 1)
            return self._first(theta, soft)
        falling = theta if self.descending else -theta
        if self.relaxation == "permutahedron":
            soft = permutations.soft_sort(falling, temperature)
            soft = soft if self.descending else -soft
        else:
            p = permutations.MATRICES[self.relaxation](falling, temperature)
            soft = (p @ theta.unsqueeze(-1)).squeeze(-1)
        return self._first(theta, soft)

    def _first(self, theta: Tensor, soft: Tensor) -> Tensor:
        if self.k is None:
            return soft
        self._check(theta, self.k)
        return soft[..., : self.k]

    def _check(self, theta: Tensor, k: int) -> None:
        if k > theta.shape[-1]:
            raise UserError(f"Sort: cannot take k={k} of {theta.shape[-1]} scores")


@dataclass(frozen=True)
class Permutation(Solver):
    """The permutation matrix P that sorts: `(P @ theta)[i]` is the i-th score in order.

        argmax_P w' P theta over the permutation matrices,   w = n, ..., 1 (1, ..., n if ascending)

    y has another shape than theta, so that it is not linear in the sense of `Solver`. Relaxations, theta_(i) being the
    i-th largest score, or the i-th smallest if ascending:

        neural_sort:  P_i = softmax(((n + 1 - 2 i) theta - sum_j |theta - theta_j|) / temperature)
        soft_sort:    P_i = softmax(-|theta_(i) - theta| / temperature)
        network:      P = the product of the layers of an odd-even transposition network, which swap softly, by
                      arctan((a - b) / temperature) / pi + 1/2

    Source: Grover, Wang, Zweig, Ermon, "Stochastic optimization of sorting networks via continuous relaxations", ICLR
    2019; Prillo, Eisenschlos, "SoftSort", ICML 2020; Petersen, Borgelt, Kuehne, Deussen, "Monotonic differentiable
    sorting networks", ICLR 2022.

    With a mask, P has the existing entries in its first rows; the other rows, and the columns of masked entries, are
    zero.

    Args:
        descending: the largest first.
        relaxation: the differentiable stand-in.
    """

    linear = False
    binary = True
    instance_keys = ("mask",)
    descending: bool = True
    relaxation: Literal["neural_sort", "soft_sort", "network"] = "soft_sort"

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        if instance:
            mask = masks.of(self, theta, instance)
            last = -torch.inf if self.descending else torch.inf
            p = self.solve(masks.filled(ops.widen(theta), mask, last), None)
            return p.masked_fill(~mask.unsqueeze(-2), 0).to(theta)
        order = theta.argsort(dim=-1, descending=self.descending, stable=True)
        if not theta.shape[-1]:
            return theta.new_zeros(*theta.shape, 0)
        return torch.nn.functional.one_hot(order, theta.shape[-1]).to(theta)

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return standardise(theta, 1, masks.of(self, theta, instance) if instance else None)

    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0, instance: Instance = None) -> Tensor:
        if instance:
            mask = masks.of(self, theta, instance)
            return masks.spread(
                masks.by_size(lambda x, _: self.relax(x, temperature), theta, mask, 2), mask.unsqueeze(-2)
            )
        return permutations.MATRICES[self.relaxation](theta if self.descending else -theta, temperature)

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        marks = ((y == 0) | (y == 1)).all(-1).all(-1)
        if instance:
            mask = masks.of(self, y[..., 0, :], instance)
            first = torch.arange(y.shape[-1], device=y.device) < mask.sum(-1, keepdim=True)
            return marks & (y.sum(-1) == first).all(-1) & (y.sum(-2) == mask).all(-1)
        return marks & (y.sum(-1) == 1).all(-1) & (y.sum(-2) == 1).all(-1)

    def vertices(self, shape: tuple[int, ...], instance: Instance = None) -> Tensor:
        if instance:
            mask = masks.of(self, torch.zeros(shape), instance)
            ys = self.vertices((int(mask.sum()),))
            rows = torch.nn.functional.pad(ys, (0, shape[0] - ys.shape[-1], 0, shape[0] - ys.shape[-1]))
            return masks.spread(rows, mask)
        return torch.eye(*shape)[torch.tensor(listed(itertools.permutations(range(*shape))))]


@ops.operator
def rank(theta: Tensor) -> Tensor:
    """`Rank` by the kernel: counting up to 256 scores, a radix sort above."""
    theta = theta.contiguous()
    y = ops.empty_like(theta)
    ops.call("rank", (theta, y), theta.shape[:-1].numel(), theta.shape[-1])
    return y


def rank_torch(theta: Tensor) -> Tensor:
    """`Rank` by one sort and a scatter, on any device."""
    order = theta.argsort(dim=-1, stable=True)
    positions = torch.arange(1, theta.shape[-1] + 1, dtype=theta.dtype, device=theta.device)
    return torch.empty_like(theta).scatter(-1, order, positions.expand_as(theta))
