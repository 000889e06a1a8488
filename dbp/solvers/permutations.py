"""Relaxed sorting: projections onto permutahedra, and relaxed permutation matrices. The largest score is first.

The sources are in the docstrings of `Rank` and `Permutation`.
"""

import torch
from torch import Tensor


def soft_rank(theta: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """The projection of `theta / temperature` onto the permutahedron of (1, ..., n)."""
    return permutahedron(theta.double() / temperature, falling(theta)).to(theta.dtype)


def soft_sort(theta: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """The projection of `(n, ..., 1) / temperature` onto the permutahedron of theta: smooth, largest first."""
    values = theta.double().sort(-1, descending=True).values
    return permutahedron((falling(values) / temperature).expand_as(values), values).to(theta.dtype)


def permutahedron(z: Tensor, w: Tensor) -> Tensor:
    """The Euclidean projection of z onto the convex hull of the permutations of w, which falls.

    `z - v`, v the falling isotonic regression of sorted z minus w, in z's order (Blondel et al., 2020, proposition 3).
    Where the temperature is low, z and v are far larger than their difference: give it float64.
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


def neural_sort(theta: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """The relaxed permutation `[*leading, n, n]` of NeuralSort, largest first; its rows add up to one."""
    n, wide = theta.shape[-1], theta.double()  # large terms cancel: padding of -1e6 leaves float32 no digits
    distance = (wide.unsqueeze(-1) - wide.unsqueeze(-2)).abs().sum(-1)
    factor = n + 1 - 2 * torch.arange(1, n + 1, dtype=wide.dtype, device=theta.device)
    scores = factor.unsqueeze(-1) * wide.unsqueeze(-2) - distance.unsqueeze(-2)
    return (scores / temperature).softmax(-1).to(theta.dtype)


def soft_sort_permutation(theta: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """The relaxed permutation of SoftSort, largest first; its rows add up to one."""
    values = theta.sort(-1, descending=True).values
    return (-(values.unsqueeze(-1) - theta.unsqueeze(-2)).abs() / temperature).softmax(-1)


def sorting_network(theta: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
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


def falling(theta: Tensor) -> Tensor:
    """(n, ..., 1)."""
    n = theta.shape[-1]
    return torch.arange(n, 0, -1, dtype=theta.dtype, device=theta.device)


MATRICES = {"neural_sort": neural_sort, "soft_sort": soft_sort_permutation, "network": sorting_network}
