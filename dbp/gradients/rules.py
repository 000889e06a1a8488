"""Three gradient rules for a solver: a path, a pullback, a score."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from dbp.core import Draw
from dbp.errors import Unsupported, UserError
from dbp.gradients.perturbation import Perturbation, Rows, cut
from dbp.gradients.sums import own_gradient, weighted, weighted_sum
from dbp.native.ops import eager, traced
from dbp.native.torch_private import functorch_level
from dbp.scores import require_scored, without_autocast


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard`, bit for bit; the whole gradient goes to `soft`, which has its shape."""
    if hard.shape != soft.shape:
        raise UserError(f"hard {list(hard.shape)} and soft {list(soft.shape)} must have one shape")
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
    one = Perturbation(theta.detach(), None, None)
    return pull_back_samples(y.clone(), theta, one, lambda grad, leading, rows: (pullback(grad), None))


Pullback = Callable[[Tensor, int | None, Rows], tuple[Tensor, Tensor | None]]


@eager  # traced, the factor below would be read while it is still empty
def pull_back_samples(
    y: Tensor,
    theta: Tensor,
    noisy: Perturbation,
    pullback: Pullback,
    width: float = 1.0,
    seen: Callable[[int | None], None] = lambda leading: None,
) -> Draw:
    """As `pull_back`, for the decisions y of each sample: for some rows of the samples at a time, added up.

    Args:
        y: becomes the draw's own; whoever writes in it loses the backward pass.
        theta: without a dim for the samples.
        noisy: the perturbed scores.
        pullback: maps the own gradients of some rows, which it may overwrite, the number of dims of the losses (null
            without a surrogate) and the rows to two tensors, whose difference over `width` is the gradient; the second
            may be null, for zero.
        width: divides the differences.
        seen: called with the number of dims of the losses after all rows.
    """
    require_scored(theta, y if noisy.samples is None else y[0], theta.ndim)
    factors: dict[object, Tensor] = {}

    def per_decision(grad: Tensor) -> Tensor:
        applied = bool(factors)
        weight = _factor(factors, grad)
        leading = weight.ndim if applied else None
        together = noisy.samples is not None and weight.ndim == 0  # samples that share one loss

        def of_rows(rows: Rows) -> Tensor:
            own, share = own_gradient(cut(grad, rows), cut(weight, rows))
            more, less = pullback(own, leading, rows)
            if noisy.samples is None:
                return weighted(more, share, less, 1 / width)
            return weighted_sum(more, share.expand(len(more)) if together else share, less, 1 / width)

        total = noisy.total(of_rows, whole=together)
        seen(leading)
        return total

    return Draw(_pulled(y, theta, per_decision, True), lambda losses: _record(losses, factors))


def _factor(factors: dict[object, Tensor], grad: Tensor) -> Tensor:
    """The factor that multiplied every loss, one if no surrogate was applied."""
    if not factors:
        return grad.new_ones(())
    _, factor = factors.popitem()
    while factors:
        _, other = factors.popitem()
        if other.shape != factor.shape or not torch.equal(other, factor):
            raise UserError(
                "the surrogate of one draw was applied to losses with different weights, so that the gradient of a "
                "decision's own loss is unknown: add the weighted losses, and apply the surrogate to their sum"
            )
    return factor


@eager
def linear_pull_back(y: Tensor, theta: Tensor, pullback: Callable[[Tensor], Tensor]) -> Tensor:
    """`y`, with a `pullback` that is linear, and so needs no surrogate: it maps the gradient that arrives to theta."""
    return _pulled(y, theta, pullback, False)


def _pulled(y: Tensor, theta: Tensor, pullback: Callable[[Tensor], Tensor], reads_y: bool) -> Tensor:
    rule = _PullBack if functorch_level() is None else _PullBackWithin
    return rule.apply(y.detach(), theta, pullback, reads_y)


@eager
def _record(losses: Tensor, factors: dict[object, Tensor]) -> Tensor:
    output, application = losses.output_nr, object()

    def note(grad: Tensor) -> None:
        factors[application] = grad.detach()

    if functorch_level() is not None:
        return _Recorded.apply(losses, note)  # hooks do not work within torch.func
    if losses.grad_fn is not None:  # a hook on the tensor takes twice as long, a Function four times
        losses.grad_fn.register_prehook(lambda grads: note(grads[output]))
    return losses


_NO_FORWARD_MODE = "estimators define backward passes only: use torch.func.grad or vjp instead of jvp or jacfwd"


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

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise Unsupported(_NO_FORWARD_MODE)


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


class _PullBackWithin(Function):
    """The same within torch.func's grad; vmap would have to see through `pullback`."""

    @staticmethod
    def forward(y: Tensor, theta: Tensor, pullback: Callable[[Tensor], Tensor], reads_y: bool) -> Tensor:
        return y.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.pullback = inputs[2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None, None]:
        return None, ctx.pullback(grad), None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        raise Unsupported(
            "this estimator's backward pass calls the solver, which torch.func.vmap cannot see through: "
            "call the layer on the whole batch, it takes any leading dims"
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise Unsupported(_NO_FORWARD_MODE)


class _Recorded(Function):
    @staticmethod
    def forward(losses: Tensor, note: Callable[[Tensor], None]) -> Tensor:
        return losses.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.note = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ctx.note(grad)
        return grad, None
