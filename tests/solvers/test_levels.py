"""Solvers that cut scores into levels, against their equations in exact arithmetic and the published code."""

from fractions import Fraction

import pytest
import torch

from dbp import UserError
from dbp.solvers import Binary, Or, Signum

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SOLVERS = {"binary": Binary(), "signum": Signum(), "or": Or()}


def mean_threshold(row: list[float]) -> list[float]:
    exact = [Fraction(value) for value in row]
    return [float(value * len(exact) >= sum(exact)) for value in exact]


def margin_signum(x, eps):
    """The published class SignumWithMargin."""
    signs = torch.zeros_like(x)
    signs[x < -eps] = -1
    signs[x > eps] = 1
    return signs


def hard_or(x):
    """The published perturbed or."""
    return ((torch.sign(x) + 1) / 2.0).type(torch.bool).any(-1).to(x) * 2.0 - 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 10, 60])
def test_binary_is_the_mean_threshold_in_exact_arithmetic(n, dtype):
    generator = torch.Generator().manual_seed(n)
    theta = torch.randn(24, n, generator=generator).to(dtype)
    theta[:8] = theta[:8, :1]  # equal scores: all at the mean
    theta[8:16] = torch.randint(-3, 4, (8, n), generator=generator).to(dtype) / 10
    expected = torch.tensor([mean_threshold(row) for row in theta.double().tolist()])
    torch.testing.assert_close(Binary()(theta), expected.to(dtype), rtol=0, atol=0)


def test_binary_counts_a_score_at_the_mean():
    theta = torch.tensor([[0.1, 0.2, 0.3], [1e8, 1e8, 1e8], [0.7, 0.7, 0.7]], dtype=torch.float64)
    assert Binary()(theta).tolist() == [[0, 1, 1], [1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("margin", [0.0, 0.1, 0.5, 3.0])
def test_signum_is_equation_1_at_its_margins_too(margin, dtype):
    edge = torch.tensor(margin, dtype=dtype)
    above = torch.nextafter(edge, torch.tensor(torch.inf, dtype=dtype)) if dtype.itemsize > 2 else edge + 0.125
    theta = torch.stack([-above, -edge, -edge / 2, 0 * edge, edge / 2, edge, above])
    y = Signum(margin)(theta)
    assert y.dtype == dtype
    assert y.tolist() == [-1, 0, 0, 0, 0, 0, 1]
    x = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(Signum(margin)(x), margin_signum(x, edge))


@pytest.mark.parametrize("dtype", DTYPES)
def test_or_is_the_published_or(dtype):
    theta = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    theta[:100] = theta[:100].neg().clamp_max(0).where(theta[:100] > 0, -1)
    theta[:20] = -1
    theta[0, 1], theta[1, 2] = 0.0, -0.0
    assert torch.equal(Or()(theta), hard_or(theta))
    assert Or()(theta).min() == -1
    assert Or()(torch.tensor([[-5.0, 0.2], [-5.0, 0.1]])).tolist() == [1, 1]


@pytest.mark.parametrize("name", SOLVERS)
def test_leading_dims_and_layout_do_not_matter(name):
    solver = SOLVERS[name]
    theta = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    y = solver(theta)
    by_row = torch.stack([torch.stack([solver(row) for row in rows]) for rows in theta])
    assert torch.equal(y, by_row)
    turned = theta.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(solver(turned), y)
    assert solver(theta[:0]).shape == y[:0].shape


@pytest.mark.parametrize("name", SOLVERS)
def test_decisions_are_vertices_and_all_vertices_are_decisions(name):
    solver = SOLVERS[name]
    vertices = solver.vertices([3][: solver.event_dim])
    assert solver.is_feasible(vertices).all()
    assert not solver.is_feasible(vertices + 0.5).any()
    theta = 2 * torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    theta[0] = 0
    y = solver(theta)
    assert solver.is_feasible(y).all()
    found = y.reshape(-1, *vertices.shape[1:]).unique(dim=0)
    assert torch.equal(found, vertices.unique(dim=0))
    assert len(found) == len(vertices)


@pytest.mark.parametrize("name", SOLVERS)
def test_relaxation_tends_to_the_decision(name):
    solver = SOLVERS[name]
    theta = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(solver.relax(theta, 1e-5), solver(theta))
    (grad,) = torch.autograd.grad(solver.relax(theta).sum(), theta)
    assert grad.isfinite().all()
    assert grad.abs().sum() > 0


def test_or_relaxes_to_independent_events():
    theta = torch.tensor([0.3, -1.0])
    p = torch.sigmoid(theta)
    torch.testing.assert_close(Or().relax(theta), 2 * (1 - (1 - p[0]) * (1 - p[1])) - 1)


@pytest.mark.parametrize("solver", [Binary(), Or()])
def test_projection_changes_no_decision(solver):
    theta = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(solver(solver.project(theta)), solver(theta))
    assert torch.equal(solver(3 * theta), solver(theta))


def test_a_negative_margin_is_refused():
    with pytest.raises(UserError, match="margin"):
        Signum(-0.1)


def test_an_outlier_moves_the_mean_that_binary_compares_with():
    assert Binary()(torch.tensor([0.0, 1.0, 2.0, -1e9])).tolist() == [1, 1, 1, 0]
    assert Binary()(torch.tensor([0.0, 1.0, 2.0, 1e9])).tolist() == [0, 0, 0, 1]
