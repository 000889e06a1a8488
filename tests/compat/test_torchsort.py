"""torchsort: its calls, the numbers of its README, and those of torchpsort 0.1.8, an implementation of its own."""

import pytest
import torch
from sklearn.isotonic import isotonic_regression

from dbp.compat.isotonic import isotonic_kl, isotonic_l2
from dbp.compat.torchsort import soft_rank, soft_sort
from dbp.errors import UserError
from dbp.solvers import permutations

README = [[8, 0, 5, 3, 2, 1, 6, 7, 9]]
X = [[0.3, -1.2, 2.5, 0.4, 0.1, 1.9]]
DY = [[1.0, -2.0, 3.0, 0.5, -1.5, 2.0]]
# (function, regularization, strength): (values, gradient of their product with DY), of X
KNOWN = {
    (soft_sort, "l2", 0.1): ([-1.2, 0.1, 0.3, 0.4, 1.9, 2.5], [3.0, 1.0, 2.0, 0.5, -2.0, -1.5]),
    (soft_sort, "l2", 1.0): ([-1.05, -0.05, 0.3, 0.65, 1.65, 2.5], [3.0, -0.5, 2.0, -0.5, -0.5, -0.5]),
    (soft_sort, "l2", 5.0): (
        [0.166667, 0.366667, 0.566667, 0.766667, 0.966667, 1.166667],
        [0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
    ),
    (soft_sort, "kl", 0.1): ([-1.2, 0.1, 0.3, 0.4, 1.9, 2.5], [3.0, 1.0, 2.0, 0.5, -2.0, -1.5]),
    (soft_sort, "kl", 1.0): (
        [-1.127747, -0.127747, 0.3, 0.511848, 1.511848, 2.5],
        [3.0, -0.785835, 2.0, -0.817574, -0.214165, -0.182426],
    ),
    (soft_sort, "kl", 5.0): (
        [-0.420081, -0.220081, -0.020081, 0.179919, 0.379919, 0.579919],
        [0.378758, 1.697475, 0.041968, 0.342714, 0.462616, 0.07647],
    ),
    (soft_rank, "l2", 0.1): ([3.0, 1.0, 6.0, 4.0, 2.0, 5.0], [2.5, 0.0, 0.0, -2.5, 0.0, 0.0]),
    (soft_rank, "l2", 1.0): (
        [3.133333, 1.633333, 5.333333, 3.233333, 2.933333, 4.733333],
        [0.5, -2.5, 2.5, 0.0, -2.0, 1.5],
    ),
    (soft_rank, "l2", 5.0): (
        [3.426667, 3.126667, 3.866667, 3.446667, 3.386667, 3.746667],
        [0.1, -0.5, 0.5, 0.0, -0.4, 0.3],
    ),
    (soft_rank, "kl", 0.1): ([3.0, 1.0, 6.0, 4.0, 2.0, 5.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
    (soft_rank, "kl", 1.0): (
        [3.078079, 1.0, 6.0, 3.401803, 2.520118, 5.0],
        [2.736479, 0.0, 0.0, 1.323376, -4.059855, 0.0],
    ),
    (soft_rank, "kl", 5.0): (
        [3.157114, 2.338848, 4.902074, 3.220892, 3.033322, 4.34775],
        [0.061891, -1.357458, 2.056929, -0.258948, -1.457196, 0.954782],
    ),
}
both = pytest.mark.parametrize("function", [soft_sort, soft_rank])
divergences = pytest.mark.parametrize("regularization", ["l2", "kl"])


def test_the_readme_of_torchsort():
    x = torch.tensor(README)  # whole numbers, as printed there
    printed = torch.tensor([[0.5556, 1.5556, 2.5556, 3.5556, 4.5556, 5.5556, 6.5556, 7.5556, 8.5556]])
    torch.testing.assert_close(soft_sort(x, regularization_strength=1.0), printed, atol=5e-5, rtol=0)
    exact = torch.tensor([[0.0, 1, 2, 3, 5, 6, 7, 8, 9]])
    torch.testing.assert_close(soft_sort(x, regularization_strength=0.1), exact)
    torch.testing.assert_close(soft_rank(x), torch.tensor([[8.0, 1, 5, 4, 3, 2, 6, 7, 9]]))
    leaf = x.float().requires_grad_()
    (grad,) = torch.autograd.grad(soft_sort(leaf)[0, 0], leaf)
    torch.testing.assert_close(grad, torch.full((1, 9), 1 / 9))


def test_spearmans_coefficient_of_its_readme_where_every_block_is_a_tie():
    def spearman(pred, target):
        pred, target = soft_rank(pred), soft_rank(target)
        pred, target = pred - pred.mean(), target - target.mean()
        return (pred / pred.norm() * target / target.norm()).sum()

    pred = torch.tensor([[1.0, 2, 3, 4, 5]], requires_grad=True)
    value = spearman(pred, torch.tensor([[5.0, 6, 7, 8, 7]]))
    assert value.item() == pytest.approx(0.8321, abs=5e-5)
    (grad,) = torch.autograd.grad(value, pred)
    printed = torch.tensor([[-5.5470e-02, 0, 5.5470e-02, 1.1094e-01, -1.1094e-01]])
    torch.testing.assert_close(grad, printed, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("call", "known"), KNOWN.items(), ids=lambda v: getattr(v[0], "__name__", None))
def test_values_and_gradients_are_those_of_another_implementation(call, known):
    function, *options = call
    x = torch.tensor(X, dtype=torch.float64, requires_grad=True)
    y = function(x, *options)
    (y * torch.tensor(DY)).sum().backward()
    torch.testing.assert_close(y[0], torch.tensor(known[0], dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(x.grad[0], torch.tensor(known[1], dtype=torch.float64), atol=1e-6, rtol=0)


@both
@divergences
@pytest.mark.parametrize("strength", [0.1, 1.0, 10.0])
def test_gradients_are_those_of_the_values(function, regularization, strength):
    x = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: function(x, regularization, strength), x)


def test_the_relaxations_of_the_solvers_are_the_same_projections():
    x = torch.randn(2, 5, 9)
    torch.testing.assert_close(soft_rank(x, "l2", 0.7), permutations.soft_rank(x, 0.7))
    torch.testing.assert_close(soft_sort(x, "l2", 0.7), -permutations.soft_sort(-x, 0.7))


@both
@divergences
def test_each_row_is_its_own_in_every_precision_and_range(function, regularization):
    x = torch.randn(2, 3, 8) * 3
    y = function(x, regularization, 0.5)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(y[i, j], function(x[i, j], regularization, 0.5))
    assert function(x.bfloat16(), regularization).dtype == torch.bfloat16
    rounded = x.bfloat16()
    torch.testing.assert_close(function(rounded, regularization), function(rounded.float(), regularization).bfloat16())
    assert function(torch.zeros(4, 0), regularization).shape == (4, 0)
    far = torch.tensor([[1e4, -1e4, 0.0]])  # exponentials of these overflow
    hard = torch.tensor([[-1e4, 0.0, 1e4]]) if function is soft_sort else torch.tensor([[3.0, 1, 2]])
    torch.testing.assert_close(function(far, regularization, 1e-5), hard)


def test_isotonic_regression_against_scikit_learn():
    s = torch.randn(20, 30, dtype=torch.float64).cumsum(-1)
    w = torch.randn(20, 30, dtype=torch.float64).sort(-1, descending=True).values
    for row, weight, l2, kl in zip(s, w, isotonic_l2(s, w), isotonic_kl(s, w), strict=True):
        nearest = isotonic_regression((row - weight).numpy(), increasing=False)
        torch.testing.assert_close(l2, torch.tensor(nearest.copy()))
        means = isotonic_regression((row - weight).exp().numpy(), sample_weight=weight.exp().numpy(), increasing=False)
        torch.testing.assert_close(kl, torch.tensor(means.copy()).log())


def test_ten_thousand_values_take_memory_in_proportion():
    x = torch.arange(10_000.0)[torch.randperm(10_000)].unsqueeze(0)  # a square of them would be 800 MB
    torch.testing.assert_close(soft_rank(x), x + 1)
    torch.testing.assert_close(soft_sort(x, regularization_strength=1e-3), x.sort(-1).values)


@both
def test_wrong_options_are_user_errors(function):
    with pytest.raises(UserError, match="regularization must be l2 or kl, got 'l1'"):
        function(torch.randn(2, 3), "l1")
    with pytest.raises(UserError, match=r"regularization_strength must be positive, got -1\.0"):
        function(torch.randn(2, 3), regularization_strength=-1.0)
    with pytest.raises(UserError, match="at least one dim"):
        function(torch.tensor(1.0))
    with pytest.raises(UserError, match="finite"):
        function(torch.tensor([[1.0, float("nan")]]))
