import pytest
import torch

import dbp
from dbp.errors import UserError
from dbp.estimators import IMLE, Blackbox, Identity, Perturbed
from dbp.gradients.rules import only_gradient, pull_back, straight_through
from dbp.solvers import OneHot


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other():
    hard, soft = torch.randn(5), torch.randn(5, requires_grad=True)
    y = straight_through(hard, soft)
    assert torch.equal(y, hard)
    y.backward(torch.arange(5.0))
    assert torch.equal(soft.grad, torch.arange(5.0))
    with pytest.raises(ValueError, match="one shape"):
        straight_through(hard, soft[:4])


def test_straight_through_differentiates_twice_and_under_vmap():
    def loss(x):
        return straight_through(torch.sign(x), torch.tanh(x)).square().sum()

    x = torch.randn(4, 3, dtype=torch.float64)
    each = torch.stack([torch.func.grad(loss)(row) for row in x])
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(x), each)
    x.requires_grad_()
    (first,) = torch.autograd.grad(loss(x), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert second.abs().sum() > 0


def test_only_gradient_is_zero_with_a_gradient():
    x = torch.randn(3, requires_grad=True)
    assert torch.equal(only_gradient(x.square()), torch.zeros(3))
    only_gradient(x.square()).sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())


def pulled(scale=1.0, surrogate=True, losses_of=lambda y: (y * torch.arange(1.0, 4)).sum(-1).tanh()):
    """What a pullback was given, and what came out at theta."""
    seen = []
    theta = torch.ones(4, 3, requires_grad=True)
    y, record = pull_back(
        torch.linspace(-1, 1, 12).view(4, 3), theta, lambda grad: seen.append(grad) or torch.sign(grad)
    )
    losses = losses_of(y)
    ((record(losses) if surrogate else losses).mean() * scale).backward()
    return seen[0], theta.grad


def test_a_pullback_sees_the_gradient_of_each_decisions_own_loss():
    y = torch.linspace(-1, 1, 12).view(4, 3).requires_grad_()
    (own,) = torch.autograd.grad((y * torch.arange(1.0, 4)).sum(-1).tanh().sum(), y)
    for scale in (1.0, 65536.0, 0.25):
        seen, grad = pulled(scale)
        torch.testing.assert_close(seen, own)
        torch.testing.assert_close(grad, torch.sign(own) * scale / 4)


def test_without_the_surrogate_a_pullback_sees_what_arrives():
    with_it, without = pulled()[0], pulled(surrogate=False)[0]
    torch.testing.assert_close(without, with_it / 4)


def test_a_loss_of_weight_zero_gives_no_gradient():
    theta = torch.ones(2, 3, requires_grad=True)
    y, record = pull_back(torch.ones(2, 3), theta, lambda grad: grad + 1)
    (record(y.sum(-1)) * torch.tensor([1.0, 0.0])).sum().backward()
    assert torch.equal(theta.grad, torch.tensor([[2.0] * 3, [0.0] * 3]))


def test_an_overflowed_gradient_is_passed_on_and_the_pullback_never_sees_it():
    seen, grad = pulled(losses_of=lambda y: y.sum(-1) * torch.tensor([1.0, 1.0, float("inf"), 1.0]))
    assert seen.isfinite().all()
    assert not grad.isfinite().all()


def test_two_decisions_in_sequence_compose():
    theta = torch.ones(4, 3, requires_grad=True)
    first, outer = pull_back(torch.ones(4, 3), theta, torch.sign)
    second, inner = pull_back(torch.ones(4, 3), first * 2, torch.sign)
    outer(inner(second.sum(-1))).mean().backward()
    assert torch.equal(theta.grad, torch.full((4, 3), 0.25))


def test_a_second_derivative_of_a_pullback_is_an_error_and_not_zero():
    theta = torch.ones(2, requires_grad=True)
    y = pull_back(torch.ones(2), theta, torch.sign).y
    (first,) = torch.autograd.grad(y.square().sum(), theta, create_graph=True)
    with pytest.raises(RuntimeError):
        first.sum().backward()


def test_two_surrogates_of_one_draw_need_one_weight():
    def backward(first, second):
        theta = torch.randn(4, 3, requires_grad=True)
        draw = Blackbox(2.0)(OneHot(), theta)
        losses = draw.y.square().sum(-1), (draw.y * torch.arange(3.0)).sum(-1)
        (first * draw.surrogate(losses[0]).sum() + second * draw.surrogate(losses[1]).sum()).backward()
        return theta

    theta = backward(3.0, 3.0)
    dy = 2 * OneHot()(theta) + torch.arange(3.0)  # the gradient of the decision's own loss, the sum of both
    expected = 3 * (OneHot()(theta) - OneHot()(theta.detach() - 2 * dy)) / 2
    torch.testing.assert_close(theta.grad, expected)
    with pytest.raises(UserError, match="different weights"):
        backward(3.0, 1.0)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own, at its first jvp
@pytest.mark.parametrize("make", [Blackbox, IMLE, lambda: IMLE(samples=3), lambda: Perturbed(samples=4), Identity])
def test_torch_func_differentiates_and_says_what_it_cannot(make):
    layer, w, theta = dbp.Layer(OneHot(), make()), torch.tensor([1.0, -2.0, 0.5]), torch.randn(4, 3)

    def loss(theta):
        draw = layer.draw(theta)
        return 3 * draw.surrogate((draw.y * w).sum(-1).square()).mean()

    torch.manual_seed(0)
    ours = torch.func.grad(loss)(theta)
    leaf = theta.clone().requires_grad_()
    torch.manual_seed(0)
    loss(leaf).backward()
    if not isinstance(layer.estimator, Identity):  # under torch.func noise is drawn by torch's rules
        assert ours.shape == leaf.grad.shape
        assert ours.isfinite().all()
    if layer.estimator.noise is None:
        torch.testing.assert_close(ours, leaf.grad)
        each = torch.func.grad(lambda row: (layer(row) * w).sum())(theta[0])
        assert each.isfinite().all()
    with pytest.raises(UserError, match="backward passes only"):
        torch.func.jvp(layer, (theta,), (theta,))
    if isinstance(layer.estimator, Identity):
        assert torch.func.vmap(layer)(theta).shape == theta.shape
    else:
        with pytest.raises(UserError, match="call the layer on the whole batch"):
            torch.func.vmap(layer, randomness="different")(theta)
