"""k-subsets with the exact Jacobian of their marginals."""

from typing import Any

from torch import Tensor

from dbp.core import Draw, Estimator, Solver, Target
from dbp.errors import Unsupported
from dbp.gradients.rules import straight_through
from dbp.noises import Logistic
from dbp.solvers import subsets


class SIMPLE(Estimator):
    """Exact samples of k-subsets, with the gradient of their exact marginals.

        y ~ p(y) proportional to exp <theta, y>,   d theta = J dy,   J = d E[y] / d theta = Cov[y]

    both by dynamic programs of n steps. `dbp.solvers.subsets` has the marginals and the entropy.

    Source: Ahmed, Zeng, Niepert, Van den Broeck, "SIMPLE: a gradient estimator for k-subset sampling", ICLR 2023.

    Args:
        samples: decisions for each input, in a new leading dim.
    """

    gibbs = True

    def __init__(self, samples: int | None = None) -> None:
        super().__init__()
        self.samples = samples

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        y = solver(self.perturb(solver, theta.detach()), instance)
        return Draw(straight_through(y, subsets.marginals(theta, self.size(solver))))

    def perturb(self, solver: Solver, theta: Tensor) -> Tensor:
        """Scores whose decision is distributed as wanted: the decision itself."""
        return subsets.sample(theta, self.size(solver), Logistic().sample(theta, self.generator))

    def size(self, solver: Solver) -> int:
        """The solver's k."""
        if solver.subset is None:
            raise Unsupported(
                f"simple is for k-subsets (top_k, one_hot), not {type(solver).__name__}; "
                "for any solver: imle, identity, perturbed"
            )
        return solver.subset
