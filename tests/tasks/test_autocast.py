"""Losses and metrics are computed in float32 from whatever precision the networks compute in."""

import pytest
import torch
from torch import nn

from dbp.estimators import StraightThrough
from dbp.noises import Logistic
from tests.tasks.test_tasks import TASKS, dvae


def step_with(model, batch, recorded=None):
    """A step under bfloat16 autocast, and what each layer gave; or one in float32, with `recorded` for its layers."""
    outputs, layers = [], [m for m in model.modules() if isinstance(m, nn.Linear | nn.LSTMCell)]

    def hook(layer, args, output):
        outputs.append(output)
        if recorded:
            given = recorded[len(outputs) - 1]
            return tuple(x.float() for x in given) if isinstance(given, tuple) else given.float()
        return None

    handles = [layer.register_forward_hook(hook) for layer in layers]
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16, enabled=recorded is None):
        step = model.step(batch)
    for handle in handles:
        handle.remove()
    return step, outputs


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_under_autocast_the_losses_are_those_of_float32_for_the_same_scores_and_logits(task, training):
    make, batch = TASKS[task]
    model, x = make(StraightThrough(Logistic())).train(training), batch()
    narrow, recorded = step_with(model, x)
    assert any(torch.is_tensor(y) and y.dtype == torch.bfloat16 for y in recorded)
    wide, _ = step_with(model, x, recorded)
    assert narrow.losses.dtype == torch.float32
    torch.testing.assert_close(narrow.losses, wide.losses, rtol=2e-6, atol=2e-6)
    assert narrow.seen.keys() == wide.seen.keys()
    for name, values in narrow.seen.items():
        torch.testing.assert_close(
            values, wide.seen[name], rtol=2e-6, atol=2e-6, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.parametrize("task", TASKS)
def test_a_model_in_bfloat16_has_losses_in_float32(task):
    make, batch = TASKS[task]
    model = make(StraightThrough(Logistic())).to(torch.bfloat16)
    x = [part.to(torch.bfloat16) if part.is_floating_point() else part for part in batch()]
    losses = model.step(x).losses
    assert losses.dtype == torch.float32
    losses.mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_the_divergence_of_nearly_uniform_scores_is_positive_under_autocast():
    model = dvae(StraightThrough())
    with torch.no_grad():
        model.encoder[-1].weight.mul_(0.01)
    with torch.autocast("cpu", torch.bfloat16):
        kl = model.step([torch.rand(100, 8, 8)]).seen["kl"]
    assert (kl >= 0).all()
    assert kl.mean() > 0
