"""What scores and losses must be: finite, one for each entry of a decision, one loss for each decision."""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from dbp.errors import NonFinite, Unsupported, UserError
from dbp.native import loader
from dbp.shapes import sum_to


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
