"""Layers of configuration: the later wins, the whole is complete and reads as itself."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from dbp.cli import main
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


def test_naming_another_component_drops_the_old_options(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("estimator: {name: imle, lam: 3}\n")
    words = [o for o in BASE if "estimator" not in o]
    for names, lam in (([], 3.0), (["estimator=imle"], 3.0), (["estimator=perturbed", "estimator=imle"], 1.0)):
        assert validate(compose([str(file)], [*words, *names]))["estimator"]["lam"] == lam


WORDS: list[tuple[list[str], dict[str, Any]]] = [
    (["data=mnist", "data.root=there"], {"name": "mnist", "root": "there"}),
    (["data={name: mnist}", "data={batch_size: 7}"], {"name": "mnist", "batch_size": 7}),
    (["solver.name=top_k", "solver.k=2"], {"name": "top_k", "k": 2}),
    (
        ["estimator=perturbed", "estimator.noise=normal", "estimator.noise.scale=3"],
        {"name": "perturbed", "noise": {"name": "normal", "scale": 3}},
    ),
    (["estimator={name: imle, lam: 3}", "estimator.lam=4"], {"name": "imle", "lam": 4}),
    (["task=dvae", "task.rows=3", "task={columns: 5}"], {"name": "dvae", "rows": 3, "columns": 5}),
    (["optimizer=sgd", "optimizer.lr=0.5", "optimizer.momentum=0.9"], {"name": "sgd", "lr": 0.5, "momentum": 0.9}),
    (["scheduler=step", "scheduler.step_size=3"], {"name": "step", "step_size": 3}),
]


@pytest.mark.parametrize(("words", "expected"), WORDS)
def test_the_order_of_words_does_not_matter(words: list[str], expected: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "task: slots\nsolver: one_hot\nestimator: {name: identity, margin: 1}\ndata: {name: slots, size: 9}\n"
    )
    key = words[0].partition("=")[0].partition(".")[0]
    for order in itertools.permutations(words):
        assert compose([str(file)], order)[key] == expected


def test_null_removes_what_was_given_before() -> None:
    words = ["callbacks.monitor.every_n_steps=2", "callbacks.monitor=null"]
    assert "monitor" not in complete(*words)["callbacks"]
    assert "monitor" in complete(*reversed(words))["callbacks"]


def test_the_module_of_a_class_may_have_dots() -> None:
    name = "pytorch_lightning.callbacks:EarlyStopping"
    config = complete(f"callbacks.{name}.monitor=val/loss", f"callbacks.{name}={{patience: 2}}")
    assert config["callbacks"][name] == {"monitor": "val/loss", "patience": 2}
    assert import_paths(config) == {name}


def test_files_are_read_once_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("task: slots\nsolver: one_hot\nestimator: imle\ndata: slots\n")
    times = []
    monkeypatch.setattr("dbp.config.read_file", lambda path: times.append(path) or read_file(path))
    assert main(["fit", "--config", str(tmp_path / "a.yaml"), "--print_config"]) == 0
    assert len(times) == 1


def test_of_two_names_the_last_wins_and_has_the_options() -> None:
    config = complete("estimator.lam=3", "estimator=perturbed", "estimator=blackbox")
    assert config["estimator"] == {"name": "blackbox", "lam": 3.0, "two_sided": False}


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
