"""Runs that a limit or early stopping ends, and what becomes of them when they are started again."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback

RUN = [
    "task={name: slots, items: 4, slots: 2, hidden: [8]}",
    "solver=one_hot",
    "estimator={name: imle, samples: 2}",
    "data={name: slots, items: 4, size: 60, batch_size: 10}",  # six batches an epoch
    "callbacks={pictures: null}",
    "loggers={tensorboard: null}",
    "optimizer.lr=0.02",
    "trainer={max_epochs: 3, accelerator: cpu, num_sanity_val_steps: 0}",
]
OFF = "callbacks={'tests_stop:Stop': null, early_stopping: null}"  # the checkpoint may not name a class on its own
STOP = "callbacks={'tests_stop:Stop': {step: %d}}"


class Stop(Callback):
    """Ends the run after a batch, as `trainer.max_time` does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.fit_loop.total_batch_idx + 1 >= self.step:
            trainer.should_stop = True


@pytest.fixture(autouse=True)
def _named(monkeypatch):
    import sys
    import types

    module = types.ModuleType("tests_stop")
    module.Stop = Stop  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests_stop", module)
    monkeypatch.setattr(Stop, "__module__", "tests_stop")


def outcome(run: str) -> tuple[dict[str, Any], str, list[Any]]:
    place = Path("lightning_logs") / run
    state = torch.load(place / "checkpoints" / "last.ckpt", weights_only=True)
    weights = {name: value.tolist() for name, value in state["state_dict"].items()}
    moments = [s["exp_avg"].tolist() for s in state["optimizer_states"][0]["state"].values()]
    return weights, (place / "metrics.csv").read_text(), moments


