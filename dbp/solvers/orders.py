"""Orders: ranks, sorted scores, the permutation that sorts. Equal scores keep the order of their indices."""

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dbp.core import Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.shapes import centre, normalise
from dbp.solvers.instances import require_whole
from dbp.solvers.listing import listed


@dataclass(frozen=True)
class Rank(Solver):
    """The rank of each score, 1 for the smallest: `argmax <theta, y>` over the permutations of 1..n of the last dim.

    Among equal scores the lower index has the lower rank. Metrics count from the largest: `Rank()(-x)` gives the best x
    rank 1, and its estimators the right sign, as the ranks are `argmin <x, y>` (Rolínek et al., "Optimizing rank-based
    metrics with blackbox differentiation", CVPR 2020). Ranks have theta's dtype: bfloat16 is exact up to 256 of them,
    float16 up to 2048.
    """

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        wide = ops.widen(theta)
        return (rank if ops.serves(wide) else rank_torch)(wide).to(theta)

    def project(self, theta: Tensor) -> Tensor:
        return normalise(centre(theta, 1), 1)

    def is_feasible(self, y: Tensor, instance: Any = None) -> Tensor:
        return (y.sort(-1).values == torch.arange(1, y.shape[-1] + 1, device=y.device)).all(-1)

    def vertices(self, shape: tuple[int, ...], instance: Any = None) -> Tensor:
        return 1.0 + torch.tensor(listed(itertools.permutations(range(*shape))))


@dataclass(frozen=True)
class Sort(Solver):
    """The scores of the last dim in order, the first k of them.

    Args:
        descending: the largest first.
        k: how many; null for all. The decision has k entries.

    Raises:
        UserError: k is not from 1 to the number of scores.
    """

    descending: bool = True
    k: int | None = None

    def __post_init__(self) -> None:
        require_whole(self, 1, "k")

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        if self.k is None:
            return theta.sort(-1, descending=self.descending).values
        if self.k > theta.shape[-1]:
            raise UserError(f"Sort: cannot take k={self.k} of {theta.shape[-1]} scores")
        return theta.topk(self.k, -1, largest=self.descending).values


@dataclass(frozen=True)
class Permutation(Solver):
    """The permutation matrix P that sorts: `(P @ theta)[i]` is the i-th score in order.

        argmax_P w' P theta over the permutation matrices,   w = n, ..., 1 (1, ..., n if ascending)

    Args:
        descending: the largest first.
    """

    binary = True
    descending: bool = True

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        order = theta.argsort(dim=-1, descending=self.descending, stable=True)
        if not theta.shape[-1]:
            return theta.new_zeros(*theta.shape, 0)
        return torch.nn.functional.one_hot(order, theta.shape[-1]).to(theta)

    def project(self, theta: Tensor) -> Tensor:
        return normalise(centre(theta, 1), 1)

    def is_feasible(self, y: Tensor, instance: Any = None) -> Tensor:
        marks = ((y == 0) | (y == 1)).all(-1).all(-1)
        return marks & (y.sum(-1) == 1).all(-1) & (y.sum(-2) == 1).all(-1)

    def vertices(self, shape: tuple[int, ...], instance: Any = None) -> Tensor:
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
