"""Gradient scaling, accumulation and mixed precision, with the real scaler and loops."""

from functools import partial

import pytest
import torch
from examples import ESTIMATORS, GENERAL, N, build
from torch import nn
from training import train

from dbp.core import Target
from dbp.data import SlotsData
from dbp.estimators import (
    Blackbox,
    Identity,
    Score,
)
from dbp.noises import Normal
from dbp.solvers import OneHot, TopK
from dbp.tasks import DVAE, VAE, Slots, Sorting

PRECISIONS = {  # of the parameters, and of autocast; Lightning makes bf16-mixed of 16-mixed on a CPU, torch does not
    "32-true": (torch.float32, None),
    "64-true": (torch.float64, None),
    "bf16-mixed": (torch.float32, torch.bfloat16),
    "16-mixed": (torch.float32, torch.float16),
}


def sequences(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.rand(50, 3, dtype=dtype)
    return numbers, numbers.argsort()


TASKS = {
    "dvae": (
        partial(DVAE, shape=(2, 4), rows=3, columns=N, hidden=(8,)),
        lambda dtype: [torch.rand(50, 2, 4).to(dtype)],
    ),
    "slots": (partial(Slots, items=N, slots=2, hidden=(8,)), lambda dtype: [torch.rand(50, N, 1).to(dtype)]),
    "vae": (partial(VAE, shape=(2, 4), latents=N, layers=2), lambda dtype: [torch.rand(50, 2, 4).round().to(dtype)]),
    "sorting": (partial(Sorting, length=3, model="lstm", hidden=(8,), width=N, ponder=2), sequences),
}


def fits(task: str, name: str) -> bool:
    """True if an estimator learns from one loss for all decisions of an example, and decides what the task needs."""
    solver, est = build(name)
    alone = not est.supervised and "vertices" not in est.needs
    return alone and solver.binary and solver.linear and (solver.elementwise or task != "vae")


def cost(y: torch.Tensor) -> torch.Tensor:
    """One loss for each decision of the last dim, or of the last two of a matrix."""
    y = y.flatten(-2) if y.shape[-2:] == (N, N) else y
    return torch.tanh(y @ torch.linspace(-1, 1, y.shape[-1]))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_real_gradient_scaler_changes_no_step(name):
    weights = []
    for enabled in (False, True):
        solver, est = build(name)
        torch.manual_seed(0)
        encoder = nn.Linear(4, N)
        optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=65536.0, enabled=enabled)
        for seed in range(3):
            torch.manual_seed(seed)
            theta, right = encoder(torch.randn(8, 4)), torch.randn(8, N)
            draw = est(solver, theta, target=Target(solver(right), right))
            scaler.scale(draw.surrogate(cost(draw.y)).mean()).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        weights.append(encoder.weight.detach().clone())
    torch.testing.assert_close(*weights)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("task", "name"), [(task, name) for task in TASKS for name in ESTIMATORS if fits(task, name)])
def test_every_task_learns_with_every_estimator_in_every_precision(task, name, precision):
    (made, batch), (dtype, autocast) = TASKS[task], PRECISIONS[precision]
    model = made(*build(name)).to(dtype)
    first = next(model.encoder.parameters())
    before = first.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=autocast is torch.float16)
    for _ in range(2):
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            losses = model.step(batch(dtype)).losses
        scaler.scale(losses.mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    assert losses.isfinite().all()
    assert all(p.isfinite().all() and p.dtype is dtype for p in model.parameters())
    assert not torch.equal(first, before)


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
@pytest.mark.parametrize("name", GENERAL)
def test_every_precision_trains(name, precision):
    est = Score(2, Normal()) if name.startswith("score") else build(name)[1]
    task = Slots(OneHot(), est, items=4, slots=2, hidden=(8,))
    train(task, SlotsData(items=4, size=32, batch_size=16), precision=precision)
    assert all(p.isfinite().all() for p in task.parameters())
