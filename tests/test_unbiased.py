"""Estimators that claim to be unbiased, against the exact gradient of the expected loss by enumeration."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from dbp.core import Estimator, Solver
from dbp.estimators import ARMS, REBAR, RELAX, DisARM, ReinMax, Score
from dbp.noises import Gumbel, Logistic
from dbp.solvers import OneHot, Threshold

DRAWS = 200_000
SCORES = torch.tensor([0.4, -0.7, 1.1, -0.2], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, -1.0, 0.8, 0.5], dtype=torch.float64)

CUBE = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=torch.float64)
VERTICES: dict[str, tuple[Solver, Tensor]] = {
    "one_hot": (OneHot(), torch.eye(4, dtype=torch.float64)),
    "threshold": (Threshold(), CUBE),
}


def loss(y: Tensor) -> Tensor:
    """Not linear, not quadratic, one for each decision of the last dim."""
    return torch.tanh(y @ WEIGHTS) + (y - 0.45).square() @ WEIGHTS + (y @ WEIGHTS).pow(3)


def exact(vertices: Tensor, loss=loss) -> Tensor:
    """The gradient of the expected loss under p(y) proportional to exp <theta, y>."""
    theta = SCORES.clone().requires_grad_()
    expected = (vertices @ theta).softmax(0) @ loss(vertices)
    return torch.autograd.grad(expected, theta)[0]


def z_scores(estimator: Estimator, solver: Solver, truth: Tensor, loss=loss, rows: int = DRAWS) -> Tensor:
    """How many standard errors the mean gradient of `rows` independent draws is from the truth."""
    torch.manual_seed(0)
    theta = SCORES.expand(rows, -1).clone().requires_grad_()
    draw = estimator.double().train()(solver, theta)
    losses = draw.surrogate(loss(draw.y))
    losses.reshape(-1, rows).mean(0).sum().backward()
    assert theta.grad is not None
    return (theta.grad.mean(0) - truth) / (theta.grad.std(0) / rows**0.5)


def control() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(-2))


def averaged(estimator: Score) -> Score:
    estimator.average.fill_(0.5), estimator.weight.fill_(0.8)
    return estimator


UNBIASED = {
    "score, alone": ("both", lambda: Score(1)),
    "score, average": ("both", lambda: averaged(Score(None, baseline="average"))),
    "score, others": ("both", lambda: Score(4)),
    "rebar": ("both", lambda: REBAR()),
    "rebar, two samples": ("both", lambda: REBAR(temperature=0.3, eta=0.7, samples=2)),
    "relax": ("both", lambda: RELAX(control())),
    "relax, black box": ("both", lambda: RELAX(control(), black_box=True)),
    "score over gumbel": ("one_hot", lambda: Score(4, noise=Gumbel())),
    "score over logistic": ("threshold", lambda: Score(4, noise=Logistic())),
    "disarm": ("threshold", lambda: DisARM()),
    "disarm, two pairs": ("threshold", lambda: DisARM(4)),
    "arms": ("threshold", lambda: ARMS(4)),
    "arms, two": ("threshold", lambda: ARMS(2)),
}
CASES = [
    pytest.param(kind, make, id=f"{name}, {kind}")
    for name, (kinds, make) in UNBIASED.items()
    for kind in (VERTICES if kinds == "both" else [kinds])
]


@pytest.mark.parametrize(("kind", "make"), CASES)
def test_mean_is_exact(kind, make):
    solver, vertices = VERTICES[kind]
    z = z_scores(make(), solver, exact(vertices))
    assert z.abs().max() < 4, z


def test_reinmax_is_exact_for_a_quadratic_loss():
    def quadratic(y: Tensor) -> Tensor:
        return (y @ WEIGHTS).square() + (y - 0.45).square() @ WEIGHTS

    z = z_scores(ReinMax(), OneHot(), exact(torch.eye(4, dtype=torch.float64), quadratic), quadratic)
    assert z.abs().max() < 4, z


def test_the_test_sees_a_bias():
    z = z_scores(ReinMax(), OneHot(), exact(torch.eye(4, dtype=torch.float64)))
    assert z.abs().max() > 10
