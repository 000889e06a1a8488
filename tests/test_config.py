"""Layers of configuration: the later wins, the whole is complete and reads as itself."""

from pathlib import Path
from typing import Any

import pytest

from dbp.config import KEYS, compose, import_paths, read_file, to_yaml, validate
from dbp.errors import UserError

BASE = ["task=slots", "solver=one_hot", "estimator=imle", "data=slots"]


def complete(*overrides: str, files: list[str] | None = None, base: dict[str, Any] | None = None) -> dict[str, Any]:
    return validate(compose(files or [], [*([] if base else BASE), *overrides], base))


def test_the_complete_configuration_has_every_key_and_default() -> None:
    config = complete()
    assert list(config) == list(KEYS)
    assert config["optimizer"] == {"name": "adam", "lr": 1e-3}
    assert config["estimator"]["noise"] == {"name": "gumbel", "scale": 1.0}


@pytest.mark.parametrize(
    "overrides",
    [
        ["estimator.lam=3"],
        ["--estimator.lam=3"],
        ["--estimator.lam", "3"],
        ["estimator={name: imle, lam: 3}"],
        ["estimator.lam=2", "estimator.lam=3"],
        ["estimator.lam=3", "estimator=imle"],
        ["estimator.lam=${optimizer.lr}", "optimizer.lr=3"],
        ["estimator.lam=3.0"],
    ],
)
def test_ways_to_say_one_thing(overrides: list[str]) -> None:
    assert complete(*overrides)["estimator"] == complete("estimator.lam=3")["estimator"]


def test_naming_another_component_drops_the_old_options() -> None:
    assert complete("estimator.lam=3", "estimator=perturbed", "estimator=imle")["estimator"]["lam"] == 1.0


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("run=2024_01", ["run"], "2024_01"),
        ("run=null", ["run"], None),
        ("ckpt_path=a/epoch=0-step=8.ckpt", ["ckpt_path"], "a/epoch=0-step=8.ckpt"),
        ("output=[a].npz", ["output"], "[a].npz"),
        ("optimizer.lr=1e-2", ["optimizer", "lr"], 0.01),
        ("optimizer.betas=[0.5,0.9]", ["optimizer", "betas"], [0.5, 0.9]),
        ("trainer.devices=[0,1]", ["trainer", "devices"], [0, 1]),
        ("trainer.devices=auto", ["trainer", "devices"], "auto"),
        ("trainer.max_steps=1e3", ["trainer", "max_steps"], 1000),
        ("trainer.precision=16-mixed", ["trainer", "precision"], "16-mixed"),
        ("trainer.limit_val_batches=0", ["trainer", "limit_val_batches"], 0),
        ("scheduler={name: step, step_size: 3}", ["scheduler", "step_size"], 3),
        ("callbacks.early_stopping={monitor: val/loss}", ["callbacks", "early_stopping"], {"monitor": "val/loss"}),
        ("loggers.tensorboard=null", ["loggers"], {"csv": {}}),
        ("seed=null", ["seed"], None),
        ("task.hidden=[16]", ["task", "hidden"], [16]),
        ("task.value=squared_error", ["task", "value"], {"name": "squared_error", "target": 5.0}),
    ],
)
def test_values(override: str, path: list[str], value: Any) -> None:
    found: Any = complete(override)
    for key in path:
        found = found[key]
    assert found == value
    assert type(found) is type(value)


def test_files_lie_over_each_other(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("estimator: {name: imle, lam: 1e-2, noise: {name: normal, scale: 3}}\ntrainer: {max_epochs: 2}\n")
    second.write_text("estimator: {noise: gumbel}\ntrainer: {devices: 1}\n")
    config = validate(compose([str(first), str(second)], [o for o in BASE if "estimator" not in o]))
    assert config["estimator"]["lam"] == 0.01
    assert config["estimator"]["noise"] == {"name": "gumbel", "scale": 1.0}
    assert config["trainer"] == {"max_epochs": 2, "devices": 1}


def test_the_printed_configuration_reads_as_itself(tmp_path: Path) -> None:
    config = complete("optimizer.lr=1e-5", "run=1e-3", "trainer.accelerator=cpu", "seed=7")
    file = tmp_path / "full.yaml"
    file.write_text(to_yaml(config))
    assert read_file(str(file)) == config
    assert to_yaml(validate(compose([str(file)], []))) == file.read_text()


def test_interpolation_finds_defaults_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBP_TEST_RUN", "17")
    config = complete("task.items=${data.items}", "run=job_${oc.env:DBP_TEST_RUN}")
    assert config["task"]["items"] == config["data"]["items"]
    assert config["run"] == "job_17"


def test_the_seed_of_the_data_follows_the_seed_unless_given() -> None:
    assert "seed" not in complete("seed=3")["data"]
    assert complete("seed=3", "data.seed=4")["data"]["seed"] == 4


def test_a_checkpoint_is_the_lowest_layer() -> None:
    base = complete("estimator.lam=3", "optimizer.lr=0.5", "trainer.max_epochs=2")
    config = complete("estimator.lam=4", "trainer.max_epochs=9", base=base)
    assert (config["estimator"]["lam"], config["optimizer"]["lr"], config["trainer"]["max_epochs"]) == (4.0, 0.5, 9)


EXTERNAL: list[tuple[dict[str, Any], str, str]] = [
    ({"estimator": "evil:Evil"}, "estimator=identity", "estimator=evil:Evil"),
    ({"estimator": {"name": "evil:Evil"}}, "estimator=identity", "estimator=evil:Evil"),
    ({"estimator": {"name": "imle", "noise": "evil:Evil"}}, "estimator.noise=normal", "estimator.noise=evil:Evil"),
    ({"callbacks": {"evil:Evil": {}}}, "callbacks=null", "callbacks.evil:Evil={}"),
]


@pytest.mark.parametrize(("holds", "replaced", "named"), EXTERNAL)
def test_code_that_only_a_checkpoint_names_is_refused(holds: dict[str, Any], replaced: str, named: str) -> None:
    base = {**complete(), **holds}
    with pytest.raises(UserError, match="the checkpoint names 'evil:Evil'"):
        compose([], ["seed=3"], base)
    assert import_paths(compose([], [replaced], base)) == set()
    assert import_paths(compose([], [named], base)) == {"evil:Evil"}
