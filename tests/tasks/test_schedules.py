"""Schedules and groups of parameters as a user types them: when they step, how long they are, and that they resume."""

from contextlib import nullcontext

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, StepLR

RATES = """
from pytorch_lightning import Callback

class Rates(Callback):
    def __init__(self, stop: int = 0) -> None:
        self.stop = stop

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step + 1 == self.stop:
            raise RuntimeError("stopped")
        groups = trainer.optimizers[0].param_groups
        with open("rates.txt", "a") as file:
            print(trainer.global_step, *(group["lr"] for group in groups), file=file)
"""
STEPS, EPOCHS = 4, 3
FIT = [
    "fit",
    "task={name: slots, items: 4, slots: 2, hidden: [8]}",
    "solver=one_hot",
    "estimator=imle",
    "data={name: slots, items: 4, size: 40, batch_size: 10}",  # STEPS batches an epoch
    "optimizer={name: sgd, lr: 1.0}",
    f"trainer={{max_epochs: {EPOCHS}, accelerator: cpu}}",
    "callbacks.pictures=null",
    "loggers.tensorboard=null",
]


@pytest.fixture
def fit(dbp, tmp_path, monkeypatch):
    """Runs the command line; returns the learning rates of each group at each step."""
    (tmp_path / "rates.py").write_text(RATES)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(*arguments, stop=0, code=0):
        with pytest.raises(RuntimeError, match="stopped") if stop else nullcontext():
            assert dbp(*FIT, f"callbacks={{'rates:Rates': {{stop: {stop}}}}}", *arguments) == code
        path = tmp_path / "rates.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return {int(step): [float(rate) for rate in rates] for step, *rates in map(str.split, lines)}

    return run


def one(rates):
    """The learning rate at each step, where there is one group."""
    return [rate for (rate,) in rates.values()]


def expected(make, times=STEPS * EPOCHS, every=1):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = make(optimizer), []
    for step in range(times):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % every == 0:
            scheduler.step()
    return pytest.approx(rates)


CYCLE = {"max_lr": 0.1, "cycle_momentum": False}


@pytest.mark.parametrize(
    ("scheduler", "make", "every"),
    [
        ("{name: step, step_size: 1, gamma: 0.5}", lambda o: StepLR(o, 1, 0.5), STEPS),
        ("{name: step, step_size: 1, gamma: 0.5, interval: step}", lambda o: StepLR(o, 1, 0.5), 1),
        ("{name: step, step_size: 1, gamma: 0.5, interval: step, frequency: 2}", lambda o: StepLR(o, 1, 0.5), 2),
        ("{name: step, step_size: 1, gamma: 0.5, frequency: 2}", lambda o: StepLR(o, 1, 0.5), 2 * STEPS),
        ("{name: one_cycle, max_lr: 0.1, cycle_momentum: false}", lambda o: OneCycleLR(o, total_steps=12, **CYCLE), 1),
        (
            "{name: one_cycle, max_lr: 0.1, cycle_momentum: false, total_steps: 20}",
            lambda o: OneCycleLR(o, total_steps=20, **CYCLE),
            1,
        ),
        (
            "{name: one_cycle, max_lr: 0.1, cycle_momentum: false, interval: epoch}",
            lambda o: OneCycleLR(o, total_steps=3, **CYCLE),
            STEPS,
        ),
        ("{name: cosine, T_max: 12, interval: step}", lambda o: CosineAnnealingLR(o, 12), 1),
    ],
)
def test_a_schedule_steps_when_it_says(fit, scheduler, make, every):
    assert one(fit(f"scheduler={scheduler}")) == expected(make, every=every)


def test_warmup_rises_each_step_and_stays(fit):
    rates = one(fit("scheduler={name: warmup, steps: 5}"))
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8] + [1.0] * 8)


SEQUENCE = (
    "scheduler={name: sequential, interval: step, milestones: [4], schedulers: "
    "[{name: warmup, steps: 4}, {name: cosine, T_max: 8}]}"
)


def test_schedules_follow_one_another(fit):
    rates = one(fit(SEQUENCE))
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4:] == expected(lambda o: CosineAnnealingLR(o, 8), times=8)


LAST = "ckpt_path=last"
PLATEAU = "scheduler={name: plateau, mode: max, patience: 0, threshold: 100.0, threshold_mode: abs, factor: 0.5}"


@pytest.mark.parametrize("extra", [[], ["scheduler.monitor=train/loss"], ["trainer.limit_val_batches=0"]])
def test_a_plateau_lowers_the_rate_after_the_epoch_that_shows_it(fit, extra):
    rates = one(fit(PLATEAU, *extra))
    assert rates == pytest.approx([1.0] * 2 * STEPS + [0.5] * STEPS)  # the first epoch is the best so far


