"""The Fenchel-Young loss of a perturbed or regularised solver."""

from typing import Any

import torch
from torch import Tensor

from dbp.core import Draw, Noise, Solver, Target, Tractable
from dbp.errors import Unsupported
from dbp.estimators.perturbed import Perturbed
from dbp.estimators.targets import instead, right_decision
from dbp.gradients.draws import Rows
from dbp.gradients.rules import only_gradient
from dbp.noises import Normal
from dbp.scores import dot
from dbp.solvers import subsets


class FenchelYoung(Perturbed):
    """The Fenchel-Young loss of the perturbed or of the entropy-regularised maximum; its value as well as its gradient.

        loss = F(theta) - <theta, y*>,   d theta = y^ - y*
        with noise:  F(theta) = E max_y <theta + Z, y>,      y^ the mean of the samples' decisions
        null noise:  F(theta) = log sum_y exp <theta, y>,    y^ its exact mean; for one_hot, threshold and top_k

    The true Fenchel-Young loss adds the regulariser's value at y*, which does not depend on theta. With Gumbel noise on
    a one_hot the loss is cross-entropy plus Euler's constant; with null noise it is cross-entropy. Multiplicative noise
    vanishes with theta, and the loss with both: it is least at theta = 0, so give the scores a fixed length.

    Source: Blondel, Martins, Niculae, "Learning with Fenchel-Young losses", JMLR 21, 2020; Berthet et al., "Learning
    with differentiable perturbed optimizers", NeurIPS 2020.

    Args:
        noise: anything, with a density or not; null for the entropy.
        samples: how many decisions are averaged; not used without noise.
        multiplicative: scale theta instead of shifting it; for normal noise.
        antithetic: pair each Z with -Z.
    """

    def __init__(
        self,
        noise: Noise | None = Normal(),
        samples: int = 16,
        multiplicative: bool = False,
        antithetic: bool = False,
    ) -> None:
        super().__init__(noise or Normal(), samples, multiplicative, antithetic)
        self.entropic = noise is None
        if self.entropic:
            self.samples = None  # type: ignore[assignment]

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        best = right_decision(self, solver, instance, target)
        if self.entropic:
            loss, y = _log_loss(solver, theta, best)
            return Draw(y, instead(loss))
        value, slope, y = self.maximum(solver, theta.detach(), instance)
        loss = value + dot(only_gradient(theta), slope, solver.event_dim) - dot(theta, best, solver.event_dim)
        return Draw(y, instead(loss))

    def maximum(self, solver: Solver, theta: Tensor, instance: Any) -> tuple[Tensor, ...]:
        """The mean of `max_y <theta + Z, y>` over the samples, its gradient in theta, and the mean decision."""
        draws, slope = self.draws(theta), torch.zeros_like(theta)
        value = theta.new_zeros(theta.shape[: theta.ndim - solver.event_dim])

        def of_rows(rows: Rows) -> Tensor:
            drawn = draws[rows]
            noisy = self.moved(theta, drawn)
            y = solver(noisy, instance)
            value.add_(dot(noisy, y, solver.event_dim).sum(0))
            if self.multiplicative:
                slope.add_((self.moved(torch.ones_like(theta), drawn) * y).sum(0))
            return y.sum(0)

        y = draws.total(of_rows)
        return value / self.samples, (slope if self.multiplicative else y) / self.samples, y / self.samples

    def perturb(self, solver: Solver, theta: Tensor) -> Tensor:
        return theta if self.entropic else super().perturb(solver, theta)


def _log_loss(solver: Solver, theta: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """`log sum exp <theta, y> - <theta, y*>` over the decisions, and their mean."""
    if solver.subset is not None:
        loss = subsets.log_partition(theta, solver.subset) - (theta * best).sum(-1)
        return loss, subsets.marginals(theta.detach(), solver.subset)
    if isinstance(solver, Tractable):
        return -solver.log_prob(theta, best), solver.relax(theta.detach())
    raise Unsupported(
        f"fenchel_young: {type(solver).__name__} has no entropy in closed form: give noise=normal or gumbel"
    )
