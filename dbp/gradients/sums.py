"""The sums of estimators, one pass each: by a kernel on the CPU, by torch elsewhere."""

import torch
from torch import Tensor

from dbp.native import ops
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
        rows = weight.numel()
        overflow = ops.call("own_gradient", (grad, weight, own), rows, own.numel() // rows)
        return own, weight + torch.nan if overflow else weight
    own = (grad / align(weight, grad.ndim)).nan_to_num_(0, 0, 0)
    return own, weight + 0 * grad.sum()


def weighted(x: Tensor, weight: Tensor, minus: Tensor | None = None, scale: float = 1.0) -> Tensor:
    """`scale weight (x - minus)`, for x and minus (null: zero) of `[*leading, *rest]` and weight of `[*leading]`."""
    if _fits(x, weight, minus):
        return _weighted(torch.empty(x.shape, dtype=x.dtype), 1, 1, x, weight, minus, scale)
    return scale * align(weight, x.ndim) * (x if minus is None else x - minus)


def weighted_sum(x: Tensor, weight: Tensor, minus: Tensor | None = None, scale: float = 1.0) -> Tensor:
    """`scale sum_s weight_s (x_s - minus_s)`, of `[*leading, *rest]`.

    Args:
        x: `[S, *leading, *rest]`.
        weight: `[S, *leading]`.
        minus: as x, or with a first dim of one; null for zero.
        scale: of the sum.
    """
    if _fits(x, weight, minus):
        few = 1 if minus is None else minus.shape[0]
        return _weighted(torch.empty(x.shape[1:], dtype=x.dtype), x.shape[0], few, x, weight, minus, scale)
    return scale * (align(weight, x.ndim) * (x if minus is None else x - minus)).sum(0)


def contrasts(x: Tensor, y: Tensor, leading: int, paired: bool = False) -> Tensor:
    """`(mean of the others' r - r_s) / S`, for `r_s = <x_s, y>`; the mean of no others is zero.

    Paired, `(r_t - r_s) / (2 S)`, where sample t is half of them on.

    Args:
        x: `[S, *batch, *rest]`, of y's dtype or int8.
        y: `[*batch, *rest]`.
        leading: the dims of S and batch.
    """
    samples, of_bytes = x.shape[0], x.dtype == torch.int8
    if _fits(y, None if of_bytes else x):
        out = torch.empty(x.shape[:leading], dtype=y.dtype)
        sizes = samples, out.numel() // samples, x.numel() // out.numel(), paired
        ops.call("contrasts_of_bytes" if of_bytes else "contrasts", (y, x, out), *sizes)
        return out
    r = sum_to(x * y, leading)
    if paired:
        return (r.roll(samples // 2, 0) - r) / (2 * samples)
    return (r.mean(0) - r) / (samples - 1) if samples > 1 else -r


def mean(x: Tensor, like: Tensor) -> Tensor:
    """The mean over the first dim of x, which has the dtype of `like`, or int8: in that dtype."""
    of_bytes = x.dtype == torch.int8
    if _fits(like, None if of_bytes else x):
        out = torch.empty(x.shape[1:], dtype=like.dtype)
        ops.call("mean_of_bytes" if of_bytes else "mean", (out, x), x.shape[0], out.numel())
        return out
    return x.sum(0, dtype=like.dtype) / x.shape[0]


def _weighted(
    out: Tensor, samples: int, few: int, x: Tensor, weight: Tensor, minus: Tensor | None, scale: float
) -> Tensor:
    rows = weight.numel() // samples
    ops.call("weighted_sum", (x, minus, weight, out), samples, few, rows, out.numel() // rows, scale=scale)
    return out


def _fits(x: Tensor, *others: Tensor | None) -> bool:
    if not ops.serves(x) or ops.traced(x) or not x.numel():
        return False
    for other in others:  # noqa: SIM110 (a generator takes longer)
        if other is not None and (other.dtype != x.dtype or type(other) not in ops.PLAIN):
            return False
    return True
