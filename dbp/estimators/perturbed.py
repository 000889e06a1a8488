"""The perturbed layer: the mean decision under noise, and its exact gradient by the score of the noise."""

from typing import Any

import torch
from torch import Tensor

from dbp.core import Draw, Estimator, Noise, Solver, Target
from dbp.errors import UserError
from dbp.gradients.perturbation import Perturbation, cut
from dbp.gradients.rules import linear_pull_back
from dbp.gradients.sums import contrasts, mean
from dbp.noises import Normal


class Perturbed(Estimator):
    """The mean decision under noise, a smooth function of theta, with an unbiased estimate of its Jacobian.

        y = mean_s y_s,   y_s = solver(theta + Z_s),   d theta = mean_s <dy, y_s - mean of the others> grad log rho(Z_s)

    Subtracting the other samples' mean leaves the estimate unbiased and its variance finite as the noise vanishes.
    Antithetic samples come in pairs, Z and -Z, and have half their difference in its place: a central difference.
    Noise that multiplies (`log_normal`) keeps the sign of every score.

    Source: Berthet, Blondel, Teboul, Cuturi, Vert, Bach, "Learning with differentiable perturbed optimizers", NeurIPS
    2020; multiplicative: Dalle, Baty, Bouvier, Parmentier, 2022 (arXiv:2207.13513).

    Args:
        noise: anything with a density: normal, gumbel, logistic, log_normal.
        samples: how many decisions are averaged, at least 1.
        antithetic: pair each Z with -Z; for symmetric noise and an even number of samples.
    """

    noise: Noise
    samples: int
    repeats = False

    def __init__(self, noise: Noise = Normal(), samples: int = 16, antithetic: bool = False) -> None:
        super().__init__()
        if samples < 1:
            raise UserError(f"perturbed: samples must be at least 1, got {samples}")
        if antithetic and (samples % 2 or not noise.symmetric):
            raise UserError(
                f"perturbed: antithetic samples need symmetric noise and come in pairs, not {samples} of {noise}"
            )
        self.noise, self.samples, self.antithetic = noise, samples, antithetic
        self._scored: Noise | None = None

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        if self.noise is not self._scored:
            self.noise.score(theta.new_zeros(1))  # raises now, not in the backward pass, if there is no density
            self._scored = self.noise
        fixed, noisy = theta.detach(), self.perturbation(theta)
        leading = 1 + theta.ndim - solver.event_dim
        dtype = torch.int8 if solver.binary else None
        y = noisy.stack(lambda rows: solver(noisy[rows], instance), dtype)  # [samples, *batch, *out]

        def pullback(grad: Tensor) -> Tensor:
            weight = contrasts(y, grad, leading, self.antithetic)
            return noisy.total(lambda rows: self.noise.weighted_score(fixed, noisy[rows], cut(weight, rows)))

        return Draw(linear_pull_back(mean(y, fixed), theta, pullback))

    def perturbation(self, theta: Tensor) -> Perturbation:
        """The perturbed scores of all samples."""
        return Perturbation(theta.detach(), self.samples, self.noise, self.generator, self.antithetic, wide=2)
