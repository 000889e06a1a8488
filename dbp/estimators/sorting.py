"""Smooth sorting: ranks, sorted values and permutations with a derivative."""

from typing import Any, Literal

from torch import Tensor

from dbp.core import Draw, Estimator, Noise, Solver, Target
from dbp.errors import Unsupported, UserError
from dbp.gradients.rules import straight_through
from dbp.solvers import permutations

Output = Literal["values", "ranks", "permutation"]
Method = Literal["permutahedron", "neural_sort", "soft_sort", "network"]


class SmoothSort(Estimator):
    """A smooth stand-in for a sort, a rank or a permutation; forward too, unless `hard`.

        permutahedron:  ranks = Proj(theta / temperature) onto the hull of the permutations of (1, ..., n)
                        values = Proj(rho / temperature) onto that of theta's, rho = (n, ..., 1)
        neural_sort:    P_i = softmax(((n + 1 - 2 i) theta - sum_j |theta - theta_j|) / temperature)
        soft_sort:      P_i = softmax(-|theta_(i) - theta| / temperature),  theta_(i) the i-th largest
        network:        P = the product of the layers of an odd-even transposition network, which swap softly, by
                        arctan((a - b) / temperature) / pi + 1/2
        values = P theta,   ranks = P^T (n, ..., 1)

    Values and the rows of P come largest first; rank 1 is the smallest score, so that all three increase with theta.
    The permutahedron has no P; its projections are exact, by isotonic regression in closed form, with n^2 memory.

    Source: Blondel, Teboul, Berthet, Djolonga, "Fast differentiable sorting and ranking", ICML 2020; Grover, Wang,
    Zweig, Ermon, "Stochastic optimization of sorting networks via continuous relaxations", ICLR 2019; Prillo,
    Eisenschlos, "SoftSort", ICML 2020; Petersen, Borgelt, Kuehne, Deussen, "Monotonic differentiable sorting
    networks", ICLR 2022.

    Args:
        output: what the solver returns: sorted values, ranks, or the permutation matrix.
        method: which relaxation.
        temperature: lower is closer to the hard sort.
        hard: decide forward.
        ascending: values and permutation smallest first, as the solver has them.
        noise: null for a deterministic layer.
        samples: draws for each input, in a new leading dim.
    """

    def __init__(
        self,
        output: Output,
        method: Method = "permutahedron",
        temperature: float = 1.0,
        hard: bool = False,
        ascending: bool = False,
        noise: Noise | None = None,
        samples: int | None = None,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise UserError(f"smooth_sort: temperature must be positive, got {temperature}")
        if method == "permutahedron" and output == "permutation":
            raise UserError("smooth_sort: the permutahedron has no permutation matrix: use neural_sort or soft_sort")
        self.output, self.method, self.temperature, self.hard = output, method, temperature, hard
        self.ascending, self.noise, self.samples = ascending, noise, samples

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        if solver.event_dim != 1:
            raise Unsupported(
                f"smooth_sort is for sort, rank and permutation, not {type(solver).__name__}; "
                "for any solver: imle, identity, perturbed"
            )
        theta = self.perturb(solver, theta)
        y, soft = solver(theta, instance), self.smooth(theta)
        if self.output == "values":
            soft = soft[..., : y.shape[-1]]  # a sort may keep the first few
        if soft.shape != y.shape:
            raise UserError(
                f"smooth_sort: output={self.output} has shape {list(soft.shape)}, {type(solver).__name__} decides "
                f"{list(y.shape)}: set output to what the solver returns (values, ranks or permutation)"
            )
        return Draw(straight_through(y, soft) if self.hard else soft)

    def smooth(self, theta: Tensor) -> Tensor:
        """The relaxed values, ranks or permutation."""
        ordered = -theta if self.ascending and self.output != "ranks" else theta  # descending in `ordered`
        if self.method == "permutahedron":
            project = permutations.soft_rank if self.output == "ranks" else permutations.soft_sort
            soft = project(ordered, self.temperature)
            return -soft if ordered is not theta else soft
        p = _RELAXED[self.method](ordered, self.temperature)
        if self.output == "permutation":
            return p
        if self.output == "values":
            return (p @ theta.unsqueeze(-1)).squeeze(-1)
        return (p.mT @ permutations.falling(theta).unsqueeze(-1)).squeeze(-1)


_RELAXED = {
    "neural_sort": permutations.neural_sort,
    "soft_sort": permutations.soft_sort_permutation,
    "network": permutations.sorting_network,
}
