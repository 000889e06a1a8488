"""Layers in a model of the user's own, and objects built by name."""

import pytest
import torch

import dbp
from dbp.errors import UserError
from dbp.estimators import IMLE, Blackbox, Identity, Score
from dbp.noises import Normal, SumOfGamma
from dbp.solvers import OneHot, TopK


def test_a_layer_is_a_module_with_any_leading_dims():
    layer = dbp.Layer(TopK(3), IMLE(5.0, SumOfGamma(k=3), samples=4))
    theta = torch.randn(2, 7, 10, requires_grad=True)
    y = layer(theta)
    assert y.shape == (4, 2, 7, 10)
    assert (y.sum(-1) == 3).all()
    (y * torch.randn(10)).sum().backward()
    assert theta.grad.abs().sum() > 0
    assert torch.equal(layer.eval()(theta), TopK(3)(theta))


def test_without_the_surrogate_lam_is_in_units_of_what_arrives():
    theta, w = torch.randn(8, 6), torch.randn(8, 6)
    leaf = theta.clone().requires_grad_()
    (dbp.Layer(TopK(2), Blackbox(4.0))(leaf) * w).sum(-1).mean().backward()
    torch.testing.assert_close(leaf.grad, (TopK(2)(theta) - TopK(2)(theta - 4 * w / 8)) / 4)


def test_a_gradient_that_passes_through_the_losses_is_not_lost_in_silence():
    layer = dbp.Layer(TopK(2), Score(4, Normal()))
    theta = torch.randn(3, 5, requires_grad=True)
    with pytest.raises(UserError, match="use draw = "):
        layer(theta)
    with torch.no_grad():
        assert layer(theta).shape == (4, 3, 5)
    draw = layer.draw(theta)
    draw.surrogate((draw.y * torch.randn(5)).sum(-1)).mean().backward()
    assert theta.grad.abs().sum() > 0


def test_everything_in_the_registry_is_built_from_python():
    assert dbp.build("solver", {"name": "top_k", "k": 10}) == TopK(10)
    assert dbp.build("noise", "gumbel") == dbp.noises.Gumbel()
    estimator = dbp.build("estimator", {"name": "imle", "lam": 3, "noise": {"name": "sum_of_gamma", "k": 5}})
    assert estimator.lam == 3
    assert estimator.noise == SumOfGamma(k=5)
    layer = dbp.Layer(dbp.build("solver", "one_hot"), Identity())
    assert layer.solver == OneHot()
