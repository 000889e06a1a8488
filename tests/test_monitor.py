import csv
from pathlib import Path

import pytest

from dbp.cli import main
from dbp.errors import UserError
from dbp.monitor import Monitor

FIT = [
    "fit",
    "task={name: slots, items: 4, slots: 2, hidden: [8]}",
    "solver=one_hot",
    "data={name: slots, items: 4, size: 200, batch_size: 20}",
    "callbacks.monitor.every_n_steps=2",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
]


def last_line(tmp_path, monkeypatch, *arguments):
    monkeypatch.chdir(tmp_path)
    assert main([*FIT, "run=r", *arguments]) == 0
    with Path("lightning_logs/r/metrics.csv").open() as file:
        return {name: float(value) for name, value in list(csv.DictReader(file))[-1].items() if value}


def test_it_logs_what_the_decision_sees_and_the_estimators_scalars(tmp_path, monkeypatch):
    row = last_line(tmp_path, monkeypatch, "estimator=adaptive_imle")
    assert row["decision/solver_calls"] == 2  # forward, and once in the pullback
    assert row["decision/theta_norm"] > 0
    assert 0 <= row["decision/zero_gradients"] <= 1
    assert {"estimator/alpha", "estimator/nonzeros", "decision/gradient_norm"} <= row.keys()


@pytest.mark.parametrize(("estimator", "share"), [("{name: blackbox, lam: 1e-9}", 1), ("straight_through", 0)])
def test_dead_gradients_show(tmp_path, monkeypatch, estimator, share):
    assert last_line(tmp_path, monkeypatch, f"estimator={estimator}")["decision/zero_gradients"] == share


def test_it_changes_nothing(tmp_path, monkeypatch):
    rows = []
    for name, extra in (("with", []), ("without", ["callbacks.monitor=null"])):
        folder = tmp_path / name
        folder.mkdir()
        rows.append(last_line(folder, monkeypatch, "estimator=imle", *extra))
    assert {k: v for k, v in rows[0].items() if "/" in k and k.split("/")[0] in ("train", "val")} == {
        k: v for k, v in rows[1].items() if "/" in k
    }


def test_a_bad_option_is_said():
    with pytest.raises(UserError, match="every_n_steps must be at least 1"):
        Monitor(0)
