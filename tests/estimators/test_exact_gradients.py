"""Estimators that claim to be exact or unbiased, against enumeration and closed forms."""

import pytest
import torch
from steps import zeros_and_ones

from dbp.estimators import IMLE, Perturbed, Score
from dbp.noises import Gumbel, Logistic, LogNormal, Normal
from dbp.shapes import sum_to
from dbp.solvers import OneHot, Threshold, TopK

N = 200_000
C = torch.tensor([0.7, -1.2, 0.4, 1.1], dtype=torch.float64)
THETA = torch.tensor([0.3, -0.8, 0.5, 0.1], dtype=torch.float64)


def losses_of(y):
    """One for four scores: not linear, and not a sum over them."""
    return (y - 0.45).square() @ C + (y @ C).square()


def exact_gradient(solver, vertices):
    """The gradient of E loss over all decisions of `solver(theta + its noise)`."""
    theta = THETA.clone().requires_grad_()
    log_p = sum_to(solver.log_prob(theta.expand_as(vertices), vertices), 1)
    return torch.autograd.grad((log_p.exp() * losses_of(vertices)).sum(), theta)[0]


def drawn_gradients(estimator, solver):
    theta = THETA.expand(N, 4).clone().requires_grad_()
    draw = estimator(solver, theta)
    losses = draw.surrogate(losses_of(draw.y))  # [*samples, N]
    losses.reshape(-1, N).mean(0).sum().backward()
    return theta.grad


CASES = [(OneHot(), torch.eye(4).double(), Gumbel()), (Threshold(), zeros_and_ones(4).double(), Logistic())]


@pytest.mark.parametrize(("solver", "vertices", "noise"), CASES, ids=["one_hot", "threshold"])
@pytest.mark.parametrize("samples", [None, 1, 4])
@pytest.mark.parametrize("over", ["decisions", "noise"])
def test_the_score_function_is_unbiased(solver, vertices, noise, samples, over):
    grads = drawn_gradients(Score(samples, noise if over == "noise" else None), solver)
    z = (grads.mean(0) - exact_gradient(solver, vertices)) / (grads.std(0) / N**0.5)
    assert z.abs().max() < 4


def test_a_baseline_and_the_closed_form_lower_the_variance():
    def variance(*options):
        return drawn_gradients(Score(*options), OneHot()).var(0).sum()

    assert variance(4) < 0.5 * variance(None) / 4 + variance(None) / 4
    assert variance(4) < variance(4, Gumbel())


def test_one_loss_may_judge_several_decisions():
    """Two slots of two items, a joint loss: the score of both decisions is summed."""
    value = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)
    theta = torch.tensor([[0.2, -0.4], [0.6, 0.1]], dtype=torch.float64)

    def loss(y):  # [..., 2 slots, 2 items]
        return torch.einsum("...i,ij,...j->...", y[..., 0, :], value, y[..., 1, :])

    p = theta.clone().requires_grad_()
    q = p.softmax(-1)
    (exact,) = torch.autograd.grad(torch.einsum("i,ij,j->", q[0], value, q[1]), p)
    many = theta.expand(N, 2, 2).clone().requires_grad_()
    draw = Score(2)(OneHot(), many)
    draw.surrogate(loss(draw.y)).mean(0).sum().backward()
    z = (many.grad.mean(0) - exact) / (many.grad.std(0) / N**0.5)
    assert z.abs().max() < 4


def vjp(estimator, solver, theta, up, rows=40):
    """Rows of independent estimates of the mean decision and of `up^T J`."""
    many = theta.expand(rows, *theta.shape).clone().requires_grad_()
    draw = estimator(solver, many)
    draw.surrogate((draw.y * up).sum(-1)).sum().backward()
    return draw.y.detach(), many.grad


def assert_mean(rows, expected):
    z = (rows.mean(0) - expected) / (rows.std(0) / len(rows) ** 0.5).clamp_min(1e-12)
    assert z.abs().max() < 4.5


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_perturbed_argmax_with_gumbel_noise_is_softmax_in_value_and_jacobian(temperature):
    up = torch.tensor([1.0, -0.5, 2.0, 0.3], dtype=torch.float64)
    y, grad = vjp(Perturbed(Gumbel(temperature), 5000), OneHot(), THETA, up)
    jacobian = torch.autograd.functional.jacobian(lambda t: (t / temperature).softmax(-1), THETA)
    assert_mean(y, (THETA / temperature).softmax(-1))
    assert_mean(grad, up @ jacobian)


def test_perturbed_threshold_with_normal_noise_is_the_normal_distribution():
    normal = torch.distributions.Normal(0.0, 0.7)
    y, grad = vjp(Perturbed(Normal(0.7), 5000), Threshold(), THETA, torch.ones(4, dtype=torch.float64))
    assert_mean(y, normal.cdf(THETA))
    assert_mean(grad, normal.log_prob(THETA).exp())


def test_multiplicative_noise_keeps_signs_and_has_the_right_jacobian():
    theta = torch.tensor([0.8, -0.6, 1.1, -2.0], dtype=torch.float64)
    up = torch.tensor([1.0, -0.5, 2.0, 0.3], dtype=torch.float64)
    estimator = Perturbed(LogNormal(0.5), 5000)
    assert torch.equal(estimator.perturb(TopK(2), theta.expand(100, 4)).sign(), theta.sign().expand(100, 4))
    _, grad = vjp(estimator, TopK(2), theta, up)
    step = 0.05
    noise = (Normal(0.5).sample(torch.zeros(400_000, 4).double()) - 0.125).exp()
    moved = torch.stack([theta + sign * step * row for row in torch.eye(4).double() for sign in (1, -1)])
    values = torch.stack([TopK(2)(row * noise) @ up for row in moved]).mean(-1).view(4, 2)
    slope = (values[:, 0] - values[:, 1]) / (2 * step)
    torch.testing.assert_close(grad.mean(0), slope, atol=0.03, rtol=0)


def test_imle_comes_to_the_gradient_of_the_perturbed_layer_as_lam_falls():
    up = torch.tensor([1.0, -0.5, 2.0, 0.3], dtype=torch.float64)
    expected = up @ torch.autograd.functional.jacobian(lambda t: t.softmax(-1), THETA)
    errors = []
    for lam in (1.0, 0.1):
        many = THETA.expand(400_000, 4).clone().requires_grad_()
        draw = IMLE(lam, Gumbel())(OneHot(), many)
        draw.surrogate((draw.y * up).sum(-1)).sum().backward()
        errors.append((many.grad.mean(0) - expected).norm())
    assert errors[1] < 0.5 * errors[0]
    assert errors[1] < 0.05 * expected.norm()
