"""What backward passes sum, in one pass each: by a kernel on the CPU, by torch elsewhere."""

import torch
from torch import Tensor

from dbp import native
from dbp.shapes import align, sum_to


def own_gradient(grad: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of each decision's own loss, `own = grad / weight`, and the weight that it is to get back.

    Args:
        grad: `[*leading, *rest]`.
        weight: `[*leading]`, the derivative in each loss.

    Returns:
        The quotient, zero where it is not finite (0 / 0 is 0); and the weight, NaN if any gradient is not finite.
    """
    if _fits(grad, weight):
        grad, own = grad.contiguous(), torch.empty_like(grad, memory_format=torch.contiguous_format)
        overflow = native.call("own_gradient", (grad, weight, own), weight.numel(), _size(grad, weight))
        return own, weight + torch.nan if overflow else weight
    own = (grad / align(weight, grad.ndim)).nan_to_num_(0, 0, 0)
    return own, weight + 0 * grad.sum()


def weighted_sum(x: Tensor, weight: Tensor) -> Tensor:
    """`sum_s weight_s x_s`, `[*leading, *rest]`, for x of `[S, *leading, *rest]` and weight of `[S, *leading]`."""
    if _fits(x, weight):
        out = torch.empty(x.shape[1:], dtype=x.dtype)
        native.call("weighted_sum", (x, weight, out), len(x), weight[0].numel(), _size(x, weight))
        return out
    return (align(weight, x.ndim) * x).sum(0)


def inner(x: Tensor, y: Tensor, leading: int) -> Tensor:
    """`<x_s, y>` over all but `leading` dims, for x of `[S, *batch, *rest]` and y of `[*batch, *rest]`."""
    if _fits(x, y):
        out = torch.empty(x.shape[:leading], dtype=x.dtype)
        native.call("inner", (x, y, out), len(x), out[0].numel(), _size(x, out))
        return out
    return sum_to(x * y, leading)


def _fits(x: Tensor, other: Tensor) -> bool:
    plain = not native.traced(x) and not native.traced(other)
    return plain and native.serves(x) and x.dtype == other.dtype and x.numel() > 0


def _size(x: Tensor, outer: Tensor) -> int:
    return x.numel() // outer.numel()
