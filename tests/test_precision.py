"""Gradient scaling, accumulation and mixed precision, with the real loops."""

from functools import partial

import pytest
import torch
from examples import ESTIMATORS, estimator
from torch import nn
from training import train

from dbp.data import SlotsData
from dbp.estimators import Blackbox, Identity, Score
from dbp.noises import Normal
from dbp.solvers import OneHot, TopK
from dbp.tasks import Slots


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_real_gradient_scaler_changes_no_step(name):
    weights = []
    for enabled in (False, True):
        torch.manual_seed(0)
        encoder, est = nn.Linear(4, 5), estimator(name)
        optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=65536.0, enabled=enabled)
        for seed in range(3):
            torch.manual_seed(seed)
            draw = est(TopK(2), encoder(torch.randn(8, 4)))
            loss = draw.surrogate((draw.y * torch.arange(5.0)).sum(-1).tanh()).mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        weights.append(encoder.weight.detach().clone())
    torch.testing.assert_close(*weights)


def test_an_overflow_skips_the_step_as_it_would_without_a_solver():
    theta = nn.Parameter(torch.randn(3, 5))
    before = theta.detach().clone()
    optimizer = torch.optim.SGD([theta], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1e38)
    draw = Blackbox(1.0)(TopK(2), theta)
    loss = draw.surrogate((draw.y * 1e6).sum(-1)).mean()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(theta, before)
    assert scaler.get_scale() < 1e38


@pytest.mark.parametrize("est", [Blackbox(0.5), Identity()], ids=["blackbox", "identity"])
def test_accumulated_batches_give_the_gradient_of_the_whole(est):
    weights = []
    for batch_size, accumulate in ((64, 1), (16, 4)):
        torch.manual_seed(0)
        task = Slots(OneHot(), est, items=4, slots=2, hidden=(8,), optimizer=partial(torch.optim.SGD, lr=0.1))
        train(task, SlotsData(items=4, size=64, batch_size=batch_size), accumulate_grad_batches=accumulate)
        weights.append(task.encoder[0].weight.detach())
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true", "bf16-true"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_precision_trains(name, precision):
    est = Score(2, Normal()) if name.startswith("score") else estimator(name)
    task = Slots(OneHot(), est, items=4, slots=2, hidden=(8,))
    train(task, SlotsData(items=4, size=32, batch_size=16), precision=precision)
    assert all(p.isfinite().all() for p in task.parameters())
