import pytest
import torch
from dbp_reinmax import ReinMax

from dbp import Unsupported, UserError
from dbp.solvers import OneHot, Threshold, TopK


def quadratic(y):
    a = torch.tensor([[1.0, 0.5, -1.0], [0.5, -2.0, 0.3], [-1.0, 0.3, 0.7]], dtype=torch.float64)
    return torch.einsum("...i,ij,...j->...", y, a, y) + y @ torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)


def test_the_gradient_of_a_quadratic_loss_is_exact():
    theta = torch.tensor([0.4, -0.3, 0.9], dtype=torch.float64)
    p = theta.clone().requires_grad_()
    (exact,) = torch.autograd.grad(p.softmax(-1) @ quadratic(torch.eye(3, dtype=torch.float64)), p)
    many = theta.expand(200_000, 3).clone().requires_grad_()
    torch.manual_seed(0)
    draw = ReinMax()(OneHot(), many)
    draw.surrogate(quadratic(draw.y)).sum().backward()
    z = (many.grad.mean(0) - exact) / (many.grad.std(0) / len(many) ** 0.5)
    assert z.abs().max() < 4


def test_the_gradient_of_a_quadratic_loss_of_bits_is_exact():
    theta = torch.tensor([0.8], dtype=torch.float64)
    p = theta.sigmoid()
    exact = p * (1 - p) * (3.0 - 1.0)  # of a loss that is 1 at y = 0 and 3 at y = 1
    many = theta.expand(200_000).clone().requires_grad_()
    torch.manual_seed(0)
    draw = ReinMax()(Threshold(), many)
    draw.surrogate(1 + draw.y + draw.y.square()).sum().backward()
    z = (many.grad.mean() - exact) / (many.grad.std() / len(many) ** 0.5)
    assert z.abs() < 4


def test_it_samples_what_training_draws():
    theta = torch.tensor([0.4, -0.3, 0.9]).expand(20_000, 3)
    torch.testing.assert_close(
        ReinMax().eval().sample(OneHot(), theta).mean(0), theta[0].softmax(-1), atol=0.02, rtol=0
    )


def test_the_gradient_is_the_formula():
    theta, up = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4)
    y = ReinMax(1.3)(OneHot(), theta).y

    def times(p):
        return p * (up - (p * up).sum(-1, keepdim=True))

    expected = 2 * times(((theta / 1.3).softmax(-1) + y) / 2) - times(theta.softmax(-1)) / 2
    torch.testing.assert_close(torch.autograd.grad((y * up).sum(), theta)[0], expected.detach())


def test_it_draws_from_the_softmax_and_is_the_solver_in_evaluation():
    theta = torch.tensor([0.4, -0.3, 0.9]).expand(100_000, 3)
    torch.testing.assert_close(ReinMax()(OneHot(), theta).y.mean(0), theta[0].softmax(-1), atol=0.01, rtol=0)
    assert torch.equal(ReinMax().eval()(OneHot(), theta).y, OneHot()(theta))


def test_it_says_what_it_needs():
    with pytest.raises(Unsupported, match="ReinMax needs a solver that has a distribution in closed form, which TopK"):
        ReinMax()(TopK(2), torch.randn(4, 5))
    with pytest.raises(UserError, match="temperature must be at least 1"):
        ReinMax(temperature=0.5)
