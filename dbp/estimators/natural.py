"""Estimators that draw decisions from the solver's own distribution, which they need in closed form."""

from typing import Any

from torch import Tensor

from dbp.core import Estimator, Noise, Solver
from dbp.scores import unsupported


def natural(solver: Solver) -> Noise:
    """The solver's own noise, or an `Unsupported`."""
    if solver.noise is None:
        raise unsupported(solver, "noise")
    return solver.noise


class Natural(Estimator):
    """An estimator under the solver's own noise: `y ~ p(y | theta)`, with `log p` in closed form."""

    needs: tuple[str, ...] = ("log_prob", "noise")

    def perturb(self, solver: Solver, theta: Tensor, instance: Any = None) -> Tensor:
        return natural(solver).perturb(theta, self.generator)
