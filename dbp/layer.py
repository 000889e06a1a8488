"""A discrete layer for any PyTorch model, with or without Lightning."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dbp.components import build
from dbp.core import Draw, Estimator, Instance, Solver, Target
from dbp.errors import UserError


class Layer(nn.Module):
    """A solver with an estimator for its gradient, as a module: `y = layer(theta)`.

    Estimators whose gradient passes through the losses (score) need `draw`, which all others may use too:

        draw = layer.draw(theta)
        loss = draw.surrogate(losses_of(draw.y)).mean()

    Through the surrogate, too, lam of `blackbox` and `imle` does not depend on the batch size; without it, it is in
    units of whatever gradient arrives, as in the papers' code.

    Args:
        solver: the forward pass; an object, or a name or `{name: ..., option: ...}` as in a configuration.
        estimator: the backward pass, likewise; in eval mode it is not used.

    Raises:
        UserError: one of them is no solver or estimator.
    """

    __call__: Callable[..., Tensor]  # torch says Any

    def __init__(
        self, solver: Solver | str | Mapping[str, Any], estimator: Estimator | str | Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.solver = _component("solver", Solver, solver)
        self.estimator = _component("estimator", Estimator, estimator)

    def forward(self, theta: Tensor, instance: Instance = None, target: Target = Target()) -> Tensor:
        """The decision y of `[*samples, *batch, *event]`.

        Raises:
            UserError: theta wants a gradient that this estimator gives through the losses only.
        """
        y = self.draw(theta, instance, target).y
        if self.training and theta.requires_grad and torch.is_grad_enabled() and not y.requires_grad:
            raise UserError(
                f"the gradient of {type(self.estimator).__name__} passes through the losses: "
                "use draw = layer.draw(theta), then draw.surrogate(losses).mean()"
            )
        return y

    def draw(self, theta: Tensor, instance: Instance = None, target: Target = Target()) -> Draw:
        """The decision with the surrogate for its losses."""
        return self.estimator(self.solver, theta, instance, target)

    def extra_repr(self) -> str:
        return f"solver={self.solver}"


def _component(kind: str, base: type, given: Any) -> Any:
    built = build(kind, given) if isinstance(given, str | Mapping) else given
    if not isinstance(built, base):
        got = f"the class {built.__name__}: call it" if isinstance(built, type) else type(built).__name__
        raise UserError(f"dbp.Layer(solver, estimator) takes a dbp.{base.__name__} as its {kind}, got {got}")
    return built
