import pytest
import torch

from dbp.core import Draw, Estimator, Solver, Target
from dbp.errors import Unsupported, UserError
from dbp.estimators import (
    IMLE,
    AdaptiveIMLE,
    Blackbox,
    Contrastive,
    FenchelYoung,
    GumbelSoftmax,
    Identity,
    PerturbationGradient,
    Perturbed,
    Score,
    SPOPlus,
    StraightThrough,
    StructuredSVM,
)
from dbp.noises import Gumbel, Normal, SumOfGamma, Uniform
from dbp.solvers import KMeans, OneHot, Or, Permutation, Threshold, TopK

BATCH = 6


@pytest.mark.parametrize(
    "est",
    [
        Identity(),
        Identity(projection="norm"),
        StraightThrough(),
        StraightThrough(Gumbel()),
        GumbelSoftmax(temperature=0.5),
        Blackbox(5.0),
        IMLE(5.0, SumOfGamma(0.3, k=3)),
        Perturbed(Normal(0.5)),
        Score(8, Normal(0.5)),
    ],
    ids=lambda est: type(est).__name__,
)
def test_it_learns_to_choose_the_cheapest(est):
    cost, solver = torch.randn(64, 12), TopK(3)
    theta = torch.nn.Parameter(0.1 * torch.randn(64, 12))
    optimizer = torch.optim.Adam([theta], 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        draw = est(solver, theta)
        draw.surrogate((draw.y * cost).sum(-1)).mean().backward()
        optimizer.step()
    best = (solver(-cost) * cost).sum(-1).mean()
    assert (est.eval()(solver, theta).y * cost).sum(-1).mean() < best + 0.02 * best.abs()


def test_identity_subtracts_the_mean_and_the_radial_part_of_the_gradient():
    theta, g = torch.randn(5, dtype=torch.float64, requires_grad=True), torch.randn(5, dtype=torch.float64)
    Identity()(OneHot(), theta).y.backward(g)
    t = theta.detach()
    centred = t - t.mean()
    p = centred / centred.norm()
    expected = (g - p * (g @ p)) / centred.norm()
    torch.testing.assert_close(theta.grad, expected - expected.mean())


def test_the_uniform_margin_moves_every_score_by_half_and_the_informed_one_against_the_target():
    moved = []
    solver = type("Spy", (OneHot,), {"solve": lambda self, t, i: moved.append(t.clone()) or OneHot().solve(t, i)})()
    theta = torch.tensor([[0.0, 1.0, 2.0]])
    Identity("none", margin=0.4)(solver, theta)
    torch.testing.assert_close((moved[0] - theta).abs(), torch.full((1, 3), 0.2))
    y = torch.tensor([[0.0, 0.0, 1.0]])
    Identity("none", margin=0.4, informed=True)(solver, theta, target=Target(y=y))
    torch.testing.assert_close(moved[1] - theta, torch.tensor([[0.2, 0.2, -0.2]]))
    with pytest.raises(Unsupported, match="Identity learns from the right decision"):
        Identity("none", margin=0.4, informed=True)(solver, theta)


def test_blackbox_is_the_difference_of_two_solver_calls():
    theta, w = torch.randn(40, 6), torch.randn(40, 6)
    leaf = theta.clone().requires_grad_()
    draw = Blackbox(2.0)(TopK(2), leaf)
    draw.surrogate((draw.y * w).sum(-1)).sum().backward()
    torch.testing.assert_close(leaf.grad, (TopK(2)(theta) - TopK(2)(theta - 2 * w)) / 2)


def test_imle_shares_its_noise_between_both_calls():
    theta, w = torch.randn(40, 6), torch.randn(40, 6)
    leaf = theta.clone().requires_grad_()
    torch.manual_seed(4)
    draw = IMLE(2.0)(TopK(2), leaf)
    draw.surrogate((draw.y * w).sum(-1)).sum().backward()
    torch.manual_seed(4)
    noisy = theta + Gumbel().sample(theta)
    assert torch.equal(draw.y, TopK(2)(noisy))
    torch.testing.assert_close(leaf.grad, (TopK(2)(noisy) - TopK(2)(noisy - 2 * w)) / 2)


def test_sample_draws_as_training_does_even_in_evaluation():
    theta = torch.zeros(2000, 4)
    share = IMLE(noise=Gumbel()).eval().sample(OneHot(), theta).mean(0)
    torch.testing.assert_close(share, torch.full((4,), 0.25), atol=0.05, rtol=0)
    assert torch.equal(Identity().eval().sample(OneHot(), theta), OneHot()(theta))
    share = Score(samples=None).eval().sample(Threshold(), theta).mean()
    assert abs(share - 0.5) < 0.03


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Blackbox(0.0), "lam must be positive"),
        (lambda: IMLE(-1.0), "lam must be positive"),
        (lambda: StraightThrough(temperature=0.0), "temperature must be positive"),
        (lambda: Perturbed(samples=0), "samples must be at least 1"),
        (lambda: Score(samples=0), "samples must be at least 1"),
        (lambda: Identity(informed=True), "margin must be positive"),
    ],
)
def test_a_bad_option_says_what_is_wrong(make, message):
    with pytest.raises(UserError, match=message):
        make()


class Stubborn(Solver):
    """Neither a relaxation nor a noise of its own."""

    def solve(self, theta, instance):
        return OneHot().solve(theta, instance)


@pytest.mark.parametrize(
    ("est", "message"),
    [
        (StraightThrough(), "a solver that has a relaxation, which Stubborn does not claim; .*identity"),
        (GumbelSoftmax(), "a solver that has a relaxation, which Stubborn does not claim; .*imle"),
        (Score(), "a distribution in closed form, which Stubborn does not claim; .*perturbed.*give noise=normal"),
        (Perturbed(Uniform()), "Uniform noise has no differentiable density"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Estimator) else "",
)
def test_a_solver_that_lacks_what_an_estimator_needs_names_one_that_works(est, message):
    with pytest.raises(Unsupported, match=message):
        est(Stubborn(), torch.randn(3, 4, requires_grad=True))


@pytest.mark.parametrize("shape", [(BATCH, 1), (5,), (BATCH, 5, 5)])
def test_losses_that_do_not_match_the_decisions_are_refused(shape):
    draw: Draw = IMLE()(OneHot(), torch.randn(BATCH, 5))
    with pytest.raises(UserError, match="reduce them to one loss for each decision"):
        draw.surrogate(torch.zeros(shape))


@pytest.mark.parametrize("solver", [Or(), Permutation(), KMeans(2)])
@pytest.mark.parametrize(
    "make",
    [Identity, Blackbox, IMLE, AdaptiveIMLE, SPOPlus, StructuredSVM, FenchelYoung, PerturbationGradient, Contrastive],
)
def test_a_solver_that_is_not_linear_is_refused_in_a_line(make, solver):
    theta = torch.randn(2, 6, 2, requires_grad=True)
    target = Target(solver(theta.detach()), theta.detach())
    with pytest.raises(Unsupported, match=r"a solver that maximises <theta, y>, which \w+ does not claim; .*perturbed"):
        make()(solver, theta, None, target)
