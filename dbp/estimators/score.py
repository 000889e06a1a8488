"""Score-function estimators: reward times the gradient of the log-probability. Unbiased for any loss."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from dbp.core import Draw, Estimator, Noise, Solver, Target
from dbp.errors import UserError
from dbp.estimators.natural import natural
from dbp.gradients.rules import only_gradient
from dbp.native.ops import eager
from dbp.scores import leave_one_out
from dbp.shapes import sum_to


class Score(Estimator):
    """REINFORCE, less a baseline: the mean loss of the other samples (RLOO), or of earlier batches. Unbiased.

        d theta = mean_s (loss_s - baseline) grad_theta log p(y_s)

    p is the distribution of solver(theta + Z): in closed form for a tractable solver under its own noise, which has
    the lower variance; else, with `noise`, the density of theta + Z itself, for any solver at all. The loss need not
    be differentiable, and y carries no gradient: it is the surrogate that does.

    Source: Williams, "Simple statistical gradient-following algorithms", Machine Learning 8, 1992; Kool, van Hoof,
    Welling, "Buy 4 REINFORCE samples, get a baseline for free!", ICLR 2019 workshop.

    Args:
        samples: decisions for each input, in a new leading dim.
        noise: null for the solver's own distribution; one with a density for a solver that has none.
        baseline: `others`, the other samples' mean (zero for a single sample); `average`, a running mean of the losses
            of earlier calls, in buffers; `none`.
        decay: of the running mean.
    """

    needs: tuple[str, ...] = ("log_prob", "noise")
    remedies: Mapping[str, str] = dict.fromkeys(needs, "or give noise=normal or gumbel, for any solver")
    average: Tensor
    weight: Tensor

    def __init__(
        self,
        samples: int | None = 4,
        noise: Noise | None = None,
        baseline: Literal["others", "average", "none"] = "others",
        decay: float = 0.95,
    ) -> None:
        super().__init__()
        if samples is not None and samples < 1:
            raise UserError(f"score: samples must be at least 1, got {samples}")
        if not 0 <= decay < 1:
            raise UserError(f"score: decay must be in [0, 1), got {decay}")
        self.samples, self.noise, self.baseline, self.decay = samples, noise, baseline, decay
        self.needs = () if noise else ("log_prob", "noise")
        if baseline == "average":
            self.register_buffer("average", torch.zeros(()))
            self.register_buffer("weight", torch.zeros(()))  # of all that was averaged; 1 in the long run

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        noisy = self.perturb(solver, theta.detach(), instance)
        y = solver(noisy, instance)
        log_prob = self.log_prob(solver, theta, noisy, y, instance)

        def surrogate(losses: Tensor) -> Tensor:
            return losses + only_gradient(self.reward(losses.detach()) * sum_to(log_prob, losses.ndim))

        return Draw(y, surrogate)

    def reward(self, losses: Tensor) -> Tensor:
        """The losses less the baseline, which does not depend on the decision it is compared with."""
        if self.baseline == "average":
            return losses - self.average_before(losses)
        if self.baseline == "others" and self.samples is not None and self.samples > 1:
            return losses - leave_one_out(losses)
        return losses

    @eager  # traced, the baseline would contain the losses
    def average_before(self, losses: Tensor) -> Tensor:
        """The running mean, into which the losses go afterwards."""
        average = self.average / self.weight.clamp_min(1e-12)
        self.average.lerp_(losses.mean().to(self.average), 1 - self.decay)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - self.decay)
        return average

    def perturb(self, solver: Solver, theta: Tensor, instance: Any = None) -> Tensor:
        return (self.noise or natural(solver)).perturb(theta, self.generator)

    def log_prob(self, solver: Solver, theta: Tensor, noisy: Tensor, y: Tensor, instance: Any) -> Tensor:
        """The log-probability of what was drawn, of leading dims, differentiable in theta."""
        if self.noise is None:
            return solver.log_prob(theta, y, instance)
        return self.noise.log_prob(noisy - theta)
