"""k-means against brute force, scikit-learn and its own fixed point."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as Reference

from dbp import UserError
from dbp.solvers import KMeans, clusters


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def blobs(rows, n, d, k, seed=0):
    centres = 20 * draw(rows, k, d, seed=seed)
    labels = torch.arange(n) % k
    return centres[:, labels] + 0.1 * draw(rows, n, d, seed=seed + 1)


def inertia(z, centres):
    return torch.cdist(z, centres).square().amin(-1).sum(-1)


@pytest.mark.parametrize(("n", "d", "k"), [(4, 1, 1), (1, 2, 1), (6, 2, 3), (7, 3, 7), (40, 2, 5), (100, 8, 10)])
def test_centres_are_the_means_of_their_clusters(n, d, k):
    z = draw(9, n, d)
    centres, members = KMeans(k)(z), KMeans(k, assign=True)(z)
    assert centres.shape == (9, k, d)
    assert members.shape == (9, n, k)
    assert (members.sum(-1) == 1).all()
    assert (members.sum(-2) >= 1).all()
    torch.testing.assert_close(centres, members.transpose(-1, -2) @ z / members.sum(-2).unsqueeze(-1))
    nearest = torch.cdist(z, centres).argmin(-1)
    assert torch.equal(members.argmax(-1), nearest)


def test_separated_clusters_are_found_exactly():
    z = blobs(20, 30, 2, 3)
    members = KMeans(3, assign=True)(z)
    apart = (torch.arange(30).unsqueeze(1) - torch.arange(30)) % 3 != 0
    together = members @ members.transpose(1, 2)
    assert torch.equal(together, (~apart).to(z).expand_as(together))


def test_lloyd_steps_are_those_of_scikit_learn():
    z = draw(5, 60, 3)
    ours = KMeans(4)(z)
    for row, centres in zip(z.numpy(), ours, strict=True):
        reference = Reference(4, init=centres.numpy(), n_init=1).fit(row)
        np.testing.assert_allclose(reference.cluster_centers_, centres, atol=1e-10)


def test_close_to_the_best_partition():
    z, k = draw(30, 7, 2), 2
    best = torch.full((30,), torch.inf, dtype=torch.float64)
    for labels in itertools.product(range(k), repeat=6):
        members = torch.nn.functional.one_hot(torch.tensor([0, *labels]), k).double()
        if (members.sum(0) > 0).all():
            best = torch.minimum(best, inertia(z, members.T @ z / members.sum(0).unsqueeze(-1)))
    ours = inertia(z, KMeans(k)(z))
    assert (ours >= best - 1e-9).all()
    assert (ours / best).mean() < 1.1


def test_empty_clusters_move_to_the_farthest_points():
    z = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0]], dtype=torch.float64).expand(1, 5, 1)
    start = torch.tensor([[[1.0], [50.0], [60.0]]], dtype=torch.float64)  # two centres without a point
    assert clusters._step(z, start).tolist() == [[[4.8], [11.0], [10.0]]]


@pytest.mark.parametrize("k", [1, 3, 5])
def test_fewer_distinct_points_than_clusters(k):
    z = torch.tensor([[1.0, 2.0]]).repeat(5, 1)
    z[4] = torch.tensor([3.0, 4.0])
    centres = KMeans(k)(z)
    assert centres.isfinite().all()
    assert inertia(z, centres) == (0 if k > 1 else pytest.approx(inertia(z, z.mean(0, keepdim=True))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("assign", [False, True])
def test_rows_shapes_and_dtypes(dtype, assign):
    solver, z = KMeans(3, assign), draw(2, 4, 12, 2, dtype=dtype)
    y = solver(z)
    assert y.dtype == dtype
    assert y.shape == (2, 4, 12, 3) if assign else (2, 4, 3, 2)
    by_row = torch.stack([torch.stack([solver(row) for row in rows]) for rows in z])
    torch.testing.assert_close(y, by_row)
    turned = z.transpose(0, 2).contiguous().transpose(0, 2)
    assert torch.equal(solver(turned), y)
    assert solver(z[:0]).shape == (0, *y.shape[1:])


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_and_shift_carry_over(scale):
    z = draw(6, 20, 2, dtype=torch.float32)
    torch.testing.assert_close(KMeans(3)(z * scale) / scale, KMeans(3)(z))
    torch.testing.assert_close(KMeans(3)(z + 5) - 5, KMeans(3)(z), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("assign", [False, True])
def test_relaxation_tends_to_the_decision(assign):
    solver, z = KMeans(3, assign), draw(4, 15, 2).requires_grad_()
    torch.testing.assert_close(solver.relax(z, 1e-6), solver(z))
    (grad,) = torch.autograd.grad((solver.relax(z) ** 2).sum(), z)
    assert grad.isfinite().all()
    assert grad.abs().sum() > 0


def test_user_errors():
    with pytest.raises(UserError, match="k=6 clusters of 5"):
        KMeans(6)(draw(2, 5, 3))
    with pytest.raises(UserError, match="at least 1"):
        KMeans(0)
