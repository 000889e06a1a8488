"""Estimators against what is known of them in closed form."""

import itertools
import math

import pytest
import torch
from sklearn.isotonic import IsotonicRegression
from torch import Tensor

from dbp.core import Draw, Estimator, Solver, Target
from dbp.estimators import (
    ARMS,
    IMLE,
    SIMPLE,
    ZGR,
    AdaptiveIMLE,
    Blackbox,
    DisARM,
    FenchelYoung,
    Gapped,
    GumbelRao,
    GumbelSoftmax,
    PerturbationGradient,
    Perturbed,
    SPOPlus,
    StraightThrough,
    StructuredSVM,
)
from dbp.noises import Gumbel, Logistic, LogNormal, Normal, Rademacher
from dbp.solvers import OneHot, Permutation, Rank, Sort, Threshold, TopK, subsets
from dbp.solvers.permutations import (
    isotonic,
    neural_sort,
    permutahedron,
    soft_rank,
    soft_sort,
    soft_sort_permutation,
    sorting_network,
)

DOUBLE = torch.float64
MANY = 200_000


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def scores(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE)


def gradient(estimator: Estimator, solver: Solver, theta: Tensor, up: Tensor, target: Target = Target()) -> Tensor:
    """theta's gradient of `<up, y>`, one loss for each decision, all of them summed."""
    theta = theta.clone().requires_grad_()
    draw = estimator.train()(solver, theta, target=target)
    losses = (draw.y * up).flatten(draw.y.ndim - max(solver.event_dim, 0)).sum(-1) if solver.event_dim else draw.y * up
    return torch.autograd.grad(draw.surrogate(losses).sum(), theta)[0]


def supervised(estimator: Estimator, solver: Solver, theta: Tensor, target: Target) -> tuple[Tensor, Tensor, Draw]:
    """The loss of each row, theta's gradient of their sum, and the draw."""
    theta = theta.clone().requires_grad_()
    draw = estimator.train()(solver, theta, target=target)
    losses = draw.surrogate(draw.y.sum(-1))
    return losses.detach(), torch.autograd.grad(losses.sum(), theta)[0], draw


# ---- perturbation


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_perturbed_argmax_under_gumbel_noise_is_softmax(scale):
    theta, up = scores(4), scores(4)
    draw = Perturbed(Gumbel(scale), MANY)(OneHot(), theta)
    jacobian = torch.autograd.functional.jacobian(lambda t: (t / scale).softmax(-1), theta)
    torch.testing.assert_close(draw.y, (theta / scale).softmax(-1), atol=5e-3, rtol=0)
    torch.testing.assert_close(
        gradient(Perturbed(Gumbel(scale), MANY), OneHot(), theta, up), up @ jacobian, atol=2e-2, rtol=0
    )


@pytest.mark.parametrize("antithetic", [False, True])
def test_perturbed_sign_under_normal_noise_is_the_error_function(antithetic):
    theta, sigma = torch.linspace(-1.5, 1.5, 5, dtype=DOUBLE), 0.7
    estimator = Perturbed(Normal(sigma), MANY, antithetic=antithetic)
    normal = torch.distributions.Normal(0.0, 1.0)
    sign = 2 * estimator(Threshold(), theta).y - 1
    torch.testing.assert_close(sign, 2 * normal.cdf(theta / sigma) - 1, atol=1e-2, rtol=0)
    density = normal.log_prob(theta / sigma).exp() / sigma
    slope = gradient(estimator, Threshold(), theta, torch.ones(5, dtype=DOUBLE))
    torch.testing.assert_close(slope, density, atol=2e-2, rtol=0)


def test_an_antithetic_pair_has_less_variance_than_two_draws():
    theta, up = scores(5).expand(5000, -1), scores(5)
    two = gradient(Perturbed(Normal(), 1), TopK(2), theta, up).var(0).sum() / 2
    assert gradient(Perturbed(Normal(), 2, antithetic=True), TopK(2), theta, up).var(0).sum() < two


