"""Estimators that claim to be unbiased, against the exact gradient of the expected loss by enumeration."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dbp.core import Estimator
from dbp.estimators import ARMS, REBAR, RELAX, SIMPLE, ZGR, DisARM, Exact, Perturbed, Score, Unordered
from dbp.noises import Gumbel, Logistic
from dbp.solvers import OneHot, Threshold, TopK

DRAWS = 200_000
SCORES = torch.tensor([0.4, -0.7, 1.1, -0.2], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, -1.0, 0.8, 0.5], dtype=torch.float64)

CUBE = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=torch.float64)
PAIRS = CUBE[CUBE.sum(-1) == 2]


def loss(y: Tensor) -> Tensor:
    """Not linear, not quadratic, one for each decision of the last dim."""
    return torch.tanh(y @ WEIGHTS) + (y - 0.45).square() @ WEIGHTS + (y @ WEIGHTS).pow(3)


def linear(y: Tensor) -> Tensor:
    return y @ WEIGHTS


def gibbs(theta: Tensor, vertices: Tensor) -> Tensor:
    """p(y) proportional to exp <theta, y>: Gumbel noise on a one_hot, logistic noise on a threshold."""
    return (vertices @ theta).softmax(0)


def without_replacement(theta: Tensor, vertices: Tensor) -> Tensor:
    """The probability of each pair as the two largest scores under Gumbel noise."""
    p = theta.softmax(0)
    i, j = vertices.topk(2).indices.unbind(-1)
    return p[i] * p[j] / (1 - p[i]) + p[i] * p[j] / (1 - p[j])


CASES = {
    "one_hot": (OneHot(), torch.eye(4, dtype=torch.float64), gibbs),
    "threshold": (Threshold(), CUBE, gibbs),
    "top_k": (TopK(2), PAIRS, without_replacement),
    "top_k, gibbs": (TopK(2), PAIRS, gibbs),
}


def exact(case: str, loss=loss) -> Tensor:
    """The gradient of the expected loss, by enumeration."""
    theta = SCORES.clone().requires_grad_()
    _, vertices, probability = CASES[case]
    return torch.autograd.grad(probability(theta, vertices) @ loss(vertices), theta)[0]


def z_scores(case: str, estimator: Estimator, loss=loss, rows: int = DRAWS) -> Tensor:
    """How many standard errors the mean gradient of `rows` independent draws is from the exact one."""
    torch.manual_seed(0)
    theta = SCORES.expand(rows, -1).clone().requires_grad_()
    draw = estimator.double().train()(CASES[case][0], theta)
    draw.surrogate(loss(draw.y)).reshape(-1, rows).mean(0).sum().backward()
    assert theta.grad is not None
    error, deviation = theta.grad.mean(0) - exact(case, loss), theta.grad.std(0)
    return error / (deviation / rows**0.5 + 1e-12)


def control() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(-2))


def averaged() -> Score:
    estimator = Score(None, baseline="average")
    estimator.average.fill_(0.5), estimator.weight.fill_(0.8)
    return estimator


TRACTABLE = ("one_hot", "threshold")
UNBIASED: dict[str, tuple[tuple[str, ...], Callable[[], Estimator]]] = {
    "score, alone": (TRACTABLE, lambda: Score(1)),
    "score, average": (TRACTABLE, averaged),
    "score, others": (TRACTABLE, lambda: Score(4)),
    "score over gumbel": (("one_hot", "top_k"), lambda: Score(4, noise=Gumbel())),
    "score over logistic": (("threshold",), lambda: Score(4, noise=Logistic())),
    "rebar": (TRACTABLE, REBAR),
    "rebar, two samples": (TRACTABLE, lambda: REBAR(temperature=0.3, eta=0.7, samples=2)),
    "relax": (TRACTABLE, lambda: RELAX(control())),
    "relax, black box": (TRACTABLE, lambda: RELAX(control(), black_box=True)),
    "disarm": (("threshold",), DisARM),
    "disarm, two pairs": (("threshold",), lambda: DisARM(4)),
    "arms": (("threshold",), ARMS),
    "arms, two": (("threshold",), lambda: ARMS(2)),
    "unordered": (("one_hot", "top_k, gibbs"), lambda: Unordered(3)),
    "unordered, jointly": (("threshold",), lambda: Unordered(4, joint=1)),
}


@pytest.mark.parametrize(
    ("case", "make"),
    [pytest.param(case, make, id=f"{name}, {case}") for name, (cases, make) in UNBIASED.items() for case in cases],
)
def test_the_mean_is_exact_for_any_loss(case, make):
    z = z_scores(case, make())
    assert z.abs().max() < 4, z


class PerSlot(nn.Module):
    """A control variate for each slot; they are summed, as the slots share a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, soft: Tensor) -> Tensor:
        return self.layer(soft).squeeze(-1)


