"""The three ways a gradient gets past a solver: a path, a pullback, a score."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from dbp.core import Draw, without_autocast
from dbp.gradients.draws import Draws, Rows, cut
from dbp.gradients.sums import own_gradient, weighted, weighted_sum
from dbp.native.ops import traced
from dbp.scores import require_scored


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard`, bit for bit; the whole gradient goes to `soft`, which has its shape."""
    if hard.shape != soft.shape:
        raise ValueError(f"hard {list(hard.shape)} and soft {list(soft.shape)} must have one shape")
    return (_Transformed if traced(hard) else _StraightThrough).apply(hard, soft)


def only_gradient(x: Tensor) -> Tensor:
    """Zero, with the gradient of `x`."""
    return x - x.detach()


def pull_back(y: Tensor, theta: Tensor, pullback: Callable[[Tensor], Tensor]) -> Draw:
    """`y`, with `pullback` mapping the gradient of *each decision's own loss* to theta.

    The gradient that reaches a layer has been multiplied by whatever reduces and scales the losses: the mean over the
    batch, gradient accumulation, the fp16 loss scale. A pullback that is not linear in it, as `theta - lam * grad` is
    not, would change its meaning with each. The surrogate records that factor on the way back, which autograd visits
    first, and the pullback never sees it. Without the surrogate the factor is one: the published behaviour. The
    gradient that the pullback gets is a copy, in which it may write.

    A gradient that overflowed is passed on as NaN, so that a gradient scaler skips the step as it would anyway.

    Raises:
        Unsupported: y has another shape than theta, so it does not maximise `<theta, y>`.
    """
    one = Draws(theta.detach(), None, None)
    return pull_back_draws(y.clone(), theta, one, lambda grad, _: (pullback(grad), None))


@torch.compiler.disable  # traced, the factor below would be read while it is still empty
def pull_back_draws(
    y: Tensor,
    theta: Tensor,
    draws: Draws,
    pullback: Callable[[Tensor, Rows], tuple[Tensor, Tensor | None]],
    width: float = 1.0,
    seen: Callable[[], None] = lambda: None,
) -> Draw:
    """As `pull_back`, for the decisions y of each draw: of some rows at a time, added up.

    Args:
        y: becomes the draw's own. Who writes in it cannot go back.
        theta: without a dim for the samples.
        pullback: maps the own gradients of some rows to two tensors, whose difference is the gradient; null is zero.
        width: divides the sum of the differences.
        seen: called after all rows.
    """
    require_scored(theta, y if draws.samples is None else y[0], theta.ndim)
    factor: list[Tensor] = []

    def per_decision(grad: Tensor) -> Tensor:
        weight = factor.pop() if factor else grad.new_ones(())
        together = draws.samples is not None and weight.ndim == 0  # samples that share one loss

        def of_rows(rows: Rows) -> Tensor:
            own, share = own_gradient(cut(grad, rows), cut(weight, rows))
            more, less = pullback(own, rows)
            if draws.samples is None:
                return weighted(more, share, less, 1 / width)
            return weighted_sum(more, share.expand(len(more)) if together else share, less, 1 / width)

        total = draws.total(of_rows, whole=together)
        seen()
        return total

    return Draw(_PullBack.apply(y.detach(), theta, per_decision, True), lambda losses: _record(losses, factor))


@torch.compiler.disable
def linear_pull_back(y: Tensor, theta: Tensor, pullback: Callable[[Tensor], Tensor]) -> Tensor:
    """`y`, with a `pullback` that is linear, and so needs no surrogate: it maps the gradient that arrives to theta."""
    return _PullBack.apply(y.detach(), theta, pullback, False)


@torch.compiler.disable
def _record(losses: Tensor, factor: list[Tensor]) -> Tensor:
    output = losses.output_nr

    def note(grads: tuple[Tensor, ...]) -> None:
        factor[:] = [grads[output].detach()]

    if losses.grad_fn is not None:
        losses.grad_fn.register_prehook(note)  # a hook on the tensor takes twice as long, a Function four times
    return losses


class _StraightThrough(Function):
    @staticmethod
    def forward(ctx: Any, hard: Tensor, soft: Tensor) -> Tensor:
        return hard.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, grad


class _Transformed(_StraightThrough):
    """As vmap wants it; to be applied takes several times as long."""

    generate_vmap_rule = True

    @staticmethod
    def forward(hard: Tensor, soft: Tensor) -> Tensor:  # type: ignore[override]
        return hard.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass


class _PullBack(Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, theta: Tensor, pullback: Callable[[Tensor], Tensor], reads_y: bool) -> Tensor:
        ctx.pullback = pullback
        ctx.mark_dirty(y)  # so that it is returned as it is, not copied
        if reads_y:
            ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None, None]:
        # once_differentiable takes as long as two small operations; gradients are on if its caller wants a graph.
        return (once_differentiable(_pulled_back) if torch.is_grad_enabled() else _pulled_back)(ctx, grad)


def _pulled_back(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None, None]:
    _ = ctx.saved_tensors  # raises if y has been written into since
    with without_autocast(grad.device.type):  # as in the forward pass
        return None, ctx.pullback(grad), None, None