def test_multiplicative_noise_on_two_positive_scores():
    theta, sigma = torch.tensor([1.0, 1.4], dtype=DOUBLE).requires_grad_(), 0.8
    normal = torch.distributions.Normal(0.0, 1.0)
    first = normal.cdf((theta[0] / theta[1]).log() / (sigma * 2**0.5))
    (slope,) = torch.autograd.grad(first, theta)
    estimator = Perturbed(LogNormal(sigma), MANY)
    torch.testing.assert_close(estimator(OneHot(), theta.detach()).y[0], first.detach(), atol=5e-3, rtol=0)
    up = torch.tensor([1.0, 0.0], dtype=DOUBLE)
    torch.testing.assert_close(gradient(estimator, OneHot(), theta.detach(), up), slope, atol=1e-2, rtol=0)


def test_the_multiplicative_fenchel_young_loss_vanishes_with_the_scores():
    theta, right = scores(8, 5), TopK(2)(scores(8, 5))
    losses = []
    for scale in (1.0, 0.01):
        torch.manual_seed(0)
        estimator = FenchelYoung(LogNormal(), 2000)
        losses.append(supervised(estimator, TopK(2), scale * theta, Target(y=right))[0])
    torch.testing.assert_close(losses[1], 0.01 * losses[0])
    assert (losses[0] > 0).all()


# ---- pullback


@pytest.mark.parametrize("two_sided", [False, True])
def test_imle_goes_to_the_gradient_of_the_perturbed_layer(two_sided):
    theta, up = scores(4), scores(4)
    jacobian = torch.autograd.functional.jacobian(lambda t: t.softmax(-1), theta)
    errors = []
    for lam in (2.0, 0.2):
        estimator = IMLE(lam, samples=MANY, two_sided=two_sided)
        errors.append((gradient(estimator, OneHot(), theta, up) / MANY - up @ jacobian).norm())
    assert errors[1] < 0.05 * up.norm()
    assert errors[1] < errors[0]


def test_two_sided_has_less_bias():
    theta, up = scores(4), scores(4)
    jacobian = torch.autograd.functional.jacobian(lambda t: t.softmax(-1), theta)
    one, two = (
        (gradient(IMLE(1.0, samples=MANY, two_sided=t), OneHot(), theta, up) / MANY - up @ jacobian).norm()
        for t in (False, True)
    )
    assert two < one / 2


def test_blackbox_is_the_difference_of_two_decisions():
    theta, up, lam = scores(6, 5), scores(6, 5), 3.0
    less, more = TopK(2)(theta - lam * up), TopK(2)(theta + lam * up)
    torch.testing.assert_close(gradient(Blackbox(lam), TopK(2), theta, up), (TopK(2)(theta) - less) / lam)
    torch.testing.assert_close(gradient(Blackbox(lam, two_sided=True), TopK(2), theta, up), (more - less) / (2 * lam))


def test_co_target_replaces_the_scores_that_have_a_gradient():
    theta, up, lam = scores(6, 5), scores(6, 5), 2.0
    up[:, 0] = 0
    target = torch.where(up == 0, theta, -lam * up)
    expected = (TopK(2)(theta) - TopK(2)(target)) / lam
    torch.testing.assert_close(gradient(IMLE(lam, None, target="co"), TopK(2), theta, up), expected)


