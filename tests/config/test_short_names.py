"""Lightning's callbacks, loggers and profilers by short name: they run, print, and name the package that is missing."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from dbp.components import catalog
from dbp.errors import UserError

RUN = ["fit", "task=slots", "solver=one_hot", "estimator=imle", "data=slots", "data.size=64", "task.hidden=[8]",
       "trainer.accelerator=cpu", "trainer.max_epochs=2", "run=r"]  # fmt: skip
PRINTED = [
    ("callbacks.model_summary={}", "Trainable params"),
    ("trainer.enable_model_summary=true", "Trainable params"),
    ("trainer.profiler=simple", "Profiler Report"),
    (
        "callbacks.early_stopping={monitor: val/loss, patience: 1, min_delta: 1e9, verbose: true}",
        "Monitored metric val/loss did not improve",
    ),
]
FINDER = ["data.size=1000", "callbacks.lr_finder={num_training_steps: 20, early_stop_threshold: null}"]
PACKAGES = [(kind, name, r.lacks(name)) for kind, r in catalog.items() for name in r.claims() if r.lacks(name)]


@pytest.mark.parametrize(("word", "text"), PRINTED)
def test_what_is_asked_for_prints(dbp: Any, caplog: pytest.LogCaptureFixture, word: str, text: str) -> None:
    assert dbp(*RUN, word) == 0
    assert text in caplog.text
    assert "GPU available" not in caplog.text


def test_nothing_else_prints(dbp: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert dbp(*RUN) == 0
    assert not any(text in caplog.text for _, text in PRINTED)


def test_averaged_weights_are_tested_and_resumed(dbp: Any) -> None:
    line = [*RUN, "callbacks.ema.decay=0.5", "ckpt_path=last"]
    assert dbp(*line) == 0
    assert dbp(*line, "trainer.max_epochs=3") == 0
    assert dbp("test", "run=r", "ckpt_path=last") == 0


def learning_rate() -> float:
    state = torch.load("lightning_logs/r/checkpoints/last.ckpt", weights_only=True)
    return state["optimizer_states"][0]["param_groups"][0]["lr"]


def test_a_resumed_run_keeps_its_learning_rate(dbp: Any, caplog: pytest.LogCaptureFixture) -> None:
    line = [*RUN, *FINDER, "ckpt_path=last"]
    assert dbp(*line) == 0
    assert caplog.text.count("Learning rate set to") == 1
    found = learning_rate()
    assert found != 1e-3
    assert dbp(*line, "trainer.max_epochs=3") == 0
    assert caplog.text.count("Learning rate set to") == 1
    assert learning_rate() == found
    assert not list(Path("lightning_logs/r").glob(".lr_find*"))


@pytest.mark.parametrize("name", ["device_stats", "rich_progress"])
def test_callbacks_of_optional_packages_run(dbp: Any, name: str) -> None:
    if package := catalog["callback"].lacks(name):
        pytest.skip(f"{package} is not installed")
    assert dbp(*RUN, f"callbacks.{name}={{}}") == 0


def test_a_class_of_lightning_has_options_on_the_command_line(dbp: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert dbp(*RUN, "callbacks.pytorch_lightning.callbacks:ModelSummary.max_depth=2") == 0
    assert "Trainable params" in caplog.text


@pytest.mark.parametrize(("kind", "name", "package"), PACKAGES)
def test_a_missing_package_is_named_before_the_run_has_a_folder(
    dbp: Any, capsys: pytest.CaptureFixture[str], kind: str, name: str, package: str
) -> None:
    assert dbp(*RUN, f"{kind}s.{name}={{}}") == 2
    assert f"the {kind} '{name}' needs the package {package}: pip install {package}" in capsys.readouterr().err
    assert not Path("lightning_logs").exists()
    with pytest.raises(UserError, match=f"pip install {package}"):
        catalog[kind].get(name)


def test_packages_are_declared_for_components_that_are_there() -> None:
    for registry in catalog.values():
        assert registry._packages.keys() <= registry.claims().keys()
    assert catalog["logger"].lacks("csv") is None
    assert (catalog["logger"].lacks("wandb") is None) == (find_spec("wandb") is not None)
