"""A discrete layer for any PyTorch model, with or without Lightning."""

from typing import Any

import torch
from torch import Tensor, nn

from dbp.core import Draw, Estimator, Solver, Target
from dbp.errors import UserError


class Layer(nn.Module):
    """A solver with an estimator for its gradient, as a module: `y = layer(theta)`.

    Estimators whose gradient passes through the losses (score) need `draw`, which all others may use too:

        draw = layer.draw(theta)
        loss = draw.surrogate(losses_of(draw.y)).mean()

    Through the surrogate, too, lam of `blackbox` and `imle` does not depend on the batch size; without it, it is in
    units of whatever gradient arrives, as in the papers' code.

    Args:
        solver: the forward pass.
        estimator: the backward pass; in eval mode it is not used.
    """

    def __init__(self, solver: Solver, estimator: Estimator) -> None:
        super().__init__()
        self.solver, self.estimator = solver, estimator

    def forward(self, theta: Tensor, instance: Any = None, target: Target = Target()) -> Tensor:
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

    def draw(self, theta: Tensor, instance: Any = None, target: Target = Target()) -> Draw:
        """The decision with the surrogate for its losses."""
        return self.estimator(self.solver, theta, instance, target)

    def extra_repr(self) -> str:
        return f"solver={self.solver}"
