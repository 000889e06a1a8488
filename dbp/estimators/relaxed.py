"""Path estimators for categorical and binary decisions: an exact sample forward, a better Jacobian backward."""

from typing import Any

import torch
from torch import Tensor

from dbp.core import Draw, Solver, Target
from dbp.errors import UserError
from dbp.estimators.natural import Natural
from dbp.gradients.rules import straight_through
from dbp.shapes import align


class GumbelRao(Natural):
    """Straight-through Gumbel-softmax, averaged over the noise that leads to the same decision.

        y = solver(theta + Z),   d theta = mean_k (d relax(theta + Z_k; temperature) / d theta)^T dy,   Z_k ~ Z | y

    The expectation is that of `straight_through` with the solver's noise, the variance lower for any loss. Z_k is held
    fixed on the way back, as Z is there: this is what the theorem of Rao and Blackwell asks for. Some code
    differentiates the map from theta to Z_k too, which is another estimator.

    Source: Paulus, Maddison, Krause, "Rao-Blackwellizing the straight-through Gumbel-softmax gradient estimator", ICLR
    2021.

    Args:
        temperature: of the relaxation.
        draws: K, the conditional draws for each decision; each costs a relaxation and no solver call.
        samples: decisions for each input, in a new leading dim.
    """

    needs: tuple[str, ...] = ("relax", "conditional", "noise")

    def __init__(self, temperature: float = 1.0, draws: int = 10, samples: int | None = None) -> None:
        super().__init__()
        if not (temperature > 0 and draws >= 1):
            raise UserError(f"gumbel_rao: needs temperature > 0 and draws >= 1, got {temperature} and {draws}")
        self.temperature, self.draws, self.samples = temperature, draws, samples

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        fixed = theta.detach()
        y = solver(self.perturb(solver, fixed, instance), instance)
        many = (self.draws, *theta.shape)  # [draws, *samples, *batch, *event]
        tied = solver.conditional(fixed.expand(many), y.expand(many), self.generator, instance)
        return Draw(straight_through(y, solver.relax(theta + (tied - fixed), self.temperature, instance).mean(0)))


class Gapped(Natural):
    """Gapped straight-through: a relaxation whose largest score is the drawn one, by a margin.

        y ~ softmax(theta),   y_i = 1:  theta'_i = max(theta)
                              y_j = 0:  theta'_j = min(theta_j, max(theta) - gap)
        d theta = J(softmax(theta' / temperature))^T dy / temperature

    A binary decision is a choice of two, with scores theta and 0. The shifts theta' - theta are constants.

    Source: Fan, Chi, Rudnicky, Ramadge, "Training discrete deep generative models via gapped straight-through
    estimator", ICML 2022.

    Args:
        gap: the margin (GST-1.0); null for `-log(1 - p) / p`, with p the probability of what was drawn (GST-p).
        temperature: of the relaxation.
        samples: decisions for each input, in a new leading dim.
    """

    needs: tuple[str, ...] = ("relax", "log_prob", "noise")

    def __init__(self, gap: float | None = 1.0, temperature: float = 1.0, samples: int | None = None) -> None:
        super().__init__()
        if not (temperature > 0 and (gap is None or gap >= 0)):
            raise UserError(f"gapped: needs temperature > 0 and gap >= 0, got {temperature} and {gap}")
        self.gap, self.temperature, self.samples = gap, temperature, samples

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        fixed = theta.detach()
        y = solver(self.perturb(solver, fixed, instance), instance)
        gap = self.margin(solver.log_prob(fixed, y, instance), solver.event_dim)
        if solver.elementwise:
            sign = 2 * y - 1
            moved = sign * torch.maximum(sign * fixed, gap)
        else:
            top = fixed.amax(-1, keepdim=True)
            moved = torch.where(y.bool(), top, torch.minimum(fixed, top - gap))
        return Draw(straight_through(y, solver.relax(theta + (moved - fixed), self.temperature, instance)))

    def margin(self, log_prob: Tensor, event_dim: int) -> Tensor:
        """The gap, aligned with theta, of decisions with these log-probabilities."""
        p = log_prob.exp().clamp(1e-6, 1 - 1e-6)
        gap = -torch.log1p(-p) / p if self.gap is None else torch.full_like(p, self.gap)
        return align(gap, log_prob.ndim + event_dim)


class ZGR(Natural):
    """The limit of `gumbel_rao` at temperature zero: half straight-through, half DARN.

        y ~ softmax(theta) = p,   d theta = (J(p) dy + <dy, y - p> grad_theta log p(y)) / 2

    No hyperparameter. For a binary y the Jacobian is half the probability of the other outcome.

    Source: Shekhovtsov, "Cold analysis of Rao-Blackwellized straight-through Gumbel-softmax gradient estimator", ICML
    2023.

    Args:
        samples: decisions for each input, in a new leading dim.
    """

    needs: tuple[str, ...] = ("relax", "log_prob", "noise")

    def __init__(self, samples: int | None = None) -> None:
        super().__init__()
        self.samples = samples

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        y = solver(self.perturb(solver, theta.detach(), instance), instance)
        p = solver.relax(theta, instance=instance)
        log_prob = align(solver.log_prob(theta, y, instance), theta.ndim)
        return Draw(straight_through(y, (p + (y - p.detach()) * log_prob) / 2))
