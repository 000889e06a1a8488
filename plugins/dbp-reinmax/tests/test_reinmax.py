import pytest
import torch
from dbp_reinmax import ReinMax

from dbp import Unsupported, UserError
from dbp.solvers import OneHot, TopK


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


def test_it_draws_from_the_softmax_and_is_the_solver_in_evaluation():
    theta = torch.tensor([0.4, -0.3, 0.9]).expand(100_000, 3)
    torch.testing.assert_close(ReinMax()(OneHot(), theta).y.mean(0), theta[0].softmax(-1), atol=0.01, rtol=0)
    assert torch.equal(ReinMax().eval()(OneHot(), theta).y, OneHot()(theta))


def test_it_says_what_it_needs():
    with pytest.raises(Unsupported, match="use solver=one_hot"):
        ReinMax()(TopK(2), torch.randn(4, 5))
    with pytest.raises(UserError, match="temperature must be at least 1"):
        ReinMax(temperature=0.5)