@pytest.mark.parametrize(
    "make",
    [Score, REBAR, lambda: RELAX(PerSlot()), lambda: Unordered(3, joint=1), ZGR],
    ids=["score", "rebar", "relax", "unordered", "zgr is not"],
)
def test_decisions_that_share_a_loss(make):
    """Two slots of one_hot, one loss of both."""
    torch.manual_seed(0)
    mix = torch.randn(8, dtype=torch.float64)

    def of_both(y: Tensor) -> Tensor:
        return torch.sin(2 * (y.flatten(-2) @ mix)) + y[..., 0, 1] * y[..., 1, 2]

    slots = torch.stack([SCORES, SCORES.flip(0) * 1.5]).requires_grad_()
    every = torch.stack([torch.stack(pair) for pair in itertools.product(torch.eye(4, dtype=torch.float64), repeat=2)])
    p = (every * slots).sum((-2, -1)).softmax(0)
    truth = torch.autograd.grad(p @ of_both(every), slots)[0]
    theta = slots.detach().expand(DRAWS // 2, 2, 4).clone().requires_grad_()
    draw = make().double()(OneHot(), theta)
    draw.surrogate(of_both(draw.y)).reshape(-1, len(theta)).mean(0).sum().backward()
    z = (theta.grad.mean(0) - truth) / (theta.grad.std(0) / len(theta) ** 0.5)
    assert (z.abs().max() < 4) != (make().__class__ is ZGR)


LINEAR: dict[str, tuple[tuple[str, ...], Callable[[], Estimator]]] = {
    "perturbed": (("one_hot", "top_k"), lambda: Perturbed(Gumbel(), 4)),
    "perturbed, logistic": (("threshold",), lambda: Perturbed(Logistic(), 4)),
    "perturbed, antithetic": (("threshold",), lambda: Perturbed(Logistic(), 4, antithetic=True)),
    "simple": (("one_hot", "top_k, gibbs"), SIMPLE),
}


@pytest.mark.parametrize(
    ("case", "make"),
    [pytest.param(case, make, id=f"{name}, {case}") for name, (cases, make) in LINEAR.items() for case in cases],
)
def test_the_mean_is_exact_for_a_linear_loss(case, make):
    z = z_scores(case, make(), linear)
    assert z.abs().max() < 4, z


@pytest.mark.parametrize(("case", "joint"), [("one_hot", 0), ("threshold", 1), ("top_k, gibbs", 0)])
def test_exact_is_exact(case, joint):
    theta = SCORES.expand(3, -1).clone().requires_grad_()
    draw = Exact(joint)(CASES[case][0], theta)
    losses = draw.surrogate(loss(draw.y)).mean(0)
    losses.sum().backward()
    torch.testing.assert_close(theta.grad, exact(case).expand(3, -1))
    _, vertices, probability = CASES[case]
    torch.testing.assert_close(losses.detach(), (probability(SCORES, vertices) @ loss(vertices)).expand(3))


def test_unordered_estimates_the_loss_too():
    torch.manual_seed(0)
    draw = Unordered(3)(OneHot(), SCORES.expand(DRAWS, -1))
    estimate = draw.surrogate(loss(draw.y)).mean(0)
    error = estimate.mean() - SCORES.softmax(0) @ loss(torch.eye(4).double())
    assert error.abs() < 4 * estimate.std() / DRAWS**0.5
    assert (draw.y.sum(0) <= 1).all()  # no decision twice


def test_a_bias_is_seen():
    assert z_scores("one_hot", ZGR()).abs().max() > 10
    assert z_scores("threshold", Score(4, noise=Logistic(1.2))).abs().max() > 10


@pytest.mark.parametrize("estimator", [REBAR(temperature=3, eta=2), RELAX(control())])
def test_control_variates_learn_a_lower_variance(estimator):
    theta = SCORES.expand(2000, -1).clone().requires_grad_()

    def variance() -> tuple[Tensor, Tensor]:
        draw = estimator.double()(Threshold(), theta)
        losses = draw.surrogate(loss(draw.y))
        return torch.autograd.grad(losses.sum(), theta, retain_graph=True)[0].var(0).sum(), losses

    torch.manual_seed(0)
    optimizer = torch.optim.Adam(estimator.parameters(), 0.02)
    before = variance()[0]
    for _ in range(200):
        optimizer.zero_grad()
        variance()[1].mean().backward()
        optimizer.step()
    assert variance()[0] < 0.85 * before
