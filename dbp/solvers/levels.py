"""Levels: scores cut into a few values."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.shapes import normalise, standardise
from dbp.solvers.listing import listed


@dataclass(frozen=True)
class Binary(Solver):
    """Each score against the mean of the last dim: y = 1 where theta >= mean(theta), else 0.

    The mean is taken in float64 of scores that are already centred, so that a score at the mean counts as such: equal
    scores give ones only. Source: Ramapuram, Webb, "Improving discrete latent representations with differentiable
    approximation bridges", IJCNN 2020, table 2 (DAB-binary).
    """

    linear = False  # it maximises <theta - mean(theta), y>
    binary = True

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        return (_deviation(theta.double()) >= 0).to(theta)

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return standardise(theta, 1)

    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0, instance: Instance = None) -> Tensor:
        return torch.sigmoid((theta - theta.mean(-1, keepdim=True)) / temperature)

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        return ((y == 0) | (y == 1)).all(-1) & (y == 1).any(-1)

    def vertices(self, shape: Sequence[int], instance: Instance = None) -> Tensor:
        return torch.tensor(listed(itertools.product((0.0, 1.0), repeat=shape[0]))[1:]).reshape(-1, shape[0])


@dataclass(frozen=True)
class Signum(Solver):
    """The sign of each score outside a margin: y = -1 where theta < -margin, 1 where theta > margin, else 0.

    A score equal to the margin, as theta's dtype has it, gives 0. Source: Ramapuram, Webb, "Improving discrete latent
    representations with differentiable approximation bridges", IJCNN 2020, equation 1.

    Args:
        margin: half the width of the closed interval that gives 0, epsilon in the paper.
    """

    linear = False  # it maximises <theta, y> - margin |y|
    event_dim = 0
    margin: float = 0.5

    def __post_init__(self) -> None:
        if not self.margin >= 0:
            raise UserError(f"Signum: margin must not be negative, got {self.margin}")

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        return torch.where(theta.abs() > self._margin(theta), theta.sign(), 0)

    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0, instance: Instance = None) -> Tensor:
        margin = self._margin(theta)
        return torch.sigmoid((theta - margin) / temperature) - torch.sigmoid((-theta - margin) / temperature)

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        return (y == -1) | (y == 0) | (y == 1)

    def vertices(self, shape: Sequence[int], instance: Instance = None) -> Tensor:
        return torch.tensor([-1.0, 0.0, 1.0])

    def _margin(self, theta: Tensor) -> Tensor:
        return theta.new_full((), self.margin)  # made where theta is: a tensor from the host would wait for a GPU


@dataclass(frozen=True)
class Or(Solver):
    """The or of the signs: y = 1 if any score of the last dim is at least 0, else -1; y has no event dim.

    A score of 0 counts as true, as in the published examples. The relaxation takes each score for the logit of an
    independent event: 1 - 2 prod_i (1 - sigmoid(theta_i)). Source: Berthet et al., "Learning with differentiable
    perturbed optimizers", NeurIPS 2020 (the perturbed or of its code).
    """

    linear = False

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        return torch.where((theta >= 0).any(-1), 1, -1).to(theta)

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return normalise(theta, 1)

    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0, instance: Instance = None) -> Tensor:
        return -1 - 2 * torch.expm1(-F.softplus(theta / temperature).sum(-1))

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        return (y == -1) | (y == 1)

    def vertices(self, shape: Sequence[int], instance: Instance = None) -> Tensor:
        return torch.tensor([-1.0, 1.0])


def _deviation(theta: Tensor) -> Tensor:
    """`theta - mean(theta)`, centred again: what the first mean lost to rounding, the second one finds."""
    theta = theta - theta.mean(-1, keepdim=True)  # of all scores: an outlier moves the mean
    return theta - theta.mean(-1, keepdim=True)