@pytest.mark.parametrize("stop", [3, 6, 9, 11])
@pytest.mark.parametrize(
    "scheduler",
    [PLATEAU, SEQUENCE, "scheduler={name: one_cycle, max_lr: 0.1}", "scheduler={name: warmup, steps: 7}"],
    ids=["plateau", "sequential", "one_cycle", "warmup"],
)
def test_a_run_that_is_stopped_and_resumed_has_the_rates_and_weights_of_a_whole_one(fit, scheduler, stop, tmp_path):
    options = [scheduler, "callbacks.last={every_n_train_steps: 1}", "optimizer={name: adam, lr: 0.1}", LAST]
    whole = fit("run=whole", *options)
    first = fit("run=again", *options, stop=stop)
    assert len(first) == stop - 1
    assert first | fit("run=again", *options) == whole
    whole, again = (
        torch.load(tmp_path / f"lightning_logs/{run}/checkpoints/last.ckpt")["state_dict"] for run in ("whole", "again")
    )
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_cycle_of_the_runs_length_is_as_long_as_the_run_that_goes_on(fit):
    scheduler = "scheduler={name: one_cycle, max_lr: 0.1, cycle_momentum: false}"
    fit("run=r", scheduler)
    rates = one(fit("run=r", LAST, "trainer.max_epochs=5", scheduler))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    longer = OneCycleLR(optimizer, total_steps=5 * STEPS, **CYCLE)
    optimizer.step()
    for _ in range(STEPS * EPOCHS + 1):
        longer.step()
    assert len(rates) == 2 * STEPS
    assert rates[1] == pytest.approx(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scheduler={name: cosine, T_max: 3, interval: batch}"], "expected one of 'step', 'epoch'"),
        (["scheduler={name: cosine, T_max: 3, intervall: step}"], "Did you mean 'interval'"),
        (["scheduler={name: cosine, T_max: 3, frequency: 0}"], "frequency=0 must be at least 1"),
        (["scheduler={name: cosine, T_max: 3, monitor: val/loss}"], "only plateau watches a metric"),
        (["scheduler={name: plateau, interval: step}"], "plateau watches a metric of an epoch"),
        (["scheduler={name: plateau, monitor: val/los}"], "no metric 'val/los'. Did you mean 'val/loss'"),
        (["scheduler={name: plateau, factor: 2.0}"], "scheduler: Factor should be < 1.0"),
        (["scheduler={name: warmup, steps: 0}"], "steps=0 must be at least 1"),
        (["scheduler={name: one_cycle, max_lr: 1.0, total_steps: 5}"], "ends after 5 steps and the run has 12"),
        (["scheduler={name: one_cycle, max_lr: 1.0}", "trainer.max_epochs=-1"], "needs the length of the run"),
        (
            ["scheduler={name: sequential, schedulers: [{name: warmup, steps: 2}], milestones: [2]}"],
            "has 0 milestones",
        ),
        (
            [
                "scheduler={name: sequential, milestones: [2], schedulers: "
                "[{name: warmup, steps: 2}, {name: cosine, T_max: 3, interval: step}]}"
            ],
            "interval and frequency are of the sequence",
        ),
        (
            ["scheduler={name: sequential, milestones: [2], schedulers: [{name: warmup, steps: 2}, {name: plateau}]}"],
            "one_cycle and plateau cannot be part of a sequence",
        ),
        (
            ["scheduler={name: sequential, milestones: [2], schedulers: [{name: warmup, steps: 2}, {name: cosin}]}"],
            "unknown scheduler 'cosin'",
        ),
        (["optimizer.groups={encodr: {lr: 1.0}}"], "begin with 'encodr'. Did you mean 'encoder'"),
        (["optimizer.groups={encoder: {momentun: 1.0}}"], "SGD has no option 'momentun'. Did you mean 'momentum'"),
        (["optimizer.groups={encoder: 3}"], "optimizer.groups.encoder: expected dict"),
    ],
)
def test_what_cannot_be_is_said_in_short(fit, capsys, arguments, message):
    fit(*arguments, code=2)
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert said.count("\n") <= 3


def test_groups_have_options_of_their_own_and_the_longest_prefix_wins(fit):
    groups = "optimizer={name: sgd, lr: 1.0, groups: {encoder: {lr: 0.5}, encoder.2: {lr: 0.25, momentum: 0.9}}}"
    rates = fit(groups, "scheduler={name: step, step_size: 1, gamma: 0.1}")
    assert rates[0] == [1.0, 0.5, 0.25]  # value's parameters, encoder.0 and encoder.2
    assert rates[STEPS * EPOCHS - 1] == pytest.approx([0.01, 0.005, 0.0025])
