"""Orders: the rank of each score, the sorted scores, the permutation that sorts them. Ties keep the order of indices."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dbp.core import Solver
from dbp.shapes import centre, normalise
from dbp.solvers import native


@dataclass(frozen=True)
class Rank(Solver):
    """The rank of each score, 1 for the smallest: `argmax <theta, y>` over the permutations of 1..n of the last dim.

    Among equal scores the lower index has the lower rank. Metrics count from the largest: `Rank()(-x)` gives the best x
    rank 1, and its estimators the right sign, as the ranks are `argmin <x, y>` (Rolínek et al., "Optimizing rank-based
    metrics with blackbox differentiation", CVPR 2020).
    """

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        wide = native.widen(theta)
        return (rank if native.serves(wide) else rank_torch)(wide).to(theta)

    def project(self, theta: Tensor) -> Tensor:
        return normalise(centre(theta, 1), 1)


@native.operator
def rank(theta: Tensor) -> Tensor:
    """`Rank` by the kernel: counting up to 256 scores, a radix sort above."""
    theta = theta.contiguous()
    y = torch.empty_like(theta)
    if theta.numel():
        native.call("rank", (theta, y), theta.numel() // theta.shape[-1], theta.shape[-1])
    return y


def rank_torch(theta: Tensor) -> Tensor:
    """`Rank` by one sort and a scatter, on any device."""
    order = theta.argsort(dim=-1, stable=True)
    positions = torch.arange(1, theta.shape[-1] + 1, dtype=theta.dtype, device=theta.device)
    return torch.empty_like(theta).scatter(-1, order, positions.expand_as(theta))
