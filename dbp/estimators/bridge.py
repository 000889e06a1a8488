"""Differentiable approximation bridges: a network learns the hard function and provides its derivative."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dbp.core import Draw, Estimator, Noise, Solver, Target
from dbp.errors import UserError
from dbp.estimators.precision import as_parameters_of
from dbp.gradients.rules import straight_through
from dbp.shapes import sum_to


class DAB(Estimator):
    """A hard function of any output shape, with the derivative of a bridge that is trained to imitate it.

        y = solver(theta + Z),    d theta = (d bridge(theta) / d theta)^T dy
        loss <- loss + gamma |y - bridge(theta)|^2

    The task's loss does not train the bridge, and the gap does not train the rest of the network, as in the authors'
    code; with `condition` the gap also draws theta to where the bridge fits, as in the paper's equation 2. A linear
    solver ignores the scale of theta: a bridge for one does well to begin with a LayerNorm. The value of the surrogate
    contains the gap. The buffer `error` is the mean squared error of the bridge at the last draw.

    Source: Ramapuram, Webb, "Improving discrete latent representations with differentiable approximation bridges",
    WCCI 2020 (arXiv:1905.03658).

    Args:
        bridge: a network from `[*leading, *event]` theta to what the solver returns for it.
        gamma: the weight of the gap; 10 in most of the paper.
        condition: let the gap shape theta too.
        noise: added before the solver, which the bridge does not see; null for none.
        samples: decisions for each input, in a new leading dim.
    """

    error: Tensor

    def __init__(
        self,
        bridge: nn.Module,
        gamma: float = 10.0,
        condition: bool = False,
        noise: Noise | None = None,
        samples: int | None = None,
    ) -> None:
        super().__init__()
        if not gamma > 0:
            raise UserError(f"dab: gamma must be positive, or nothing trains the bridge; got {gamma}")
        self.bridge, self.gamma, self.condition = bridge, gamma, condition
        self.noise, self.samples = noise, samples
        self.register_buffer("error", torch.zeros(()))

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        y = solver(self.perturb(solver, theta.detach(), instance), instance)
        gap = (y - self.fit(theta, y)).square()
        self.error.copy_(gap.detach().mean())
        return Draw(
            straight_through(y, self.frozen(theta)),
            lambda losses: losses + self.gamma * sum_to(gap, losses.ndim),
        )

    def fit(self, theta: Tensor, y: Tensor) -> Tensor:
        """The bridge's imitation of y, which trains the bridge."""
        given = theta if self.condition else theta.detach()
        soft = self.bridge(as_parameters_of(self.bridge, given)).to(theta.dtype)
        if soft.shape != y.shape:
            raise UserError(
                f"dab: the bridge makes {list(soft.shape)} of theta {list(theta.shape)}, the decision is "
                f"{list(y.shape)}: give the bridge the decision's width"
            )
        return soft

    def frozen(self, theta: Tensor) -> Tensor:
        """The bridge, with a gradient to theta alone; its parameters and running statistics stay as they are."""
        state = {name: p.detach() for name, p in self.bridge.named_parameters()}
        state |= {name: b.detach().clone() for name, b in self.bridge.named_buffers()}
        return functional_call(self.bridge, state, (as_parameters_of(self.bridge, theta),)).to(theta.dtype)
