"""Estimators that tune their own parameters by the gradient of their variance."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dbp.errors import Unsupported, UserError
from dbp.gradients.rules import only_gradient


def copies(module: nn.Module) -> dict[str, Tensor]:
    """The module's parameters, for one decision alone: the gradient of its variance stops there.

    Behind the decision may be others of the same estimator, whose losses have a gradient for the parameters themselves.
    """
    return {name: p.detach().requires_grad_(p.requires_grad) for name, p in module.named_parameters()}


def end(theta: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """A copy of theta at which gradients end, and the function that the surrogate calls.

    Raises:
        UserError: in the backward pass, if a gradient comes before that function was called: the losses never saw the
            surrogate.
    """
    leaf = theta.detach().requires_grad_()
    seen: list[bool] = []

    def check(grad: Tensor) -> None:
        if not seen:
            raise UserError(
                "the gradient of this estimator passes through the losses: "
                "use draw = layer.draw(theta), then draw.surrogate(losses).mean()"
            )

    leaf.register_hook(check)
    return leaf, lambda: seen.append(True)


def tuning(module: nn.Module, square: Tensor, own: dict[str, Tensor]) -> Tensor:
    """Zero in value; its gradient trains the module's parameters to minimise the estimate's mean square.

    The mean of the estimate does not depend on them.

    Args:
        module: the estimator.
        square: the mean square, a function of the copies.
        own: the `copies` of the module's parameters.
    """
    names = [name for name, p in own.items() if p.requires_grad]
    leaves = [own[name] for name in names]
    try:
        slopes = torch.autograd.grad(square, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
    except RuntimeError as error:
        if "double backward" not in str(error):
            raise
        raise Unsupported(
            f"{type(module).__name__}: the networks behind the decision are compiled, and have no second derivative: "
            "leave those uncompiled, or take relax with black_box"
        ) from error
    pairs = zip(map(module.get_parameter, names), slopes, strict=True)
    return torch.stack([only_gradient((p * slope).sum()) for p, slope in pairs]).sum()
