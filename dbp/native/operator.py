"""Registers a kernel as a torch operator, so that torch.compile, torch.export and vmap pass through it."""

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from dbp.native import torch_private

F = TypeVar("F", bound=Callable[..., Any])
PLAIN = (Tensor, torch.nn.Parameter)  # tensor types whose memory holds their values


def operator(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Registers `function` as `torch.ops.dbp.<its name>`; a decorator.

    Its tensor arguments are `[*leading, *event]` with the same leading dims and any event dims of their own; the
    result is like the first of them. In plain eager mode the function is called directly: the dispatcher takes
    several times as long as a small problem.
    """
    registered = torch.library.custom_op(f"dbp::{function.__name__}", function, mutates_args=())
    registered.register_fake(lambda theta, *rest: torch.empty_like(theta, memory_format=torch.contiguous_format))

    def over_vmapped(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
        return registered(*[_lead(a, d, info.batch_size) for a, d in zip(args, in_dims, strict=True)]), 0

    registered.register_vmap(over_vmapped)
    overload = getattr(torch.ops.dbp, function.__name__).default

    def run(*args: Any) -> Tensor:
        return overload(*args) if traced(args[0]) else function(*args)

    return run


def _lead(argument: Any, dim: int | None, size: int) -> Any:
    if not isinstance(argument, Tensor):
        return argument
    return argument.expand(size, *argument.shape) if dim is None else argument.movedim(dim, 0)


def traced(theta: Tensor) -> bool:
    """Tells whether operations on a tensor are recorded or transformed: by torch.compile, export, vmap or a mode."""
    return (
        torch.compiler.is_dynamo_compiling()  # the next lines cover the other cases of is_compiling
        or type(theta) not in PLAIN
        or torch_private.functorch_level() is not None
        or torch_private.dispatch_modes() > 0
    )


def eager(function: F) -> F:
    """Excludes a function from tracing, as torch.compiler.disable does, without importing torch's compiler for it."""
    disabled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not disabled and "torch._dynamo" in sys.modules:
            disabled.append(torch.compiler.disable(function))
        return (disabled[0] if disabled else function)(*args, **kwargs)

    return run  # type: ignore[return-value]
