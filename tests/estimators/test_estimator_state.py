"""What estimators carry: it survives a state_dict, and only the estimator's own losses train it."""

import copy
import sys

import pytest
import torch
from examples import WRONG, Control, N, bridge
from steps import loss, run, theta_of
from torch import Tensor, nn

from dbp.core import Estimator, Target
from dbp.errors import Unsupported, UserError
from dbp.estimators import (
    ARMS,
    DAB,
    REBAR,
    RELAX,
    SIMPLE,
    ZGR,
    AdaptiveIMLE,
    Contrastive,
    DisARM,
    Exact,
    FenchelYoung,
    GumbelSoftmax,
    Ranking,
    Score,
    SPOPlus,
)
from dbp.solvers import OneHot, Rank, Sort, Threshold, TopK


@pytest.mark.parametrize(
    "make", [lambda: GumbelSoftmax(anneal=1e-4), AdaptiveIMLE, lambda: Score(2, baseline="average")]
)
def test_small_steps_of_its_state_are_not_lost_in_low_precision(make):
    states = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        estimator, theta = make().to(dtype), theta_of(5).bfloat16().to(dtype)
        for _ in range(20):
            run(estimator, OneHot(), theta)
        states.append([x.float() for x in estimator.state_dict().values()])
    torch.testing.assert_close(*states, atol=1e-6, rtol=1e-2)
    assert not torch.equal(states[1][0], next(iter(make().state_dict().values())))


# ---- who trains what


@pytest.mark.parametrize("condition", [False, True])
def test_the_bridge_learns_from_the_gap_alone(condition):
    torch.manual_seed(0)
    solver, estimator = TopK(2), DAB(bridge(), 3.0, condition)
    theta = theta_of(5).requires_grad_()
    draw = estimator(solver, theta)
    up = torch.randn(5, N)
    soft = estimator.bridge(theta)
    gap = 3.0 * (solver(theta) - soft).square().sum(-1).mean()
    task = (soft * up).sum(-1).mean()
    own = list(estimator.parameters())
    expected = torch.autograd.grad(gap, own, retain_graph=True)
    slope = torch.autograd.grad(task + gap if condition else task, theta)[0]
    draw.surrogate((draw.y * up).sum(-1)).mean().backward()
    torch.testing.assert_close([p.grad for p in own], list(expected))
    torch.testing.assert_close(theta.grad, slope)
    torch.testing.assert_close(estimator.error, (gap / 3 / N).detach())


def test_a_bridge_with_running_statistics_updates_them_once():
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm1d(N), nn.Linear(N, N))
    once = copy.deepcopy(net)
    once(theta_of(5))
    draw = DAB(net)(TopK(2), theta_of(5).requires_grad_())
    draw.surrogate(loss(draw.y)).mean().backward()
    torch.testing.assert_close(net[0].running_mean, once[0].running_mean)


def test_a_bridge_of_the_wrong_width_is_an_error():
    with pytest.raises(UserError, match=r"the bridge makes \[5, 3\] .* the decision is \[5, 6\]"):
        DAB(bridge(3))(TopK(2), theta_of(5))


