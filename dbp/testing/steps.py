"""An estimator with a solver and inputs to check it on, and one training step of it."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dbp.core import Estimator, Solver, Target
from dbp.shapes import sum_to
from dbp.solvers.scores import random_scores
from dbp.testing.checks import require


class Result(NamedTuple):
    """One training step: the decision, its losses, their surrogate, and the gradient at theta."""

    y: Tensor
    losses: Tensor
    value: Tensor
    grad: Tensor


@dataclass(frozen=True)
class EstimatorCase:
    """An estimator with a solver and inputs to try it on."""

    estimator: Estimator
    solver: Solver
    shape: tuple[int, ...]
    instance: Any
    device: torch.device

    def copy(self) -> Estimator:
        return deepcopy(self.estimator)

    def scores(self, *leading: int) -> Tensor:
        return random_scores(self.solver, (*leading, *self.shape), self.instance, device=self.device)

    def target(self, theta: Tensor) -> Target:
        """The same for the same rows, whatever their leading dims and however many follow."""
        right = (torch.arange(theta.numel(), device=self.device) * 0.37).sin().sub(2).reshape(theta.shape)
        return Target(self.solver(right, self.instance), right)

    def losses(self, y: Tensor, theta: Tensor) -> Tensor:
        """A loss of each decision, not linear in it."""
        decision = self.solver(theta, self.instance)
        ndim = y.ndim - decision.ndim + theta.ndim - len(self.shape)
        weights = torch.linspace(1, 2, y.shape[ndim:].numel(), device=self.device).cos().reshape(y.shape[ndim:])
        total = sum_to(weights * y, ndim)
        return total + total.square()

    def step(self, estimator: Estimator, theta: Tensor, seed: int = 1, scale: float = 1.0, cast: Any = None) -> Result:
        """One training step without the optimizer's part, its forward pass under autocast to the dtype `cast`."""
        torch.manual_seed(seed)
        leaf = theta.clone().requires_grad_()
        with torch.autocast(self.device.type, cast, enabled=cast is not None):
            draw = estimator(self.solver, leaf, self.instance, self.target(leaf.detach()))
            losses = self.losses(draw.y, leaf.detach())
            value = draw.surrogate(losses)
        require(value.requires_grad, "gives theta no gradient: nothing of its surrogate depends on theta")
        (value.mean() * scale).backward()
        require(leaf.grad is not None, "gives theta no gradient")
        assert leaf.grad is not None
        return Result(draw.y.detach(), losses.detach(), value.detach(), leaf.grad)

    @property
    def supervised(self) -> bool:
        """True if it needs a target."""
        return bool(self.estimator.supervised)

    def draws(self, theta: Tensor, seed: int) -> Tensor:
        """Decisions in training."""
        torch.manual_seed(seed)
        leaf = theta.clone().requires_grad_()
        return self.copy()(self.solver, leaf, self.instance, self.target(theta)).y.detach()

    def seeds_matter(self, theta: Tensor) -> bool:
        """True if training draws random numbers for its decisions or its gradient."""
        first, other = (self.step(self.copy(), theta, seed) for seed in (1, 2))
        return not (torch.equal(first.y, other.y) and torch.equal(first.grad, other.grad))

    @property
    def event(self) -> tuple[int, ...]:
        return self.shape[len(self.shape) - self.solver.event_dim :]
