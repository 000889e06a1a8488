"""A plugin that claims a built-in name and another plugin's name, and entry points that are no estimators."""

from typing import Any

from torch import Tensor

from dbp.core import Draw, Estimator, Noise, Solver, Target
from dbp.noises import Normal


class Other(Estimator):
    """An estimator with an option of its own."""

    def __init__(self, strength: float = 0.5, noise: Noise | None = Normal(scale=2.0)) -> None:
        super().__init__()
        self.strength, self.noise = strength, noise

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        return Draw(solver(theta, instance))


def function() -> None:
    """No class."""


class Stranger:
    """A class, but no estimator."""
