"""Estimators that draw a tractable solver's decisions from its own distribution, which they need in closed form."""

from torch import Tensor

from dbp.core import Estimator, Solver, Tractable
from dbp.errors import Unsupported


class Natural(Estimator):
    """An estimator under the solver's own noise: `y ~ p(y | theta)`, with `log p` and its conditional to be had.

    `event_dims` says which decisions it knows: 0 for each score for itself (threshold), 1 for one of n (one_hot).
    """

    event_dims: tuple[int, ...] = (0, 1)

    def perturb(self, solver: Solver, theta: Tensor) -> Tensor:
        return theta + self.tractable(solver).noise.sample(theta, self.generator)

    def tractable(self, solver: Solver) -> Tractable:
        """The solver, if it has what this estimator needs.

        Raises:
            Unsupported: it does not; with estimators that would work.
        """
        if isinstance(solver, Tractable) and solver.event_dim in self.event_dims:
            return solver
        known = {0: "threshold", 1: "one_hot"}
        kinds = " and ".join(known[d] for d in self.event_dims)
        raise Unsupported(
            f"{type(self).__name__} is for {kinds}, not {type(solver).__name__}; "
            "for any solver: imle, identity, perturbed, or score with noise=gumbel"
        )
