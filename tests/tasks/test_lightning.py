"""Habits of Lightning: hyperparameters, `load_from_checkpoint`, plain trainers, the learning-rate finder."""

from functools import partial

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.tuner import Tuner

import dbp as package
from dbp.components import catalog
from dbp.data import SlotsData
from dbp.errors import UserError
from dbp.estimators import IMLE, REBAR, StraightThrough
from dbp.networks import SquaredError
from dbp.noises import Gumbel
from dbp.solvers import OneHot, Threshold
from dbp.tasks import VAE, SchedulerFactory, Slots, Task, hparams
from dbp.tasks.schedules import OneCycle
from tests.config.test_registry import NETWORK, REQUIRED
from tests.training import train


class Mine(Slots):
    """A task that no name is registered for."""


def slots(cls=Slots, estimator=None, **options):
    return cls(OneHot(), estimator or StraightThrough(Gumbel(2.0)), items=4, slots=2, hidden=(8,), **options)


def data(**options):
    return SlotsData(**{"items": 4, "size": 60, "batch_size": 10, **options})


def saved(task, path):
    trainer = train(task, data())
    trainer.save_checkpoint(path)
    return path


def same(task, other):
    mine, theirs = task.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name].cpu(), theirs[name]) for name in mine)


def test_hyperparameters_are_the_configuration_in_plain_data():
    task = slots(
        value=SquaredError(3.0),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        scheduler=SchedulerFactory(OneCycle, max_lr=0.2, interval="epoch"),
    )
    assert task.hparams["solver"]["name"] == "one_hot"
    assert task.hparams["estimator"]["noise"] == {"name": "gumbel", "scale": 2.0}
    assert {key: task.hparams[key] for key in ("optimizer", "scheduler")} == {
        "optimizer": {"name": "sgd", "lr": 0.1},
        "scheduler": {"name": "one_cycle", "max_lr": 0.2, "interval": "epoch"},
    }
    assert task.hparams["task"] == {
        "name": "slots", "items": 4, "slots": 2, "dim": 1, "hidden": [8],
        "value": {"name": "squared_error", "target": 3.0},
    }  # fmt: skip


BUILDABLE = [
    (kind, name) for kind in ("solver", "estimator", "noise") for name in catalog[kind].claims()
    if all(o.default or o.name in REQUIRED.get(name, {}) for o in catalog[kind].signature(name).options.values())
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), [*BUILDABLE, ("network", "mlp"), ("network", "squared_error")])
def test_a_component_is_described_as_it_was_configured(kind, name):
    spec = catalog.complete(kind, {"name": name, **(NETWORK if name == "mlp" else REQUIRED.get(name, {}))})
    component = catalog.build(kind, spec)
    if spec.get("network", ...) is None:
        spec["network"] = {"name": "entrywise", "hidden": 16}  # the network that null stands for
    assert hparams.component(kind, component) == spec


def test_loggers_get_them(tmp_path):
    logger = CSVLogger(tmp_path)
    train(slots(), data(), logger=logger, log_every_n_steps=1)
    assert "name: gumbel" in (tmp_path / "lightning_logs/version_0/hparams.yaml").read_text()


@pytest.mark.parametrize("cls", [Slots, Task])
def test_a_checkpoint_of_a_plain_trainer_loads_without_arguments(tmp_path, cls):
    task = slots(value=SquaredError(3.0))
    path = saved(task, tmp_path / "plain.ckpt")
    loaded = cls.load_from_checkpoint(path)
    assert isinstance(loaded, Slots)
    assert same(task, loaded)
    assert loaded.value.target == 3.0
    assert loaded.estimator.noise == Gumbel(2.0)
    assert same(task, package.load(path))
    assert not package.load(path).training


def test_what_is_loaded_can_have_other_parts(tmp_path):
    path = saved(slots(), tmp_path / "plain.ckpt")
    loaded = Slots.load_from_checkpoint(path, estimator=IMLE(), strict=False)
    assert isinstance(loaded.estimator, IMLE)


def test_an_own_class_is_loaded_by_calling_it_and_by_nothing_else(tmp_path):
    task = slots(Mine)
    path = saved(task, tmp_path / "mine.ckpt")
    assert type(Mine.load_from_checkpoint(path)) is Mine
    for load in (package.load, Slots.load_from_checkpoint):
        with pytest.raises(UserError, match="file names is not run"):
            load(path)


def test_what_no_name_describes_is_given_when_it_is_loaded(tmp_path):
    class Local(IMLE):
        """A class in a function has no import path."""

    task = slots(estimator=Local())
    path = saved(task, tmp_path / "local.ckpt")
    for load in (package.load, Slots.load_from_checkpoint):
        with pytest.raises(UserError, match=r"does not say its estimator: .*load_from_checkpoint\(.*estimator=\.\.\."):
            load(path)
    assert same(task, Slots.load_from_checkpoint(path, estimator=Local()))


def test_a_checkpoint_of_another_class_is_refused(tmp_path):
    path = saved(slots(), tmp_path / "plain.ckpt")
    with pytest.raises(UserError, match="is of a Slots, not of a VAE"):
        VAE.load_from_checkpoint(path)


def test_a_run_of_the_command_line_loads_without_arguments(dbp, tmp_path):
    arguments = ["fit", "task={name: vae, latents: 4, shape: [8, 8]}", "solver=threshold", "estimator=rebar", "run=r"]
    trainer = "trainer={max_epochs: 1, accelerator: cpu, limit_train_batches: 2, limit_val_batches: 1}"
    assert dbp(*arguments, "estimator.temperature=0.7", "data=digits", trainer, "callbacks.pictures=null") == 0
    path = tmp_path / "lightning_logs/r/checkpoints/last.ckpt"
    loaded = VAE.load_from_checkpoint(path)
    assert same(package.load(path), loaded)
    assert loaded.hparams["estimator"]["temperature"] == 0.7
    assert isinstance(loaded.estimator, REBAR)
    assert loaded.posterior == Threshold()


def test_the_learning_rate_finder_sets_the_rate_that_is_trained_with(tmp_path):
    task = slots(optimizer=partial(torch.optim.SGD, lr=1e-3))
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = Trainer(default_root_dir=tmp_path, max_epochs=1, accelerator="cpu", logger=False, **quiet)
    finder = Tuner(trainer).lr_find(task, datamodule=data(size=400), num_training=30, early_stop_threshold=None)
    assert finder is not None
    assert task.lr == finder.suggestion()
    assert train(task, data()).optimizers[0].param_groups[0]["lr"] == task.lr
