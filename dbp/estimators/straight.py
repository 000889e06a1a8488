"""Path estimators: forward the solver, backward a differentiable map that stands close to it."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from dbp.core import Draw, Estimator, Noise, Solver, Target
from dbp.errors import Unsupported, UserError
from dbp.gradients.rules import straight_through
from dbp.noises import Rademacher
from dbp.scores import require_scored
from dbp.shapes import centre, normalise

Projection = Literal["auto", "mean", "norm", "std", "none"]


class Identity(Estimator):
    """The solver, treated as the identity on the way back, after a projection that drops what it ignores.

        y = solver(P(theta + Z) + xi),    d theta = J_P^T  d y

    P removes directions the solver is blind to, along which theta would drift. The margin xi pushes decisions away
    from their boundaries: uniformly, +margin/2 or -margin/2 at random, or informed by the right decision y*, which
    loses margin/2 where it is 1 while the others gain it. No hyperparameter, no further solver call.

    Source: Sahoo, Paulus, Vlastelica, Musil, Kuleshov, Martius, "Backpropagation through combinatorial algorithms:
    Identity with projection works", ICLR 2023, sections 3.2 and 3.3; the informed margin is Rolinek et al., CVPR 2020.

    Args:
        projection: `mean` subtracts the mean, `norm` divides by the norm, `std` does both, `none` neither;
            `auto` is the solver's own invariance.
        margin: the alpha of the paper, in units of the projected theta.
        informed: use the target decision instead of random signs.
        noise: perturb-and-MAP before the projection, for a stochastic layer.
        samples: decisions for each input, in a new leading dim.
    """

    def __init__(
        self,
        projection: Projection = "auto",
        margin: float = 0.0,
        informed: bool = False,
        noise: Noise | None = None,
        samples: int | None = None,
    ) -> None:
        super().__init__()
        if margin < 0 or (informed and margin == 0):
            raise UserError(f"identity: margin must be positive (or 0, for none, if not informed), got {margin}")
        self.projection, self.margin, self.informed = projection, margin, informed
        self.noise, self.samples = noise, samples

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        theta = self.project(solver, self.perturb(solver, theta))
        y = solver(self.with_margin(theta, target), instance)
        require_scored(theta, y, solver.event_dim)
        return Draw(straight_through(y, theta))

    def project(self, solver: Solver, theta: Tensor) -> Tensor:
        """P(theta); differentiable."""
        match self.projection:
            case "auto":
                return solver.project(theta)
            case "mean":
                return centre(theta, solver.event_dim)
            case "norm":
                return normalise(theta, solver.event_dim)
            case "std":
                return normalise(centre(theta, solver.event_dim), solver.event_dim)
            case _:
                return theta

    def with_margin(self, theta: Tensor, target: Target) -> Tensor:
        """theta + xi; no gradient."""
        theta = theta.detach()
        if self.margin == 0:
            return theta
        if not self.informed:
            return theta + Rademacher(self.margin / 2).sample(theta, self.generator)
        if target.y is None:
            raise Unsupported(
                "identity: an informed margin needs the right decision, which this task does not give: informed=false"
            )
        return theta + self.margin * (0.5 - target.y)


class StraightThrough(Estimator):
    """The solver, with the gradient of its relaxation: ST-softmax, ST-sigmoid; with Gumbel noise ST-Gumbel.

        y = solver(theta + Z),    d theta = (d relax(theta + Z; temperature) / d theta)^T  d y

    Source: Bengio, Leonard, Courville, 2013 (arXiv:1308.3432); Jang, Gu, Poole, "Categorical reparameterization with
    Gumbel-softmax", ICLR 2017.

    Args:
        noise: null for a deterministic layer.
        temperature: of the relaxation; lower is closer to the solver, with gradients that vanish or explode.
        samples: decisions for each input, in a new leading dim.
        anneal: multiply the temperature by `exp(-anneal)` after each draw in training; it is a buffer, and survives.
        minimum: where annealing stops.
    """

    temperature: Tensor

    def __init__(
        self,
        noise: Noise | None = None,
        temperature: float = 1.0,
        samples: int | None = None,
        anneal: float = 0.0,
        minimum: float = 0.1,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise UserError(f"temperature must be positive, got {temperature}")
        if not (anneal >= 0 and minimum > 0):
            raise UserError(f"anneal must not be negative and minimum must be positive, got {anneal} and {minimum}")
        self.noise, self.samples, self.anneal, self.minimum = noise, samples, anneal, minimum
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        theta = self.perturb(solver, theta)
        return Draw(straight_through(solver(theta, instance), solver.relax(theta, self.cool())))

    @torch.compiler.disable  # traced, the backward pass would see the next draw's temperature
    def cool(self) -> Tensor:
        """The temperature of this draw; the next one's is `exp(-anneal)` of it, until the minimum is reached."""
        temperature = self.temperature.clone()  # autograd keeps it
        if self.anneal:
            floor = temperature.clamp_max(self.minimum)
            self.temperature.mul_(math.exp(-self.anneal)).copy_(torch.maximum(self.temperature, floor))
        return temperature


class GumbelSoftmax(StraightThrough):
    """The relaxation of a perturbed solver, forward too: Gumbel-softmax, binary concrete, relaxed subsets.

        y = relax(theta + Z; temperature)

    y is soft in training and hard in evaluation. The noise is the solver's own (Gumbel; logistic for a threshold)
    unless another is given. With a hard forward pass it is `straight_through` with noise.

    Source: Jang, Gu, Poole, ICLR 2017; Maddison, Mnih, Teh, "The concrete distribution", ICLR 2017.

    Args:
        noise: null for the solver's own.
        temperature: of the relaxation.
        samples: draws for each input, in a new leading dim.
        anneal: multiply the temperature by `exp(-anneal)` after each draw in training; it is a buffer, and survives.
        minimum: where annealing stops.
    """

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        return Draw(solver.relax(self.perturb(solver, theta), self.cool()))

    def perturb(self, solver: Solver, theta: Tensor) -> Tensor:
        noise = self.noise or solver.noise
        if noise is None:
            raise Unsupported(f"gumbel_softmax: {type(solver).__name__} has no noise of its own: give noise=gumbel")
        return theta + noise.sample(theta, self.generator)
