"""Isotonic regression by pooling adjacent violators: linear memory, and the gradient of the blocks that were pooled.

`dbp.solvers.permutations.isotonic` is for relaxations inside a network: it never waits for the device and can be
traced, at the price of memory quadratic in the length.
"""

from collections.abc import Callable

import torch
from torch import Tensor

TIE = 1e-9  # blocks that are closer count as one, as in torchsort: it decides the gradient at a tie


def isotonic_l2(s: Tensor, w: Tensor) -> Tensor:
    """The falling sequence v that is nearest to `s - w`: over each block, the mean of `s - w`."""
    return _pool(lambda block: _mean(s - w, block), s)


def isotonic_kl(s: Tensor, w: Tensor) -> Tensor:
    """The falling sequence v that minimises `sum_i exp(s_i - v_i) + v_i exp(w_i)`.

    Over each block it is `log sum exp s - log sum exp w`.
    """
    return _pool(lambda block: _log_sum_exp(s, block) - _log_sum_exp(w, block), s)


def _pool(value: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """`value(block)` of the blocks in which it falls: neighbours that do not fall are merged until all do.

    Args:
        value: maps the number of each entry's block to the value of that block, the same at all of its entries.
        like: `[*leading, n]`.
    """
    with torch.no_grad():
        merged = torch.arange(like.shape[-1], device=like.device).expand(like.shape)
        block = torch.full_like(merged, -1)
        while not torch.equal(merged, block):
            block, v = merged, value(merged)
            merged = torch.cat([torch.zeros_like(block[..., :1]), v[..., :-1] - v[..., 1:] > TIE], -1).cumsum(-1)
    return value(block)  # differentiable: the blocks are constant almost everywhere


def _mean(x: Tensor, block: Tensor) -> Tensor:
    return _sum(x, block) / _sum(torch.ones_like(x), block)


def _log_sum_exp(x: Tensor, block: Tensor) -> Tensor:
    fixed = x.detach()
    largest = torch.full_like(fixed, -torch.inf).scatter_reduce(-1, block, fixed, "amax").gather(-1, block)
    return _sum((x - largest).exp(), block).log() + largest


def _sum(x: Tensor, block: Tensor) -> Tensor:
    """The sum of the block of each entry."""
    return torch.zeros_like(x).scatter_add(-1, block, x).gather(-1, block)
