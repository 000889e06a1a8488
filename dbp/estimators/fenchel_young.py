"""The Fenchel-Young loss of a perturbed or regularised solver."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dbp.core import Draw, Noise, Solver, Target
from dbp.estimators.perturbed import Perturbed
from dbp.estimators.targets import instead, right_decision
from dbp.gradients.perturbation import Rows
from dbp.gradients.rules import only_gradient
from dbp.noises import Normal
from dbp.scores import dot


class FenchelYoung(Perturbed):
    """The Fenchel-Young loss of the perturbed or of the entropy-regularised maximum; its value as well as its gradient.

        loss = F(theta) - <theta, y*>,   d theta = y^ - y*
        with noise:  F(theta) = E max_y <theta + Z, y>,      y^ the mean of the samples' decisions
        null noise:  F(theta) = log sum_y exp <theta, y>,    y^ its exact mean; for solvers with a log-partition

    The true Fenchel-Young loss adds the regulariser's value at y*, which does not depend on theta. With Gumbel noise on
    a one_hot the loss is cross-entropy plus Euler's constant; with null noise it is cross-entropy. Noise that
    multiplies vanishes with theta, and the loss with both: it is least at theta = 0, so give the scores a fixed length.

    Source: Blondel, Martins, Niculae, "Learning with Fenchel-Young losses", JMLR 21, 2020; Berthet et al., "Learning
    with differentiable perturbed optimizers", NeurIPS 2020.

    Args:
        noise: anything, with a density or not; null for the entropy.
        samples: how many decisions are averaged; not used without noise.
        antithetic: pair each Z with -Z.
    """

    needs: tuple[str, ...] = ("linear",)
    remedies: Mapping[str, str] = {"log_partition": "or give noise=normal or gumbel"}
    supervised: str = "decision"

    def __init__(self, noise: Noise | None = Normal(), samples: int = 16, antithetic: bool = False) -> None:
        super().__init__(noise or Normal(), samples, antithetic)
        self.entropic = noise is None
        if self.entropic:
            self.noise, self.samples = noise, None  # type: ignore[assignment]
            self.needs = ("linear", "log_partition")

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        best = right_decision(solver, instance, target)
        right = dot(theta, best, solver.event_dim)
        if self.entropic:
            return Draw(
                solver.marginals(theta.detach(), instance), instead(solver.log_partition(theta, instance) - right)
            )
        value, slope, y = self.maximum(solver, theta.detach(), instance)
        return Draw(y, instead(value + dot(only_gradient(theta), slope, solver.event_dim) - right))

    def maximum(self, solver: Solver, theta: Tensor, instance: Any) -> tuple[Tensor, ...]:
        """The mean of `max_y <perturbed theta, y>` over the samples, its gradient in theta, and the mean decision."""
        noisy, slope = self.perturbation(theta), torch.zeros_like(theta)
        value = theta.new_zeros(theta.shape[: theta.ndim - solver.event_dim])

        def of_rows(rows: Rows) -> Tensor:
            scores = noisy[rows]
            y = solver(scores, instance)
            value.add_(dot(scores, y, solver.event_dim).sum(0))
            slope.add_(self.noise.slope(theta, scores, y).sum(0))
            return y.sum(0)

        y = noisy.total(of_rows)
        return value / self.samples, slope / self.samples, y / self.samples

    def perturb(self, solver: Solver, theta: Tensor, instance: Any = None) -> Tensor:
        return theta if self.entropic else super().perturb(solver, theta, instance)
