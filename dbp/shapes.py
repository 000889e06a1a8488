"""Shape arithmetic on `[*samples, *batch, *event]` tensors."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from dbp.errors import NonFinite, Unsupported, UserError
from dbp.native import loader


def sum_to(x: Tensor, ndim: int) -> Tensor:
    """Sums trailing dims until `ndim` are left."""
    return x.flatten(ndim).sum(-1) if x.ndim > ndim else x


def mean_to(x: Tensor, ndim: int) -> Tensor:
    """The mean over leading dims, those of samples, until `ndim` are left."""
    return x.mean(tuple(range(x.ndim - ndim))) if x.ndim > ndim else x


def align(x: Tensor, ndim: int) -> Tensor:
    """Appends dims of size one until there are `ndim`."""
    return x.reshape(x.shape + (1,) * (ndim - x.ndim))


def dot(theta: Tensor, y: Tensor, event_dim: int) -> Tensor:
    """`<theta, y>` over the event dims."""
    require_scored(theta, y, event_dim)
    return sum_to(theta * y, theta.ndim - event_dim)


def require_scored(theta: Tensor, y: Tensor, event_dim: int) -> None:
    """Raises an `Unsupported` if decisions have not one score for each entry: their solver is no linear one."""
    if theta.shape[theta.ndim - event_dim :] != y.shape[y.ndim - event_dim :] or y.ndim > theta.ndim:
        raise Unsupported(
            f"the decision has shape {list(y.shape)} for scores of shape {list(theta.shape)}: this estimator needs a "
            "solver that maximises <theta, y>; for others: dab, perturbed or score"
        )


def leave_one_out(x: Tensor) -> Tensor:
    """For each sample (the first dim), the mean of the others; zero for a single sample."""
    require_apart(x)
    return (x.sum(0, keepdim=True) - x) / max(len(x) - 1, 1)


def require_apart(losses: Tensor) -> None:
    """Raises a `UserError` if losses that are compared along their first dim have been added up to one number."""
    if not losses.ndim:
        raise UserError(
            "this estimator compares the losses of several decisions, and was given one number: reduce them to one "
            "loss for each decision (leading dims of y), and take the mean afterwards"
        )


def centre(x: Tensor, event_dim: int) -> Tensor:
    """Subtracts the mean over the event dims: a shift-invariant solver ignores it."""
    return x - x.mean(_event_dims(event_dim), keepdim=True) if event_dim else x


def normalise(x: Tensor, event_dim: int) -> Tensor:
    """Divides by the Euclidean norm over the event dims: a scale-invariant solver ignores it. Zero stays zero."""
    if not event_dim:
        return x
    norm = torch.linalg.vector_norm(x, dim=_event_dims(event_dim), keepdim=True)
    return x / torch.where(norm > 0, norm, 1)


def over_leading(function: Callable[..., Tensor], x: Tensor, event_dim: int, *args: Any) -> Tensor:
    """Applies a function of `[batch, *event]` to `[*leading, *event]`; the output's event dims are its own."""
    leading = x.shape[: x.ndim - event_dim]
    out = function(x.reshape(-1, *x.shape[x.ndim - event_dim :]), *args)
    return out.reshape(*leading, *out.shape[1:])


def unravel(row: int, leading: torch.Size) -> list[int] | int:
    """The position of the row-th input in the leading dims; 0 where there are none."""
    return [int(i) for i in torch.unravel_index(torch.tensor(row), leading)] if leading else 0


def require_finite(theta: Tensor, event_dim: int, what: str) -> None:
    """Raises a `NonFinite` that names the first row with a NaN or infinite score.

    One reduction when all is well. Skipped where looking would synchronise or trace (CUDA, torch.compile, vmap).
    """
    if not theta.is_cpu or torch.compiler.is_compiling() or torch._C._functorch.maybe_current_level():
        return
    if _is_finite(theta, what):
        return
    position = (~theta.isfinite()).nonzero()[0].tolist()
    row = position[: theta.ndim - event_dim]
    value = theta[tuple(position)].item()
    raise NonFinite(
        f"{what} was given a score of {value} at {position} (row {row or 0}): scores must be finite. "
        "Look for a diverging encoder: a lower learning rate or trainer.gradient_clip_val may help"
    )


def _is_finite(x: Tensor, what: str) -> bool:
    kernel = _finite_kernel(x.dtype)  # a reduction by torch takes several times as long to start
    if kernel and x.is_contiguous() and type(x) in (Tensor, torch.nn.Parameter):
        return bool(kernel(x.data_ptr(), x.numel()))
    if x.layout != torch.strided or x.is_complex() or x.dtype == torch.bool:
        raise UserError(f"{what} takes scores that are real numbers in a dense tensor, got {x.dtype} and {x.layout}")
    return math.isfinite(x.sum().item()) or bool(x.isfinite().all())


@cache
def _finite_kernel(dtype: torch.dtype) -> Callable[..., int] | None:
    suffix = {torch.float32: "f32", torch.float64: "f64"}.get(dtype)
    return loader.function(f"dbp_finite_{suffix}", 1, 1) if suffix and loader.load()[0] else None


def _event_dims(event_dim: int) -> tuple[int, ...]:
    return tuple(range(-event_dim, 0))


def unexpanded(x: Tensor, event_dim: int) -> Tensor:
    """`[problems, *event]`, contiguous: one problem if all inputs share it by `expand`, else as many as inputs."""
    leading = x.ndim - event_dim
    shared = all(size == 1 or stride == 0 for size, stride in zip(x.shape[:leading], x.stride()[:leading], strict=True))
    if shared:
        return x.as_strided((1, *x.shape[leading:]), (1, *x.stride()[leading:])).contiguous()
    return x.reshape(-1, *x.shape[leading:]).contiguous()
