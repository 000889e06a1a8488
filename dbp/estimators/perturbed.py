"""The perturbed layer: the mean decision under noise, and its exact gradient by the score of the noise."""

from typing import Any

import torch
from torch import Tensor

from dbp.core import Draw, Estimator, Noise, Solver, Target
from dbp.errors import Unsupported, UserError
from dbp.gradients.draws import Draws, cut
from dbp.gradients.rules import linear_pull_back
from dbp.gradients.sums import contrasts, mean, weighted_sum
from dbp.noises import Normal


class Perturbed(Estimator):
    """The mean decision under noise, a smooth function of theta, with an unbiased estimate of its Jacobian.

        y = mean_s y_s,   y_s = solver(theta + Z_s),   d theta = mean_s <dy, y_s - mean of the others> grad log rho(Z_s)

    Subtracting the other samples' mean leaves the estimate unbiased and its variance finite as the noise vanishes.
    Antithetic samples come in pairs, Z and -Z, and have half their difference in its place: a central difference.
    Multiplicative noise, theta exp(Z - scale^2 / 2) with Z normal, keeps the sign of every score: it is for scores that
    all have one sign, such as costs by softplus, as a positive and a negative one never change places.

    Source: Berthet, Blondel, Teboul, Cuturi, Vert, Bach, "Learning with differentiable perturbed optimizers", NeurIPS
    2020; multiplicative: Dalle, Baty, Bouvier, Parmentier, 2022 (arXiv:2207.13513).

    Args:
        noise: anything with a density: normal, gumbel, logistic.
        samples: how many decisions are averaged, at least 1.
        multiplicative: scale theta instead of shifting it; for normal noise.
        antithetic: pair each Z with -Z; for symmetric noise and an even number of samples.
    """

    noise: Noise
    samples: int
    averages = True

    def __init__(
        self,
        noise: Noise = Normal(),
        samples: int = 16,
        multiplicative: bool = False,
        antithetic: bool = False,
    ) -> None:
        super().__init__()
        if samples < 1:
            raise UserError(f"perturbed: samples must be at least 1, got {samples}")
        if multiplicative and not isinstance(noise, Normal):
            raise Unsupported(f"perturbed: multiplicative noise is log-normal: use normal noise, not {noise}")
        if antithetic and (samples % 2 or not noise.symmetric):
            raise UserError(
                f"perturbed: antithetic samples need symmetric noise and come in pairs, not {samples} of {noise}"
            )
        self.noise, self.samples = noise, samples
        self.multiplicative, self.antithetic = multiplicative, antithetic
        self._scored: Noise | None = None

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        if self.noise is not self._scored:
            self.noise.score(theta.new_zeros(1))  # raises now, not in the backward pass, if there is no density
            self._scored = self.noise
        fixed, draws = theta.detach(), self.draws(theta)
        leading = 1 + theta.ndim - solver.event_dim
        dtype = torch.int8 if solver.binary else None
        # [samples, *batch, *out]
        y = draws.stack(lambda rows: solver(self.moved(fixed, draws[rows]), instance), dtype)

        def pullback(grad: Tensor) -> Tensor:
            weight = contrasts(y, grad, leading, self.antithetic)
            return draws.total(lambda rows: self.weighted_score(fixed, draws[rows], cut(weight, rows)))

        return Draw(linear_pull_back(mean(y, fixed), theta, pullback))

    def draws(self, theta: Tensor) -> Draws:
        """`theta + Z`, or Z where that is multiplied, of all samples."""
        centre = torch.zeros_like(theta) if self.multiplicative else theta.detach()
        return Draws(centre, self.samples, self.noise, self.generator, self.antithetic, wide=2)

    def perturb(self, solver: Solver, theta: Tensor) -> Tensor:
        noise = self.noise.sample(theta, self.generator)
        return self.moved(theta, noise if self.multiplicative else theta + noise)

    def moved(self, theta: Tensor, drawn: Tensor) -> Tensor:
        """theta under the noise, from what `draws` gives; differentiable."""
        return theta * (drawn - self.noise.scale**2 / 2).exp() if self.multiplicative else drawn

    def weighted_score(self, theta: Tensor, drawn: Tensor, weight: Tensor) -> Tensor:
        """`sum_s weight_s` times minus the gradient in theta of the log-density of the perturbed scores."""
        if not self.multiplicative and type(self.noise).score is Normal.score:  # which is linear
            return weighted_sum(drawn, weight, theta[None], -1 / self.noise.scale**2)
        if not self.multiplicative:
            return weighted_sum(self.noise.score(drawn - theta), weight)
        # A score of zero stays where it is under multiplicative noise, and has no gradient.
        return torch.where(theta == 0, 0, weighted_sum(self.noise.score(drawn), weight) / theta)
