"""Sparse relaxations: projections that reach zero, with exact Jacobians, from the `entmax` package."""

from typing import Any

from torch import Tensor

from dbp.core import Draw, Estimator, Noise, Solver, Target
from dbp.errors import Unsupported, UserError
from dbp.gradients.rules import straight_through


class Sparse(Estimator):
    """The decision regularised by Tsallis entropy: many of its coordinates are exactly zero.

        p = argmax_p <theta + Z, p> / temperature + H_alpha(p),   p in the simplex: entmax; alpha = 2 is sparsemax
        k-subsets, k > 1:  p = the Euclidean projection of (theta + Z) / temperature onto {0 <= p <= 1, sum p = k}
        d theta = (dp / d theta)^T dy

    y is p in training; with `hard`, the solver's decision (ST-entmax).

    Source: Martins, Astudillo, "From softmax to sparsemax", ICML 2016; Peters, Niculae, Martins, "Sparse
    sequence-to-sequence models", ACL 2019. Needs the `entmax` package (`pip install 'dbp[sparse]'`).

    Args:
        alpha: from 1 (softmax), 1.5 (entmax) to 2 (sparsemax) and beyond; not used for k-subsets.
        hard: decide forward.
        temperature: lower is sparser.
        noise: null for a deterministic layer.
        samples: draws for each input, in a new leading dim.
    """

    def __init__(
        self,
        alpha: float = 1.5,
        hard: bool = False,
        temperature: float = 1.0,
        noise: Noise | None = None,
        samples: int | None = None,
    ) -> None:
        super().__init__()
        if not (alpha >= 1 and temperature > 0):
            raise UserError(f"sparse: needs alpha >= 1 and temperature > 0, got {alpha} and {temperature}")
        try:
            import entmax  # noqa: F401
        except ImportError:
            raise UserError("sparse needs the entmax package: pip install 'dbp[sparse]' or entmax") from None
        self.alpha, self.hard, self.temperature = alpha, hard, temperature
        self.noise, self.samples = noise, samples

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        theta = self.perturb(solver, theta)
        p = self.project(solver, theta / self.temperature)
        return Draw(straight_through(solver(theta, instance), p) if self.hard else p)

    def project(self, solver: Solver, theta: Tensor) -> Tensor:
        """p for scaled scores."""
        import entmax

        if solver.subset is None:
            raise Unsupported(
                f"sparse is for one_hot and top_k, not {type(solver).__name__}; use identity, imle or perturbed"
            )
        if solver.subset > 1:
            return entmax.budget_bisect(theta, budget=solver.subset, dim=-1)
        exact = {1: lambda x, dim: x.softmax(dim), 1.5: entmax.entmax15, 2: entmax.sparsemax}
        if self.alpha in exact:
            return exact[self.alpha](theta, dim=-1)
        return entmax.entmax_bisect(theta, alpha=self.alpha, dim=-1)
