import math
from functools import partial

import pytest
import torch
from examples import ESTIMATORS, GENERAL
from torch import nn
from training import train

import dbp
from dbp.components import catalog
from dbp.data import Data, Digits, SlotsData
from dbp.errors import UserError
from dbp.estimators import IMLE, Identity, StraightThrough
from dbp.networks import MLP, SquaredError
from dbp.noises import Gumbel
from dbp.registry.signature import signature
from dbp.solvers import OneHot, Threshold, TopK
from dbp.tasks import DVAE, VAE, Slots, Sorting, Step, Task


def dvae(est, solver=None, **options):
    return DVAE(solver or TopK(2), est, shape=(8, 8), rows=3, columns=5, hidden=(16,), **options)


def slots(est, **options):
    return Slots(OneHot(), est, items=4, slots=2, hidden=(16,), **options)


def vae(est, **options):
    return VAE(Threshold(), est, shape=(8, 8), latents=6, layers=2, hidden=(16,), **options)


def sorting(est, **options):
    return Sorting(TopK(4), est, length=3, model="lstm", hidden=(16,), width=8, ponder=2, **options)


def sequences():
    numbers = torch.rand(100, 3)
    return numbers, numbers.argsort()


TASKS = {
    "dvae": (dvae, lambda: [torch.rand(100, 8, 8)]),
    "slots": (slots, lambda: [torch.randn(100, 4, 1)]),
    "vae": (vae, lambda: [torch.rand(100, 8, 8).round()]),
    "sorting": (sorting, sequences),
}


@pytest.mark.parametrize("name", [name for name in GENERAL if not name.startswith("score")])
@pytest.mark.parametrize("task", TASKS)
def test_every_estimator_trains_every_task_and_reaches_the_encoder(task, name):
    make, batch = TASKS[task]
    model = make(ESTIMATORS[name].make())
    model.step(batch()).losses.mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.parameters())
    assert all(not p.requires_grad or p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("task", TASKS)
def test_validation_draws_nothing_for_the_loss_and_reports_its_metrics(task):
    make, batch = TASKS[task]
    model, x = make(IMLE()).eval(), batch()
    with torch.no_grad():
        if task != "vae":  # its bound is one of samples
            assert torch.equal(model.step(x).losses, model.step(x).losses)
        assert set(model.step(x).seen) == set(model.metrics("val"))
    assert set(model.train().step(x).seen) == set(model.metrics("train"))


def test_the_dvae_loss_is_the_negative_evidence_lower_bound():
    model = dvae(Identity(projection="none")).eval()
    x = torch.rand(4, 8, 8)
    theta = model.encoder(x.flatten(1)).view(4, 3, 5)
    logits = model.decoder(TopK(2)(theta).flatten(1))
    bce = nn.functional.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="sum") / 4
    p = torch.distributions.Categorical(logits=theta)
    kl = (math.log(5) - p.entropy()).sum(-1).mean()
    torch.testing.assert_close(model.step([x]).losses.mean(), bce + kl)


def test_the_dvae_says_which_shape_to_set():
    with pytest.raises(
        UserError, match=r"images are \[28, 28\], the model was made for \[8, 8\]: set task.shape=\[28,28\]"
    ):
        dvae(Identity()).step([torch.rand(2, 28, 28)])


def test_the_dvae_draws_its_reconstructions(tmp_path):
    figure = dvae(Identity()).eval().figures([torch.rand(12, 8, 8)])["reconstructions"]
    figure.savefig(tmp_path / "r.png")
    assert len(figure.axes) == 30
    assert (tmp_path / "r.png").stat().st_size > 5000


def test_training_lowers_the_loss_and_epoch_metrics_are_means_over_examples():
    task = dvae(Identity(), optimizer=partial(torch.optim.Adam, lr=3e-3))
    data = Digits(batch_size=50)
    trainer = train(task, data, epochs=3)
    metrics = trainer.callback_metrics
    images = data.splits["val"].tensors[0]
    with torch.no_grad():
        losses = task.eval().step([images]).losses
    assert metrics["val/loss"].item() == pytest.approx(losses.mean().item(), rel=1e-5)
    assert metrics["val/loss"] < 32


def test_a_schedule_steps_once_an_epoch():
    task = slots(
        StraightThrough(),
        optimizer=partial(torch.optim.SGD, lr=1.0),
        scheduler=partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.1),
    )
    trainer = train(task, SlotsData(items=4, size=64, batch_size=32), epochs=2)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01)


def test_the_regret_is_the_distance_to_the_best_of_all_configurations():
    model = slots(Identity(), value=SquaredError(0.3)).eval()
    items = torch.tensor([[0.0, 0.25, 0.5, 1.0]]).unsqueeze(-1)
    step = model.step([items])
    best = -2 * (0.25 - 0.3) ** 2
    torch.testing.assert_close(step.seen["regret"], step.losses.detach() + best)
    assert (step.seen["best"] == (step.seen["regret"] < 1e-5)).all()


def test_slots_say_how_many_items_to_set():
    with pytest.raises(UserError, match=r"8 items of dimension 2, the model was made for 4 of 1: set task.items=8"):
        slots(Identity()).step([torch.randn(5, 8, 2)])


def test_a_value_that_is_a_network_is_not_trained():
    model = slots(Identity())
    before = [p.clone() for p in model.value.parameters()]
    train(model, SlotsData(items=4, size=64, batch_size=32))
    assert all(torch.equal(a, b) for a, b in zip(before, model.value.parameters(), strict=True))


def test_gumbel_noise_finds_the_choice_at_which_straight_through_softmax_stalls():
    """What the thread that asked for it found: without noise the scores drift together.

    Of the seeds 0 to 7, seven find it in over 95 % of the examples, and seed 0 in 77 %.
    """
    best = {}
    for noise in (None, Gumbel()):
        torch.manual_seed(1)
        task = Slots(OneHot(), StraightThrough(noise), hidden=(256, 256), value=SquaredError(5.0))
        trainer = train(task, SlotsData(size=10_000, batch_size=100), epochs=40)
        best[noise] = trainer.callback_metrics["val/best"].item()
    assert best[None] < 0.05
    assert best[Gumbel()] > 0.9


@pytest.mark.parametrize("name", catalog["task"].claims())
def test_a_task_takes_the_optimizer_and_scheduler_of_every_task_as_keys_of_their_own(name):
    path = catalog["task"].claim(name).path
    assert {"optimizer", "scheduler"} < signature(path).options.keys()
    assert not {"optimizer", "scheduler"} & catalog["task"].signature(name).options.keys()


def test_what_a_component_of_yours_derives_from_is_public():
    assert (dbp.Task, dbp.Step, dbp.Data) == (Task, Step, Data)


@pytest.mark.parametrize("bad", [[5], [], [3, 0]])
def test_an_mlp_needs_widths(bad):
    with pytest.raises(UserError, match="sizes needs an input and an output width"):
        MLP(bad)


def test_an_mlp_has_an_activation_between_layers_and_none_at_the_end():
    mlp = MLP([3, 4, 2], "tanh", dropout=0.5)
    assert [type(m).__name__ for m in mlp] == ["Linear", "Tanh", "Dropout", "Linear"]
    assert [type(m).__name__ for m in MLP([3, 4, 2])] == ["Linear", "ReLU", "Linear"]