@pytest.mark.parametrize("make", [REBAR, lambda: RELAX(Control())])
def test_a_control_variate_is_trained_by_the_variance_and_trains_nothing_else(make):
    torch.manual_seed(0)
    estimator, decoder = make().double(), nn.Linear(N, 1).double()
    theta = theta_of(3).double().requires_grad_()

    def losses(y: Tensor) -> Tensor:
        return decoder(y).squeeze(-1).square()

    torch.manual_seed(5)
    draw = estimator(OneHot(), theta)
    draw.surrogate(losses(draw.y)).mean().backward()
    slopes = {name: p.grad.clone() for name, p in estimator.named_parameters()}
    # the decoder learns from the losses of y alone
    expected = torch.autograd.grad(losses(draw.y[0].detach()).mean(), list(decoder.parameters()))
    torch.testing.assert_close([p.grad for p in decoder.parameters()], list(expected))
    # the own parameters have the gradient of the estimate's mean square, here by finite differences

    def square() -> Tensor:
        torch.manual_seed(5)
        draw = estimator(OneHot(), theta)
        (grad,) = torch.autograd.grad(draw.surrogate(losses(draw.y)).sum(), theta)
        return grad.square().sum(-1).mean()

    for name, p in estimator.named_parameters():
        flat, slope = p.data.view(-1), slopes[name].view(-1)
        step = 1e-5
        flat[0] += step
        ahead = square()
        flat[0] -= 2 * step
        behind = square()
        flat[0] += step
        torch.testing.assert_close((ahead - behind) / (2 * step), slope[0], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("make", [REBAR, lambda: RELAX(Control()), lambda: RELAX(Control(), black_box=True)])
def test_decisions_in_a_row_tune_a_control_variate_as_if_each_had_its_own(make):
    torch.manual_seed(0)
    between, both = nn.Linear(N, N), make()
    apart = [copy.deepcopy(both) for _ in range(2)]

    def slopes(first: Estimator, second: Estimator) -> None:
        torch.manual_seed(5)
        one = first(OneHot(), theta_of(3).requires_grad_())
        two = second(OneHot(), between(one.y))
        one.surrogate(two.surrogate(loss(two.y))).mean().backward()

    slopes(both, both)
    slopes(*apart)
    for p, first, second in zip(both.parameters(), *(e.parameters() for e in apart), strict=True):
        if p.requires_grad:
            torch.testing.assert_close(p.grad, first.grad + second.grad)


@pytest.mark.parametrize("estimator", [REBAR(), RELAX(Control())])
def test_losses_that_go_round_the_surrogate_are_an_error(estimator):
    draw = estimator(OneHot(), theta_of(3).requires_grad_())
    with pytest.raises(UserError, match="surrogate"):
        loss(draw.y).mean().backward()


# ---- pools


def test_a_pool_keeps_the_latest_different_decisions():
    pool = Contrastive(capacity=3).pool
    eye = torch.eye(5)
    pool.add(eye[[0, 1, 0]], 1)
    assert pool.known.sum() == 2
    pool.add(eye[[1, 2, 3]], 1)
    assert pool.known.sum() == 3
    kept = {row.argmax().item() for row in pool.decisions[:-1]}
    assert kept == {1, 2, 3}
    pool.add(eye[[4]], 1)
    assert {row.argmax().item() for row in pool.decisions[:-1]} == {2, 3, 4}


def pooled(estimator: Estimator, theta: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    draw = estimator(TopK(2), theta, target=Target(theta=right))
    return draw.surrogate(loss(draw.y)).detach(), estimator.pool.decisions[:-1][estimator.pool.known[:-1]]


def test_pool_losses_by_their_formulas():
    theta, right = theta_of(4), theta_of(4).flip(0)
    best = TopK(2)(right)
    for variant in ("nce", "map"):
        losses, pool = pooled(Contrastive(variant), theta, right)
        gaps = (pool - best.unsqueeze(1)) @ theta.unsqueeze(-1)
        expected = gaps.squeeze(-1).mean(-1) if variant == "nce" else gaps.squeeze(-1).amax(-1)
        torch.testing.assert_close(losses, expected)
    for variant in ("pointwise", "pairwise", "listwise"):
        losses, pool = pooled(Ranking(variant, margin=0.3, temperature=0.7), theta, right)
        a, b = theta @ pool.T, right @ pool.T
        if variant == "pointwise":
            expected = (a - b).square().mean(-1)
        elif variant == "pairwise":
            top = b.argmax(-1)
            hinge = (0.3 + a - a.gather(-1, top.unsqueeze(-1))).relu()
            expected = (hinge.sum(-1) - 0.3) / (len(pool) - 1)
        else:
            expected = -((b / 0.7).softmax(-1) * (a / 0.7).log_softmax(-1)).sum(-1)
        torch.testing.assert_close(losses, expected)


def test_without_solving_y_is_the_best_of_the_pool():
    estimator = Contrastive(solve_ratio=0.0)
    theta, right = theta_of(4), theta_of(4).flip(0)
    y = estimator(TopK(2), theta, target=Target(theta=right)).y
    pool = estimator.pool.decisions[:-1][estimator.pool.known[:-1]]
    assert torch.equal(y, pool[(theta @ pool.T).argmax(-1)])
    assert (estimator.pool.known.sum() <= 4).item()


# ---- what a solver or a task lacks


@pytest.mark.parametrize(
    ("estimator", "solver", "message"),
    [
        (ZGR(), TopK(2), "ZGR needs a solver that has a distribution in closed form, which TopK does not claim"),
        (REBAR(), TopK(2), "estimators that work for it: .*imle"),
        (DisARM(), OneHot(), "decides each score for itself, which OneHot does not claim"),
        (SIMPLE(), Rank(), "has a log-partition, which Rank does not claim"),
        (Exact(), Sort(), "maximises <theta, y>, which Sort does not claim"),
        (FenchelYoung(None), Rank(), "noise=normal or gumbel"),
        (SPOPlus(), TopK(2), "right scores, which this task does not give"),
        (FenchelYoung(), TopK(2), "right decision, which this task does not give"),
    ],
)
def test_what_is_missing_is_said_in_one_line(estimator, solver, message):
    given = Target(theta_of(2)) if isinstance(estimator, FenchelYoung) and isinstance(solver, Sort) else Target()
    with pytest.raises(Unsupported, match=message) as caught:
        estimator.train()(solver, theta_of(2), target=given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("estimator", "solver"),
    [
        (Score(), OneHot()),
        (DisARM(), Threshold()),
        (ARMS(), Threshold()),
        (REBAR(), OneHot()),
        (RELAX(Control()), OneHot()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_losses_that_were_added_up_before_they_are_compared_are_refused(estimator, solver):
    draw = estimator(solver, theta_of(2).requires_grad_())
    with pytest.raises(UserError, match="one loss for each decision"):
        draw.surrogate(loss(draw.y).mean())


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "entmax", None)
    for make in (lambda: OneHot(relaxation="entmax"), lambda: TopK(2, relaxation="budget")):
        with pytest.raises(UserError, match="pip install"):
            make()


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_a_wrong_option_is_a_user_error(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_exact_bits_of_their_own_losses():
    theta, up = theta_of(4).requires_grad_(), torch.randn(N)
    draw = Exact()(Threshold(), theta)
    losses = draw.surrogate(draw.y * up)  # one for each bit
    losses.mean(0).sum().backward()
    p = theta.detach().sigmoid()
    torch.testing.assert_close(theta.grad, up * p * (1 - p))