def test_target_temperature_zero_has_no_noise_in_the_target():
    theta, up = scores(6, 5), scores(6, 5)
    estimator = IMLE(2.0, samples=1000, target_temperature=0.0)
    mean = TopK(2)(theta + Gumbel().sample(theta.expand(MANY // 10, -1, -1))).mean(0)
    expected = (mean - TopK(2)(theta - 2 * up)) / 2
    torch.testing.assert_close(gradient(estimator, TopK(2), theta, up) / 1000, expected, atol=0.05, rtol=0)


def test_adaptive_imle_reaches_the_wanted_number_of_nonzeros():
    theta, up = scores(64, 10), scores(64, 10)
    estimator = AdaptiveIMLE(rate=2e-2, sparsity=1.0)
    counts = [gradient(estimator, TopK(3), theta, up).count_nonzero() / 64 for _ in range(300)]
    assert counts[0] > 1.2
    assert abs(torch.stack(counts[-50:]).mean() - 1) < 0.3
    assert abs(estimator.nonzeros - 1) < 0.4


def test_adaptive_imle_counts_what_shares_a_loss():
    theta = scores(8, 20).requires_grad_()
    estimator = AdaptiveIMLE(decay=0.0, noise=None, alpha=5.0)
    up = scores(20)
    draw = estimator(Threshold(), theta)
    draw.surrogate(draw.y @ up).sum().backward()
    assert estimator.nonzeros == theta.grad.count_nonzero() / 8
    lam = 5 * theta.detach().norm(dim=-1, keepdim=True) / up.norm()
    torch.testing.assert_close(theta.grad, (Threshold()(theta) - Threshold()(theta - lam * up)) / lam)


# ---- relaxed


def binary(theta: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A threshold's scores and decision as a choice of two."""
    return torch.stack([theta, torch.zeros_like(theta)], -1), torch.stack([y, 1 - y], -1)


@pytest.mark.parametrize("make", [ZGR, Gapped, lambda: Gapped(gap=None)], ids=["zgr", "gst", "gst-p"])
def test_a_binary_decision_is_a_choice_of_two(make):
    theta, up = scores(50), scores(50)

    class Drawn(type(make())):  # the same decision both times
        def perturb(self, solver, theta, instance=None):
            return drawn if solver.event_dim == 0 else torch.stack([drawn, torch.zeros_like(drawn)], -1)

    estimator = make()
    estimator.__class__ = Drawn
    drawn = theta + Logistic().sample(theta)
    both, _ = binary(theta, theta)
    expected = gradient(estimator, OneHot(), both, torch.stack([up, torch.zeros_like(up)], -1))[..., 0]
    torch.testing.assert_close(gradient(estimator, Threshold(), theta, up), expected)


def test_zgr_of_a_binary_decision():
    theta = scores(100)
    y = ZGR()(Threshold(), theta.requires_grad_()).y
    (slope,) = torch.autograd.grad(y.sum(), theta)
    p = theta.sigmoid()
    torch.testing.assert_close(slope, (y * (1 - p) + (1 - y) * p) / 2)


def test_gapped_separates_by_the_gap():
    theta = scores(100, 4).requires_grad_()
    y = Gapped(gap=2.0)(OneHot(), theta).y
    top = theta.amax(-1, keepdim=True)
    moved = torch.where(y.bool(), top, torch.minimum(theta, top - 2)).detach().requires_grad_()
    up = scores(4)
    (expected,) = torch.autograd.grad((moved.softmax(-1) @ up).sum(), moved)
    torch.testing.assert_close(torch.autograd.grad((y @ up).sum(), theta)[0], expected)


@pytest.mark.parametrize("solver", [OneHot(), Threshold()])
def test_gumbel_rao_has_the_mean_of_straight_through_and_less_variance(solver):
    theta, up = scores(4).expand(50_000, -1), scores(4)
    plain = gradient(StraightThrough(solver.noise, 0.5), solver, theta, up * 1.0)
    better = gradient(GumbelRao(0.5, draws=8), solver, theta, up * 1.0)
    error = (plain.var(0) + better.var(0)).div(len(theta)).sqrt()
    assert ((plain.mean(0) - better.mean(0)).abs() < 4 * error).all()
    assert better.var(0).sum() < 0.7 * plain.var(0).sum()


def test_zgr_is_the_cold_limit_of_gumbel_rao():
    theta, up = scores(3), scores(3)
    torch.manual_seed(3)
    zgr = gradient(ZGR(), OneHot(), theta, up)
    torch.manual_seed(3)
    cold = gradient(GumbelRao(0.02, draws=MANY), OneHot(), theta, up)
    torch.testing.assert_close(cold, zgr, atol=0.03, rtol=0.05)


def test_two_arms_are_disarm():
    theta, up = scores(4).expand(MANY, -1), scores(4)

    def moments(estimator: Estimator) -> tuple[Tensor, Tensor]:
        free = theta.clone().requires_grad_()
        draw = estimator(Threshold(), free)
        (grad,) = torch.autograd.grad(draw.surrogate((draw.y @ up).square()).sum(), free)
        return grad.mean(0), grad.var(0)

    for one, other in zip(moments(ARMS(2)), moments(DisARM()), strict=True):
        torch.testing.assert_close(one, other, atol=0.02, rtol=0.02)


def test_annealing_multiplies_until_the_minimum():
    estimator = GumbelSoftmax(temperature=2.0, anneal=0.1, minimum=1.5)
    seen = []
    for _ in range(6):
        theta = torch.zeros(3, 4, requires_grad=True)
        estimator(OneHot(), theta).y.square().sum().backward()
        seen.append(estimator.temperature.item())
    assert seen == pytest.approx([max(1.5, 2 * math.exp(-0.1 * t)) for t in range(1, 7)])


@pytest.mark.parametrize("k", [1, 3])
def test_sparsemax_is_the_projection_onto_the_hull_of_the_subsets(k):
    pytest.importorskip("entmax")
    theta, up = 2 * scores(5, 6), scores(6)
    corner = (torch.arange(6) < k).to(DOUBLE)
    solver = OneHot(relaxation="entmax", alpha=2.0) if k == 1 else TopK(k, relaxation="budget")
    free = theta.clone().requires_grad_()
    expected = permutahedron(free / 0.8, corner.expand(5, 6))
    estimator = GumbelSoftmax(Rademacher(1e-12), temperature=0.8)  # no noise worth counting
    torch.testing.assert_close(estimator(solver, theta).y, expected.detach(), atol=1e-6, rtol=0)
    (slope,) = torch.autograd.grad((expected * up).sum(), free)
    torch.testing.assert_close(gradient(estimator, solver, theta, up), slope, atol=1e-5, rtol=0)
    assert (estimator(solver, theta).y == 0).any()


# ---- subsets


@pytest.mark.parametrize(("n", "k"), [(1, 1), (4, 1), (5, 2), (5, 5), (7, 4)])
def test_subsets_by_enumeration(n, k):
    theta = (3 * scores(2, n)).requires_grad_()
    every = TopK(k).vertices([n]).to(DOUBLE)
    p = (theta @ every.T).softmax(-1)
    mu = subsets.marginals(theta, k)
    torch.testing.assert_close(subsets.log_partition(theta, k), (theta @ every.T).logsumexp(-1))
    torch.testing.assert_close(mu, p @ every)
    torch.testing.assert_close(subsets.entropy(theta, k), -(p * p.log()).sum(-1), atol=1e-10, rtol=1e-7)
    up = scores(2, n)
    jacobian = torch.autograd.grad((mu * up).sum(), theta, retain_graph=True)[0]
    expected = torch.autograd.grad(((p @ every) * up).sum(), theta)[0]
    torch.testing.assert_close(jacobian, expected)
    torch.testing.assert_close(gradient(SIMPLE(), TopK(k), theta.detach(), up), expected)


def test_subset_samples_have_their_probabilities():
    theta, every = 1.5 * scores(5), TopK(3).vertices([5]).to(DOUBLE)
    y = SIMPLE(samples=MANY)(TopK(3), theta).y
    frequency = (y @ every.T == 3).double().mean(0)
    p = (every @ theta).softmax(0)
    assert ((frequency - p).abs() < 4.5 * (p * (1 - p) / MANY).sqrt()).all()


@pytest.mark.parametrize("scale", [0.0, 100.0, 1e4])
def test_subsets_of_extreme_scores_are_finite(scale):
    theta = (scale * torch.randn(3, 30)).requires_grad_()
    mu = subsets.marginals(theta, 4)
    (jacobian,) = torch.autograd.grad((mu * torch.randn(30)).sum(), theta)
    assert mu.isfinite().all()
    assert jacobian.isfinite().all()
    torch.testing.assert_close(mu.sum(-1), torch.full((3,), 4.0), atol=1e-2, rtol=0)


# ---- supervised

EULER = 0.57721566490153286


def test_fenchel_young_under_gumbel_noise_is_cross_entropy_plus_euler():
    theta, y = scores(3, 4), OneHot()(scores(3, 4))
    loss, grad, draw = supervised(FenchelYoung(Gumbel(), MANY), OneHot(), theta, Target(y=y))
    cross_entropy = theta.logsumexp(-1) - (theta * y).sum(-1)
    torch.testing.assert_close(loss, cross_entropy + EULER, atol=0.02, rtol=0)
    torch.testing.assert_close(grad, draw.y - y)
    torch.testing.assert_close(grad, theta.softmax(-1) - y, atol=0.01, rtol=0)


def regularised(solver: Solver, theta: Tensor, y: Tensor) -> Tensor:
    """log sum exp <theta, .> - <theta, y>, by enumeration."""
    every = solver.vertices(theta.shape[-1:] if solver.event_dim else []).to(theta)
    if not solver.event_dim:
        return (theta.unsqueeze(-1) * every).logsumexp(-1) - theta * y
    return (theta @ every.T).logsumexp(-1) - (theta * y).sum(-1)


@pytest.mark.parametrize("solver", [OneHot(), TopK(2), Threshold()])
def test_fenchel_young_without_noise_is_the_log_loss(solver):
    theta, y = scores(3, 5).requires_grad_(), solver(scores(3, 5))
    expected = regularised(solver, theta, y)
    loss, grad, _ = supervised(FenchelYoung(None), solver, theta.detach(), Target(y=y))
    torch.testing.assert_close(loss, expected.detach() if solver.event_dim else expected.detach().sum(-1))
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), theta)[0])


def test_spo_plus_is_its_subgradient():
    theta, right = scores(8, 6), scores(8, 6)
    loss, grad, _ = supervised(SPOPlus(), TopK(2), theta, Target(theta=right))
    y, tilted = TopK(2)(right), TopK(2)(2 * theta - right)
    torch.testing.assert_close(grad, 2 * (tilted - y))
    torch.testing.assert_close(loss, ((2 * theta - right) * (tilted - y)).sum(-1))
    regret = (right * (y - TopK(2)(theta))).sum(-1)
    assert (loss >= regret - 1e-12).all()


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_spo_plus_is_a_structured_svm_with_the_regret_as_margin(alpha):
    theta, right = scores(8, 6), scores(8, 6)
    target = Target(theta=right)
    loss, grad, _ = supervised(SPOPlus(alpha), TopK(2), theta, target)
    svm, slope, _ = supervised(StructuredSVM(1 / alpha, "regret"), TopK(2), theta, target)
    torch.testing.assert_close(loss, alpha * svm)
    torch.testing.assert_close(grad, alpha * slope)


def test_structured_svm_bounds_the_distance():
    theta, y = scores(20, 6), TopK(2)(scores(20, 6))
    loss, grad, draw = supervised(StructuredSVM(), TopK(2), theta, Target(y=y))
    every = TopK(2).vertices([6]).to(DOUBLE)
    distance = (every - y.unsqueeze(1)).abs().sum(-1)
    expected = (distance + theta @ every.T).amax(-1) - (theta * y).sum(-1)
    torch.testing.assert_close(loss, expected)
    assert (loss >= (draw.y - y).abs().sum(-1) - 1e-12).all()
    torch.testing.assert_close(grad, TopK(2)(theta + 1 - 2 * y) - y)


@pytest.mark.parametrize("two_sided", [False, True])
def test_perturbation_gradient_goes_to_the_decisions_value(two_sided):
    theta, right = scores(20, 6), scores(20, 6)
    loss, grad, draw = supervised(PerturbationGradient(1e-6, two_sided), TopK(2), theta, Target(theta=right))
    torch.testing.assert_close(loss, -(right * draw.y).sum(-1), atol=1e-6, rtol=0)
    loss, grad, draw = supervised(PerturbationGradient(0.5, two_sided), TopK(2), theta, Target(theta=right))
    ahead = TopK(2)(theta + 0.5 * right) if two_sided else draw.y
    torch.testing.assert_close(grad, (TopK(2)(theta - 0.5 * right) - ahead) / (1.0 if two_sided else 0.5))


@pytest.mark.parametrize("two_sided", [False, True])
def test_one_sided_perturbation_gradient_draws_theta_to_no_other_decision(two_sided):
    theta, right = scores(200, 6), scores(200, 6)
    _, grad, draw = supervised(PerturbationGradient(1.0, two_sided), TopK(2), theta, Target(theta=right))
    raised = (grad < 0) & (draw.y == 0)
    assert raised.any() == two_sided
    lengthened = (theta * grad).sum(-1) <= 0
    assert lengthened.all() != two_sided


# ---- sorting


def test_isotonic_is_isotonic_regression():
    for n in (1, 2, 7, 40):
        x = scores(n)
        expected = IsotonicRegression(increasing=False).fit_transform(range(n), x.numpy())
        torch.testing.assert_close(isotonic(x), torch.as_tensor(expected))


def test_isotonic_jacobian_averages_blocks():
    x = torch.tensor([1.0, 3.0, 2.5, -1.0, 0.0], dtype=DOUBLE)
    blocks = torch.zeros(5, 5, dtype=DOUBLE)
    blocks[:3, :3], blocks[3:, 3:] = 1 / 3, 1 / 2
    torch.testing.assert_close(torch.autograd.functional.jacobian(isotonic, x), blocks)


def test_permutahedron_is_the_nearest_point():
    z, w = scores(3), torch.tensor([4.0, 1.0, -2.0], dtype=DOUBLE)
    corners = torch.stack([w[list(p)] for p in itertools.permutations(range(3))])
    y = permutahedron(z, w)
    # the first-order condition of a projection, and that y is majorised by w
    assert ((corners - y) @ (z - y) <= 1e-9).all()
    assert (y.sort(descending=True).values.cumsum(0) <= w.cumsum(0) + 1e-9).all()
    torch.testing.assert_close(y.sum(), w.sum())


@pytest.mark.parametrize("function", [soft_rank, soft_sort])
def test_soft_sorting_is_hard_when_cold_and_flat_when_hot(function):
    theta = scores(4, 6)
    hard = theta.argsort(-1).argsort(-1) + 1.0 if function is soft_rank else theta.sort(-1, descending=True).values
    torch.testing.assert_close(function(theta, 1e-4), hard.to(DOUBLE))
    torch.testing.assert_close(
        function(theta, 1e6), hard.mean(-1, keepdim=True).expand(4, 6).to(DOUBLE), atol=1e-4, rtol=0
    )
    assert torch.autograd.gradcheck(lambda t: function(t, 0.7), theta.requires_grad_())


@pytest.mark.parametrize("function", [soft_rank, soft_sort])
@pytest.mark.parametrize("temperature", [1.0, 1e-2, 1e-4])
def test_many_numbers_are_sorted_as_exactly_in_single_precision(function, temperature):
    theta = torch.randn(2, 300)
    expected = function(theta.double(), temperature).float()
    torch.testing.assert_close(function(theta, temperature), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_relaxed_permutations_are_hard_when_cold(n):
    theta = scores(3, n)
    hard = torch.eye(n, dtype=DOUBLE)[theta.argsort(-1, descending=True)]
    for relaxed in (neural_sort, soft_sort_permutation, sorting_network):
        torch.testing.assert_close(relaxed(theta, 1e-5), hard, atol=1e-3, rtol=0)
    warm = sorting_network(theta, 0.5)
    torch.testing.assert_close(warm.sum(-1), torch.ones(3, n, dtype=DOUBLE))
    torch.testing.assert_close(warm.sum(-2), torch.ones(3, n, dtype=DOUBLE))


SORTERS = [
    (Rank, {}),
    (Sort, {}),
    (Sort, {"k": 2}),
    (Sort, {"descending": False}),
    (Permutation, {}),
    (Permutation, {"descending": False}),
]
METHODS = ["permutahedron", "neural_sort", "soft_sort", "network"]


@pytest.mark.parametrize(
    ("cls", "options", "method"),
    [
        (*sorter, method)
        for sorter in SORTERS
        for method in METHODS
        if (sorter[0], method) != (Permutation, "permutahedron")  # which has no permutation matrix
    ],
)
def test_smooth_sorting_approaches_the_solver(cls, options, method):
    theta, solver = scores(3, 5), cls(relaxation=method, **options)
    soft = GumbelSoftmax(temperature=1e-5)(solver, theta).y
    torch.testing.assert_close(soft, solver(theta), atol=2e-3, rtol=0)
