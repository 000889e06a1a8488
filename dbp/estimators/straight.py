"""Path estimators: forward the solver, backward a differentiable map that stands close to it."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from dbp.core import Draw, Estimator, Noise, Solver, Target
from dbp.errors import UserError
from dbp.estimators.targets import right_decision
from dbp.gradients.rules import straight_through
from dbp.native.ops import eager
from dbp.noises import Rademacher
from dbp.shapes import centre, normalise, standardise

Projection = Literal["auto", "mean", "norm", "std", "none"]


class Identity(Estimator):
    """The solver, treated as the identity on the way back, after a projection that drops what it ignores.

        y = solver(theta + Z),   with a margin y = solver(P(theta + Z) + xi),     d theta = J_P^T  d y

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

    needs: tuple[str, ...] = ("linear",)

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
        self.supervised = "decision" if informed else ""

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        noisy = self.perturb(solver, theta, instance)
        projected = self.project(solver, noisy, instance)
        decided = noisy if self.margin == 0 else self.with_margin(projected, solver, instance, target)
        return Draw(straight_through(solver(decided, instance), projected))

    def project(self, solver: Solver, theta: Tensor, instance: Any = None) -> Tensor:
        """P(theta); differentiable."""
        if self.projection == "auto":
            return solver.project(theta, instance)
        return _PROJECTIONS[self.projection](theta, solver.event_dim)

    def with_margin(self, theta: Tensor, solver: Solver, instance: Any, target: Target) -> Tensor:
        """theta + xi; no gradient."""
        theta = theta.detach()
        if not self.informed:
            return theta + Rademacher(self.margin / 2).sample(theta, self.generator)
        return theta + self.margin * (0.5 - right_decision(solver, instance, target))


_PROJECTIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "mean": centre,
    "norm": normalise,
    "std": standardise,
    "none": lambda theta, event_dim: theta,
}


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

    needs: tuple[str, ...] = ("relax",)
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
        self.constant = float(temperature)
        self.register_buffer("temperature", torch.tensor(self.constant))

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        theta = self.perturb(solver, theta, instance)
        return Draw(straight_through(solver(theta, instance), solver.relax(theta, self.cool(), instance)))

    @eager  # traced, the backward pass would see the next draw's temperature
    def cool(self) -> Tensor | float:
        """The temperature of this draw; the next one's is `exp(-anneal)` of it, until the minimum is reached."""
        if not self.anneal:
            return self.constant  # in theta's precision
        temperature = self.temperature.clone()  # autograd keeps it
        floor = temperature.clamp_max(self.minimum)
        self.temperature.mul_(math.exp(-self.anneal)).copy_(torch.maximum(self.temperature, floor))
        return temperature


class GumbelSoftmax(StraightThrough):
    """The relaxation of a perturbed solver, forward too: Gumbel-softmax, binary concrete, relaxed subsets and sorts.

        y = relax(theta + Z; temperature)

    y is soft in training and hard in evaluation. The noise is the solver's own (Gumbel; logistic for a threshold; none
    for a sort) unless another is given. With a hard forward pass it is `straight_through` with noise.

    Source: Jang, Gu, Poole, ICLR 2017; Maddison, Mnih, Teh, "The concrete distribution", ICLR 2017.

    Args:
        noise: null for the solver's own.
        temperature: of the relaxation.
        samples: draws for each input, in a new leading dim.
        anneal: multiply the temperature by `exp(-anneal)` after each draw in training; it is a buffer, and survives.
        minimum: where annealing stops.
    """

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        return Draw(solver.relax(self.perturb(solver, theta, instance), self.cool(), instance))

    def perturb(self, solver: Solver, theta: Tensor, instance: Any = None) -> Tensor:
        noise = self.noise or solver.noise
        return theta if noise is None else noise.perturb(theta, self.generator)
