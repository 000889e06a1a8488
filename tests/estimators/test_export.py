"""Exported models hold the solver, and nothing that only training needs."""

import warnings

import pytest
import torch
from examples import ESTIMATORS, Control, bridge, build
from torch import nn

import dbp
from dbp.errors import UserError
from dbp.estimators import DAB, RELAX, Contrastive
from dbp.solvers import TopK
from dbp.tasks import DVAE, Task


class Model(nn.Module):
    def __init__(self, estimator):
        super().__init__()
        self.encoder, self.layer = nn.Linear(5, 6), dbp.Layer(TopK(2), estimator)
        self.decoder = nn.Linear(6, 3)

    def forward(self, x):
        return self.decoder(self.layer(self.encoder(x)))


def exported(model, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        return torch.export.export(model, args)


@pytest.mark.parametrize("make", [lambda: DAB(bridge()), lambda: RELAX(Control()), Contrastive])
def test_no_bridge_control_variate_or_pool_is_exported(make):
    model, x = Model(make()), torch.randn(4, 5)
    program = exported(dbp.without_estimators(model), x)
    assert set(program.state_dict) == {"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"}
    assert torch.equal(program.module()(x), model.eval()(x))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_copy_decides_as_the_model_does_in_eval_mode(name):
    layer, theta = dbp.Layer(*build(name)), torch.randn(4, 6)
    copy = dbp.without_estimators(layer)
    assert layer.training
    assert not copy.state_dict()
    assert torch.equal(copy(theta), layer.eval()(theta))
    assert torch.equal(copy.train()(theta), layer(theta))


def test_a_task_is_exported_with_its_prediction():
    task = DVAE(TopK(2), DAB(bridge()), shape=(4, 4), rows=3, columns=6, hidden=(8,))
    images = torch.rand(2, 4, 4)
    program = exported(dbp.without_estimators(task), images)
    assert not any("estimator" in name for name in program.state_dict)
    for name, value in task.eval()(images).items():
        torch.testing.assert_close(program.module()(images)[name], value)


def test_a_task_without_a_prediction_says_so():
    class Silent(Task):
        def step(self, batch):
            raise NotImplementedError

    with pytest.raises(UserError, match="Silent has nothing to predict"):
        Silent(TopK(2), DAB(bridge()))(torch.zeros(1))
