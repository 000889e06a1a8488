"""Experiments ship with dbp and are found by name in any folder."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dbp.registry import experiments

ROOT = Path(__file__).parents[2]


def test_every_file_of_configs_has_a_name_and_a_description() -> None:
    assert experiments.experiments() == {
        str(path.relative_to(ROOT / "configs").with_suffix("")): path for path in (ROOT / "configs").rglob("*.yaml")
    }
    listed = " ".join(experiments.listing().split())
    for name, path in experiments.experiments().items():
        first = path.read_text().splitlines()[0]
        assert first.startswith("# ")
        assert f" {name} {first[2:]}" in listed


@pytest.mark.parametrize("name", ["slots/gumbel", "slots/gumbel.yaml", "slots/gumbel.yml"])
def test_a_name_is_found_in_any_folder(dbp: Any, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("slots/gumbel").mkdir(parents=True)  # a folder is no configuration
    assert dbp("fit", "--config", name, "trainer.max_epochs=3", "--print_config") == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["task"]["name"], printed["trainer"]["max_epochs"]) == ("slots", 3)


def test_a_file_that_exists_wins(dbp: Any, capsys: pytest.CaptureFixture[str]) -> None:
    own = Path("slots/gumbel.yaml")
    own.parent.mkdir()
    own.write_text("{task: slots, solver: one_hot, estimator: identity, data: slots}")
    assert dbp("fit", "--config", str(own), "--print_config") == 0
    assert yaml.safe_load(capsys.readouterr().out)["estimator"]["name"] == "identity"
    assert dbp("fit", "--config", "slots/gumbel", "--print_config") == 0  # no such file
    assert yaml.safe_load(capsys.readouterr().out)["estimator"]["name"] == "straight_through"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dvae/digit", "--config dvae/digit: no such file or experiment. Did you mean 'dvae/digits'"),
        ("configs/dvae/digits.yaml", "no such file or experiment. Did you mean 'dvae/digits'"),
        ("../configs/dvae/digits", "no such file or experiment."),
        (".", "--config .: no such file or experiment."),
        ("\0", "no such file or experiment."),
    ],
)
def test_neither_a_file_nor_a_name(dbp: Any, name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["fit", "--config", name], ["list", "config", name]):
        assert dbp(*command) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.endswith("\n  dbp list config shows all experiments\n")


def test_list_shows_experiments(dbp: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["list"], ["list", "config"], ["list", "configs"]):
        assert dbp(*command) == 0
        assert "  slots/softmax        The same without noise: " in capsys.readouterr().out
    assert dbp("list", "config", "slots/gumbel") == 0
    shown = capsys.readouterr().out
    assert shown == f"# {ROOT / 'configs/slots/gumbel.yaml'}\n{(ROOT / 'configs/slots/gumbel.yaml').read_text()}"
