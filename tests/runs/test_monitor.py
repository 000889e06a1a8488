import csv
from pathlib import Path
from time import perf_counter

import pytest
import torch
from examples import SOLVERS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dbp.cli import main
from dbp.errors import UserError
from dbp.estimators import AdaptiveIMLE
from dbp.runs.monitor import Monitor, _margins, _of_estimator
from dbp.solvers import GridPath, TopK

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


def test_margins_are_quantiles_and_a_histogram(tmp_path, monkeypatch):
    row = last_line(tmp_path, monkeypatch, "estimator=identity")
    low, middle, high = (row[f"decision/margin_{percent}"] for percent in (10, 50, 90))
    assert 0 < low < middle < high < row["decision/theta_norm"]
    events = EventAccumulator("lightning_logs/r", size_guidance={"histograms": 0}).Reload()
    assert [e.histogram_value.num for e in events.Histograms("decision/margin")] == [40, 40]  # 20 times 2 slots


@pytest.mark.parametrize("name", [n for n, e in SOLVERS.items() if e.solver.offers("lead") and (e.count or 0) > 1])
def test_the_margin_is_that_of_the_best_decision_to_the_second_best(name):
    solver, shape = SOLVERS[name].solver, SOLVERS[name].shape
    vertices = solver.vertices(shape)
    theta = torch.randn(3, 4, *shape, generator=torch.Generator().manual_seed(0))
    values = (theta.unsqueeze(-1 - len(shape)) * vertices).flatten(3).sum(-1) if shape else theta[..., None] * vertices
    best = values.topk(2, -1).values
    torch.testing.assert_close(torch.cat(_margins(solver, theta)), (best[..., 0] - best[..., 1]).flatten())


@pytest.mark.parametrize("solver", [GridPath(), TopK(3)])
def test_a_margin_that_is_costly_or_not_there_is_left_out(solver):
    assert _margins(solver, -torch.rand(2, 3, 3)) == []


def test_the_solvers_seconds_are_part_of_the_step(tmp_path, monkeypatch):
    began = perf_counter()
    row = last_line(tmp_path, monkeypatch, "estimator=imle")
    assert 0 < row["decision/solver_seconds"] < perf_counter() - began


def test_it_changes_nothing(tmp_path, monkeypatch):
    rows = []
    for name, extra in (("with", []), ("without", ["callbacks.monitor=null"])):
        folder = tmp_path / name
        folder.mkdir()
        rows.append(last_line(folder, monkeypatch, "estimator=imle", *extra))
    assert {k: v for k, v in rows[0].items() if "/" in k and k.split("/")[0] in ("train", "val")} == {
        k: v for k, v in rows[1].items() if "/" in k
    }


def test_what_it_has_seen_of_the_estimator_stays():
    estimator = AdaptiveIMLE()
    seen = _of_estimator(estimator)
    before = {name: value.item() for name, value in seen.items()}
    for buffer in estimator.buffers():
        buffer.add_(1)
    assert before == {name: value.item() for name, value in seen.items()}


def test_a_bad_option_is_said():
    with pytest.raises(UserError, match="every_n_steps must be at least 1"):
        Monitor(0)
