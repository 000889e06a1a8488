"""Exact samples with the exact Jacobian of their marginals."""

from typing import Any

from torch import Tensor

from dbp.core import Draw, Estimator, Solver, Target
from dbp.gradients.rules import straight_through


class SIMPLE(Estimator):
    """Exact samples of the Gibbs distribution, with the gradient of their exact marginals.

        y ~ p(y) proportional to exp <theta, y>,   d theta = J dy,   J = d E[y] / d theta = Cov[y]

    both by dynamic programs: for k-subsets as published, and for every solver with a log-partition and a sampler, such
    as spanning trees.

    Source: Ahmed, Zeng, Niepert, Van den Broeck, "SIMPLE: a gradient estimator for k-subset sampling", ICLR 2023.

    Args:
        samples: decisions for each input, in a new leading dim.
    """

    needs: tuple[str, ...] = ("log_partition", "sample_gibbs")
    gibbs = True

    def __init__(self, samples: int | None = None) -> None:
        super().__init__()
        self.samples = samples

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        y = solver(self.perturb(solver, theta.detach(), instance), instance)
        return Draw(straight_through(y, solver.marginals(theta, instance)))

    def perturb(self, solver: Solver, theta: Tensor, instance: Any = None) -> Tensor:
        """Scores whose decision is distributed as wanted: the decision itself."""
        return solver.sample_gibbs(theta, self.generator, instance)
