"""Losses of a decision: linear in it, quadratic, and neither."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Loss(NamedTuple):
    """A function of flat decisions `[*leading, size]`, with a name.

    `right` are the scores, if there are any, by which the loss is `-<right, y>`: the regret, up to a constant.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    right: Tensor | None = None

    def of(self, y: Tensor, ndim: int) -> Tensor:
        """The losses of decisions whose last `ndim` dims are one joint decision."""
        return self.function(y.flatten(y.ndim - ndim) if ndim else y.unsqueeze(-1))


def standard_losses(size: int, seed: int = 0, right: Tensor | None = None) -> list[Loss]:
    """`<c, y>`, `|A y - b|^2 / size` and `<w, tanh(W y + v)>` of so many numbers: random, or c = -right."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    linear, matrix, offset = normal(size), normal(size, size), normal(size)
    if right is not None:
        linear = -right.flatten()
    hidden, shift, out = normal(16, size), normal(16), normal(16) / 2
    return [
        Loss("linear", lambda y: y @ linear.to(y), right),
        Loss("quadratic", lambda y: (y @ matrix.T.to(y) - offset.to(y)).square().sum(-1) / size),
        Loss("tanh", lambda y: (y @ hidden.T.to(y) + shift.to(y)).tanh() @ out.to(y)),
    ]


def joint_vertices(vertices: Tensor, leading: Sequence[int]) -> Tensor:
    """Every combination of decisions that share a loss: `[count, *event] -> [count^n, *leading, *event]`."""
    n = torch.Size(leading).numel()
    index = torch.cartesian_prod(*[torch.arange(len(vertices))] * n).reshape(-1, *leading)
    return vertices[index]
