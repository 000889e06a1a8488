"""Relaxations that solvers choose by option: they come to the decision, have its shape, and pass a gradient."""

import sys

import pytest
import torch

import dbp
from dbp.core import Solver
from dbp.errors import UserError
from dbp.solvers import KMeans, OneHot, Permutation, Rank, Sort, TopK

SOFT = ("permutahedron", "neural_sort", "soft_sort", "network")
ORDERS: dict[str, Solver] = {
    **{f"rank, {how}": Rank(how) for how in SOFT},
    **{f"sort, {how}": Sort(relaxation=how) for how in SOFT},
    **{f"sort, ascending, {how}": Sort(False, relaxation=how) for how in SOFT},
    **{f"sort, k, {how}": Sort(k=2, relaxation=how) for how in SOFT},
    **{f"permutation, {how}": Permutation(relaxation=how) for how in SOFT[1:]},
    **{f"permutation, ascending, {how}": Permutation(False, how) for how in SOFT[1:]},
}
SPARSE: dict[str, Solver] = {
    **{f"one_hot, {alpha}": OneHot("entmax", alpha) for alpha in (1.25, 1.5, 2.0, 3.0)},
    **{f"top_k, {k}": TopK(k, "budget") for k in (1, 2, 5)},
}
ALL = ORDERS | SPARSE


@pytest.mark.parametrize("name", ALL)
def test_it_comes_to_the_decision_and_has_a_gradient(name: str) -> None:
    solver = ALL[name]
    theta = torch.randn(3, 20, 6, dtype=torch.float64).sort(-1).values
    theta = (theta + 0.3 * torch.arange(6))[..., torch.randperm(6)].requires_grad_()  # 0.3 apart at least
    torch.testing.assert_close(solver.relax(theta, 1e-4), solver(theta), atol=2e-2, rtol=0)
    soft = solver.relax(theta, torch.tensor(2.0))
    assert (soft.dtype, soft.shape) == (theta.dtype, solver(theta).shape)
    weight = torch.randn_like(soft)
    (grad,) = torch.autograd.grad((soft * weight).sum(), theta)
    assert grad.isfinite().all()
    assert grad.abs().sum() > 0
    empty = torch.zeros(0, 6, requires_grad=True)
    assert solver.relax(empty).shape == solver(empty).shape


@pytest.mark.parametrize("name", ORDERS)
def test_orders_have_gradients_of_finite_differences(name: str) -> None:
    theta = torch.tensor([[0.3, -1.2, 2.0, 0.9]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ORDERS[name].relax(x, 0.7), (theta,))


@pytest.mark.parametrize("how", SOFT[1:])
def test_values_and_ranks_are_those_of_the_permutation(how: str) -> None:
    theta = torch.randn(5, 4, dtype=torch.float64)
    p = Permutation(relaxation=how).relax(theta, 0.3)
    torch.testing.assert_close(p.sum(-1), torch.ones(5, 4).double())
    torch.testing.assert_close(Sort(relaxation=how).relax(theta, 0.3), (p @ theta[..., None])[..., 0])
    up = Permutation(False, how).relax(theta, 0.3)
    torch.testing.assert_close(Sort(False, relaxation=how).relax(theta, 0.3), (up @ theta[..., None])[..., 0])
    torch.testing.assert_close(Rank(how).relax(theta, 0.3), (p.mT @ torch.arange(4.0, 0, -1).double()[:, None])[..., 0])


@pytest.mark.parametrize("how", SOFT)
def test_ascending_is_descending_of_minus_the_scores(how: str) -> None:
    theta = torch.randn(5, 4, dtype=torch.float64)
    up, down = Sort(False, relaxation=how).relax(theta, 0.3), -Sort(relaxation=how).relax(-theta, 0.3)
    torch.testing.assert_close(up, down)
    torch.testing.assert_close(Sort(k=3, relaxation=how).relax(theta), Sort(relaxation=how).relax(theta)[..., :3])


@pytest.mark.parametrize("how", ["soft_sort", "neural_sort"])
@pytest.mark.parametrize("low", [-1e4, -1e6, -1e9])
def test_padding_leaves_the_other_scores_alone(how: str, low: float) -> None:
    """NeuralSort takes the difference of terms as large as the padding: in float32 it lost the scores."""
    free = torch.tensor([[0.3, 1.2, 0.7, -0.4]])
    padded = torch.cat([free, torch.full((1, 2), low)], -1)
    solver = Permutation(relaxation=how)
    a, b = solver.relax(free, 0.3), solver.relax(padded, 0.3)[:, :4, :4]
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_relaxations_are_projections_with_exact_zeros(name: str) -> None:
    solver, theta = SPARSE[name], 3 * torch.randn(50, 6, dtype=torch.float64)
    p = solver.relax(theta)
    size = solver.k if isinstance(solver, TopK) else 1
    torch.testing.assert_close(p.sum(-1), torch.full((50,), float(size)).double())
    assert ((p >= 0) & (p <= 1)).all()
    assert (p == 0).any()
    if isinstance(solver, TopK) or solver.alpha == 2.0:  # the Euclidean projection, by its optimality conditions
        inside = (p > 1e-9) & (p < 1 - 1e-9)
        shift = (theta - p).masked_fill(~inside, 0).sum(-1) / inside.sum(-1).clamp_min(1)
        gap = (theta - p - shift[:, None]).masked_fill(~inside, 0)
        assert gap.abs().max() < 1e-6


def test_alpha_one_is_softmax_and_the_options_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    theta = torch.randn(5, 4)
    torch.testing.assert_close(OneHot("entmax", 1.0).relax(theta, 0.5), OneHot().relax(theta, 0.5))
    with pytest.raises(UserError, match="alpha must be at least 1"):
        OneHot("entmax", 0.5)
    with pytest.raises(UserError, match=r"solver.relaxation: expected .*'softmax'.*'entmax'"):
        dbp.build("solver", {"name": "one_hot", "relaxation": "sparse"})
    monkeypatch.setitem(sys.modules, "entmax", None)
    for make in (lambda: OneHot("entmax"), lambda: TopK(2, "budget")):
        with pytest.raises(UserError, match=r"(OneHot|TopK): this relaxation needs entmax: pip install"):
            make()


def test_centres_of_integers_are_refused() -> None:
    """They were rounded down in silence: the mean of 0, 1, 2 and 3 became 1."""
    points = torch.tensor([[0], [1], [2], [3], [9]])
    with pytest.raises(UserError, match=r"no integer; give it points.float\(\)"):
        KMeans(2)(points)
    assert KMeans(2)(points.float()).tolist() == [[1.5], [9.0]]
    assert KMeans(2, assign=True)(points).dtype == torch.int64
