"""Smooth sorting: ranks, sorted values and permutations with a derivative."""

from typing import Any, Literal

import torch
from torch import Tensor

from dbp.core import Draw, Estimator, Noise, Solver, Target
from dbp.errors import UserError
from dbp.gradients import straight_through

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
            project = soft_rank if self.output == "ranks" else soft_sort
            soft = project(ordered, self.temperature)
            return -soft if ordered is not theta else soft
        p = _PERMUTATIONS[self.method](ordered, self.temperature)
        if self.output == "permutation":
            return p
        if self.output == "values":
            return (p @ theta.unsqueeze(-1)).squeeze(-1)
        return (p.mT @ _falling(theta).unsqueeze(-1)).squeeze(-1)


def soft_rank(theta: Tensor, temperature: float = 1.0) -> Tensor:
    """The projection of `theta / temperature` onto the permutahedron of (1, ..., n)."""
    return permutahedron(theta / temperature, _falling(theta))


def soft_sort(theta: Tensor, temperature: float = 1.0) -> Tensor:
    """The projection of `(n, ..., 1) / temperature` onto the permutahedron of theta: smooth, largest first."""
    values = theta.sort(-1, descending=True).values
    return permutahedron((_falling(theta) / temperature).expand_as(theta), values)


def permutahedron(z: Tensor, w: Tensor) -> Tensor:
    """The Euclidean projection of z onto the convex hull of the permutations of w, which falls.

    `z - v`, v the falling isotonic regression of sorted z minus w, in z's order (Blondel et al., 2020, proposition 3).
    """
    values, order = z.sort(-1, descending=True)
    return z - isotonic(values - w).gather(-1, order.argsort(-1))


def isotonic(x: Tensor) -> Tensor:
    """The falling sequence v nearest to x: `v_i = min_{j <= i} max_{k >= i} mean(x_j, ..., x_k)`."""
    n = x.shape[-1]
    total = torch.cat([torch.zeros_like(x[..., :1]), x.cumsum(-1)], -1)
    index = torch.arange(n, device=x.device)
    length = index - index.unsqueeze(-1) + 1  # [j, k]
    mean = (total[..., 1:].unsqueeze(-2) - total[..., :-1].unsqueeze(-1)) / length.clamp_min(1)
    largest = mean.masked_fill(length < 1, -torch.inf).flip(-1).cummax(-1).values.flip(-1)  # over k >= i
    return largest.masked_fill(length < 1, torch.inf).amin(-2)  # over j <= i


def neural_sort(theta: Tensor, temperature: float = 1.0) -> Tensor:
    """The relaxed permutation `[*leading, n, n]` of NeuralSort, largest first; its rows add up to one."""
    n = theta.shape[-1]
    distance = (theta.unsqueeze(-1) - theta.unsqueeze(-2)).abs().sum(-1)
    factor = n + 1 - 2 * torch.arange(1, n + 1, dtype=theta.dtype, device=theta.device)
    scores = factor.unsqueeze(-1) * theta.unsqueeze(-2) - distance.unsqueeze(-2)
    return (scores / temperature).softmax(-1)


def soft_sort_permutation(theta: Tensor, temperature: float = 1.0) -> Tensor:
    """The relaxed permutation of SoftSort, largest first; its rows add up to one."""
    values = theta.sort(-1, descending=True).values
    return (-(values.unsqueeze(-1) - theta.unsqueeze(-2)).abs() / temperature).softmax(-1)


def sorting_network(theta: Tensor, temperature: float = 1.0) -> Tensor:
    """The relaxed permutation of an odd-even transposition network, largest first; doubly stochastic."""
    n = theta.shape[-1]
    x, p = theta, torch.eye(n, dtype=theta.dtype, device=theta.device).expand(*theta.shape, n)
    for layer in range(n):
        i = torch.arange(layer % 2, n - 1, 2, device=theta.device)  # compared with their right neighbours
        if not len(i):
            continue
        keep = ((x[..., i] - x[..., i + 1]) / temperature).arctan() / torch.pi + 0.5
        x, p = _swap(x.unsqueeze(-1), i, keep).squeeze(-1), _swap(p, i, keep)
    return p


def _swap(rows: Tensor, i: Tensor, keep: Tensor) -> Tensor:
    """Rows i and i + 1 mixed: kept with weight `keep`, swapped with the rest."""
    a, b, keep = rows[..., i, :], rows[..., i + 1, :], keep.unsqueeze(-1)
    mixed = rows.index_copy(-2, i, keep * a + (1 - keep) * b)
    return mixed.index_copy(-2, i + 1, keep * b + (1 - keep) * a)


_PERMUTATIONS = {"neural_sort": neural_sort, "soft_sort": soft_sort_permutation, "network": sorting_network}


def _falling(theta: Tensor) -> Tensor:
    """(n, ..., 1)."""
    n = theta.shape[-1]
    return torch.arange(n, 0, -1, dtype=theta.dtype, device=theta.device)
