"""Checks of scores, instances and losses, and the precision in which estimators compute."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from dbp.errors import NonFinite, Unsupported, UserError
from dbp.native import loader
from dbp.native.ops import PLAIN
from dbp.native.torch_private import functorch_level
from dbp.shapes import sum_to

NEEDS = {  # of a solver, as estimators name it
    "linear": "maximises <theta, y>",
    "relax": "has a relaxation",
    "log_partition": "has a log-partition",
    "log_prob": "has a distribution in closed form",
    "conditional": "can draw its noise given its decision",
    "sample_gibbs": "draws from its Gibbs distribution",
    "lead": "knows its second best decision",
    "noise": "has a noise of its own",
    "vertices": "lists its decisions",
    "elementwise": "decides each score for itself",
    "binary": "decides by zeros and ones",
}
_AS_IT_IS = nullcontext()


def unsupported(solver: Any, what: str, estimator: Any = None) -> Unsupported:
    """The error that a solver does not offer `what`, with the names of the estimators that work for it."""
    from dbp.components import working  # classes are loaded for the message alone

    asks = f"{type(estimator).__name__} needs" if estimator is not None else "this takes"
    remedy = f"; {estimator.remedies[what]}" if estimator is not None and what in estimator.remedies else ""
    return Unsupported(
        f"{asks} a solver that {NEEDS[what]}, which {type(solver).__name__} does not claim; "
        f"estimators that work for it: {', '.join(working(solver))}{remedy}"
    )


def untaught(estimator: Any, solver: Any) -> Unsupported:
    """The error that a supervised estimator was given no target, with the names of those that work without."""
    from dbp.components import working

    return Unsupported(
        f"{type(estimator).__name__} learns from the right {estimator.supervised}, which this task does not give; "
        f"estimators that need no target: {', '.join(working(solver, supervised=False))}"
    )


def require_scores(theta: Tensor, event_dim: int, solver: Any) -> None:
    """Raises a `UserError` unless theta is a tensor of finite scores with at least `event_dim` dims."""
    if not isinstance(theta, Tensor):
        raise UserError(f"{type(solver).__name__} takes scores in a tensor, got {type(theta).__name__}")
    if theta.ndim < event_dim:
        raise UserError(
            f"{type(solver).__name__} takes scores of at least {event_dim} dims, got shape {list(theta.shape)}"
        )
    require_finite(theta, event_dim, type(solver).__name__)


def require_instance(instance: Any, keys: tuple[str, ...] | None, solver: Any) -> None:
    """Raises a `UserError` unless the instance is a mapping of these names (null: any) to what wants no gradient."""
    name = type(solver).__name__
    if keys == ():
        raise UserError(f"{name} takes no instance, got {_described(instance)}")
    if not isinstance(instance, Mapping) or (keys is not None and not set(instance) <= set(keys)):
        names = "names of its own" if keys is None else ", ".join(keys)
        raise UserError(f"{name} takes an instance {{name: tensor}} of {names}; got {_described(instance)}")
    for key, value in instance.items():
        if isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled():
            raise UserError(f"{name}: no gradient reaches the instance: give {key}.detach() ({key} requires one)")


def _described(instance: Any) -> str:
    return str(list(instance)) if isinstance(instance, Mapping) else type(instance).__name__


def losses_of(y: Tensor, losses: Tensor) -> Tensor:
    """The losses, if they are one for each decision.

    Raises:
        UserError: their shape is not that of leading dims of y.
    """
    if losses.shape != y.shape[: losses.ndim]:
        raise UserError(
            f"losses of shape {list(losses.shape)} do not match decisions of shape {list(y.shape)}: "
            "reduce them to one loss for each decision (leading dims of y), and take the mean afterwards"
        )
    return losses


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Turns autocast off if it is on: to enter a context takes as long as two small operations."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else _AS_IT_IS


def widened(theta: Tensor) -> Tensor:
    """Scores in float32 or more."""
    return theta if theta.dtype == torch.float32 else theta.to(torch.promote_types(theta.dtype, torch.float32))


def keeping_scalars(module: nn.Module, apply: Callable[[], Any]) -> Any:
    """Runs `apply`, which converts a module, and keeps scalar buffers in their precision.

    In a model of bfloat16 throughout, small steps of a temperature or a running mean would round to nothing.
    """
    scalars = {n: x for n, x in module.named_buffers(recurse=False) if x.is_floating_point() and not x.ndim}
    result = apply()
    for name, x in scalars.items():
        moved = module._buffers[name]
        if moved is not None and moved.dtype.itemsize < x.dtype.itemsize:
            module._buffers[name] = x.to(moved.device)
    return result


def dot(theta: Tensor, y: Tensor, event_dim: int) -> Tensor:
    """`<theta, y>` over the event dims."""
    require_scored(theta, y, event_dim)
    return sum_to(theta * y, theta.ndim - event_dim)


def require_scored(theta: Tensor, y: Tensor, event_dim: int) -> None:
    """Raises an `Unsupported` unless decisions have one entry for each score."""
    if theta.shape[theta.ndim - event_dim :] != y.shape[y.ndim - event_dim :] or y.ndim > theta.ndim:
        raise Unsupported(
            f"the decision has shape {list(y.shape)} for scores of shape {list(theta.shape)}: "
            "a decision that maximises <theta, y> has theta's shape"
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
    if not theta.is_cpu or torch.compiler.is_compiling() or functorch_level():
        return
    kernel = _finite_kernel(theta.dtype)  # a reduction by torch takes several times as long to start
    if kernel and theta.is_contiguous() and type(theta) in PLAIN:
        finite = bool(kernel(theta.data_ptr(), theta.numel()))
    else:
        finite = _is_finite(theta, what)
    if finite:
        return
    position = (~theta.isfinite()).nonzero()[0].tolist()
    row = position[: theta.ndim - event_dim]
    value = theta[tuple(position)].item()
    raise NonFinite(
        f"{what} was given a score of {value} at {position} (row {row or 0}): scores must be finite. "
        "Forbid items by a mask in the instance, or by -1e9, instead of -inf; "
        "a diverging encoder may need a lower learning rate or trainer.gradient_clip_val"
    )


def _is_finite(x: Tensor, what: str) -> bool:
    if x.layout != torch.strided or x.is_complex() or x.dtype == torch.bool:
        raise UserError(f"{what} takes scores that are real numbers in a dense tensor, got {x.dtype} and {x.layout}")
    return math.isfinite(x.sum().item()) or bool(x.isfinite().all())


@cache
def _finite_kernel(dtype: torch.dtype) -> Callable[..., int] | None:
    suffix = {torch.float32: "f32", torch.float64: "f64"}.get(dtype)
    return loader.function(f"dbp_finite_{suffix}", 1, 1) if suffix and loader.load()[0] else None