def rows(run: str) -> list[dict[str, str]]:
    with (Path("lightning_logs") / run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


MORE = {
    "once an epoch": [],
    "validation within the epoch": ["trainer.val_check_interval=2"],
    "accumulation": ["trainer.accumulate_grad_batches=4"],
    "a schedule": ["scheduler={name: cosine, T_max: 3}", "trainer.val_check_interval=3"],
}


@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
@pytest.mark.parametrize("at", [2, 4, 6, 9])
def test_the_rest_of_an_epoch_that_a_callback_ended_is_trained(dbp, more, at):
    assert dbp("fit", *RUN, *more, "run=whole") == 0
    assert dbp("fit", *RUN, *more, STOP % at, "run=cut") == 0
    assert rows("cut")[-1]["epoch"] == str((at - 1) // 6)
    assert dbp("fit", *RUN, *more, "run=cut", "ckpt_path=last", STOP % (at + 5)) == 0
    assert dbp("fit", *RUN, *more, "run=cut", "ckpt_path=last", OFF) == 0
    assert outcome("cut") == outcome("whole")


@pytest.mark.parametrize("steps", [4, 6, 8])
@pytest.mark.parametrize("resumed_by", ["epochs", "steps"])
def test_the_rest_of_an_epoch_that_max_steps_ended_is_trained(dbp, steps, resumed_by):
    last = "trainer.max_steps=-1" if resumed_by == "epochs" else "trainer.max_steps=18"
    assert dbp("fit", *RUN, last, "run=whole") == 0
    assert dbp("fit", *RUN, f"trainer.max_steps={steps}", "run=cut") == 0
    assert dbp("fit", *RUN, last, "run=cut", "ckpt_path=last", OFF) == 0
    assert outcome("cut") == outcome("whole")


def test_early_stopping_within_an_epoch_keeps_the_rest_of_it(dbp):
    within = ["trainer.val_check_interval=2"]
    stop = "callbacks.early_stopping={monitor: val/loss, patience: 2, min_delta: 100}"
    assert dbp("fit", *RUN, *within, "run=whole") == 0
    assert dbp("fit", *RUN, *within, stop, "run=cut") == 0
    checkpoint = torch.load("lightning_logs/cut/checkpoints/last.ckpt", weights_only=True)
    assert (checkpoint["epoch"], checkpoint["global_step"]) == (0, 6)
    assert dbp("fit", *RUN, *within, "run=cut", "ckpt_path=last", OFF) == 0
    assert outcome("cut")[0] == outcome("whole")[0]
    assert outcome("cut")[2] == outcome("whole")[2]


def test_the_best_of_a_run_that_ended_in_its_first_epoch_is_its_last(dbp, capsys):
    assert dbp("fit", *RUN, "trainer.max_steps=3", "run=r") == 0
    assert [path.name for path in Path("lightning_logs/r/checkpoints").iterdir()] == ["last.ckpt"]
    assert dbp("test", "run=r", "ckpt_path=best", *RUN) == 0


def test_a_run_that_early_stopping_ended_stays_ended_and_says_so(dbp, caplog):
    caplog.set_level("INFO", logger="dbp")
    line = [*RUN, "run=r", "ckpt_path=last", "trainer.max_epochs=9"]
    stop = "callbacks.early_stopping={monitor: val/loss, min_delta: 100, patience: %d}"
    assert dbp("fit", *line, stop % 1) == 0
    assert len(rows("r")) == 2
    found = outcome("r")
    for _ in range(2):
        caplog.clear()
        assert dbp("fit", *line, stop % 1) == 0
        assert any("early stopping has ended this run" in record.message for record in caplog.records)
        assert outcome("r") == found
    assert dbp("fit", *line, stop % 3) == 0  # a larger patience is no longer at its end
    assert len(rows("r")) == 4


def test_a_limit_of_time_that_is_raised_is_no_end(dbp):
    line = [*RUN, "run=r", "ckpt_path=last"]
    assert dbp("fit", *line, "trainer.max_time=00:00:00:00") == 0
    assert dbp("fit", *line, "trainer.max_time=00:01:00:00") == 0
    assert [row["step"] for row in rows("r")] == ["5", "11", "17"]


def test_the_batches_of_overfit_batches_are_resumed(dbp):
    more = ["trainer.overfit_batches=4", "callbacks.last.every_n_train_steps=2"]
    assert dbp("fit", *RUN, *more, "run=whole") == 0
    assert dbp("fit", *RUN, *more, STOP % 6, "run=cut") == 0
    assert dbp("fit", *RUN, *more, "run=cut", "ckpt_path=last", OFF) == 0
    assert outcome("cut") == outcome("whole")


def test_learning_rates_have_a_column(dbp):
    more = ["callbacks.lr_monitor={logging_interval: epoch}", "scheduler={name: step, step_size: 1, gamma: 0.5}"]
    assert dbp("fit", *RUN, *more, "run=whole") == 0
    assert [float(row["lr-Adam"]) for row in rows("whole")] == [0.02, 0.01, 0.005]
    assert dbp("fit", *RUN, *more, "run=cut", STOP % 8) == 0
    assert dbp("fit", *RUN, *more, "run=cut", "ckpt_path=last", OFF) == 0
    assert outcome("cut") == outcome("whole")


SCHEDULES = {
    "scheduler.gamma: 0.5 -> 0.1": ("{name: step, step_size: 1, gamma: 0.5}", "scheduler.gamma=0.1"),
    "scheduler.T_max: 3 -> 5": ("{name: cosine, T_max: 3}", "scheduler.T_max=5"),
    "optimizer.lr: the schedule sets it": ("{name: one_cycle, max_lr: 0.01, total_steps: 100}", "optimizer.lr=0.01"),
    "optimizer.betas: the schedule sets it": (
        "{name: one_cycle, max_lr: 0.01, total_steps: 100}",
        "optimizer.betas=[0.8, 0.9]",
    ),
}


@pytest.mark.parametrize("said", SCHEDULES)
def test_what_a_schedule_would_undo_is_refused(dbp, capsys, said):
    scheduler, change = SCHEDULES[said]
    assert dbp("fit", *RUN, f"scheduler={scheduler}", "run=r") == 0
    more = ["run=r", "ckpt_path=last", "trainer.max_epochs=4"]
    before = {path: path.read_bytes() for path in Path("lightning_logs").rglob("*.ckpt")}
    assert dbp("fit", *RUN, f"scheduler={scheduler}", *more, change) == 2
    assert said in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path("lightning_logs").rglob("*.ckpt")} == before


@pytest.mark.parametrize("scheduler", ["{name: step, step_size: 1, gamma: 0.5}", "{name: cosine, T_max: 6}"])
def test_a_changed_learning_rate_keeps_its_ratio_to_the_schedule(dbp, scheduler):
    more = [f"scheduler={scheduler}", "callbacks.lr_monitor={logging_interval: epoch}", "trainer.max_epochs=5"]
    assert dbp("fit", *RUN, *more, "run=a") == 0
    assert dbp("fit", *RUN, *more, "trainer.max_epochs=2", "run=b") == 0
    assert dbp("fit", *RUN, *more, "optimizer.lr=0.16", "ckpt_path=last", "run=b") == 0
    ratios = [float(b["lr-Adam"]) / float(a["lr-Adam"]) for a, b in zip(rows("a"), rows("b"), strict=True)]
    assert ratios == pytest.approx([1, 1, 8, 8, 8])
