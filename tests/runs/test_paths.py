"""A run reads and writes where its user says: on the command line and in files that the user names."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dbp.cli import main
from dbp.components import catalog
from dbp.config import compose, paths, validate
from dbp.errors import UserError
from dbp.registry.paths import INSIDE
from dbp.registry.signature import Option, signature
from dbp.runs.run import load

PLACES = {
    "data.root", "trainer.default_root_dir", "trainer.model_registry",
    "logger.tracking_uri", "logger.artifact_location", "logger.space_id",
}  # fmt: skip
TEXTS = {  # every other option that may be any text, none of which is a path
    "accelerator", "avg_fn", "checkpoint_name", "device", "devices", "duration", "experiment_name",
    "gradient_clip_algorithm", "id", "interval", "max_time", "mode", "monitor", "prefix", "profiler", "project",
    "run_id", "run_name", "strategy", "val_check_interval",
}  # fmt: skip
TRACKERS = {"tracking_uri": "mlflow", "artifact_location": "mlflow", "space_id": "trackio"}
NEEDED = ["task=slots", "solver=one_hot", "estimator=imle"]


def texts() -> Iterator[tuple[str, Option]]:
    """Every option, built in, that takes any text."""
    trainer = signature("pytorch_lightning.trainer.trainer.Trainer")
    assert trainer is not None
    found = [("trainer", option) for option in trainer.options.values()]
    for kind, registry in catalog.items():
        names = [name for name, claims in registry.claims().items() if claims[0].source == "built in"]
        found += [(kind, option) for name in names for option in registry.signature(name).options.values()]
    for kind, option in found:
        parts = option.type.args if option.type.form == "union" else (option.type,)
        untyped = kind not in ("optimizer", "scheduler", "network") and any(part.form == "any" for part in parts)
        if untyped or any(part.form in ("str", "path") for part in parts):
            yield kind, option


def test_every_option_that_may_be_text_is_a_path_or_known_to_be_none():
    found = dict.fromkeys(f"{kind}.{option.name}" for kind, option in texts())
    assert {name for name in found if name.partition(".")[2] not in TEXTS | set(INSIDE)} == PLACES


def place(name: str, value: str) -> dict[str, object]:
    """The configuration of a checkpoint in which an option has a value."""
    base = validate(compose([], [*NEEDED, "data=mnist"]))
    kind, _, option = name.partition(".")
    if kind in ("callback", "logger"):
        component = {"callback": "best", "logger": TRACKERS.get(option, "tensorboard")}[kind]
        base[f"{kind}s"][component] = {option: value}
    else:
        base[kind][option] = value
    return base


@pytest.mark.parametrize("value", ["thesis", "/thesis", "~/thesis", "a/../../thesis", "s3://thesis"])
@pytest.mark.parametrize("name", sorted(PLACES | {"callback.filename", "logger.sub_dir", "estimator.unheard_of"}))
def test_no_path_comes_from_a_checkpoint(name, value):
    base = place(name, value)
    if name.startswith("trainer."):
        assert compose([], [], base)["trainer"] == {}
        return
    if name.partition(".")[2] in (*INSIDE, "unheard_of") and value == "thesis":
        compose([], [], base)  # a name in the run's own folder, or no path at all
        return
    with pytest.raises(UserError, match="where a run reads and writes is for you to say"):
        compose([], [], base)
    ((keys, found),) = paths(base).items()
    assert found == value
    told = f"{'.'.join(keys)}={value}"
    assert paths(compose([], [told], base)) == {keys: value}
    assert paths(compose([], [f"{'.'.join(keys)}=mine"], base)) in ({keys: "mine"}, {})


def test_a_path_that_the_user_replaces_or_that_is_the_default_is_no_question():
    compose([], [], place("data.root", "data"))
    assert compose([], ["data=slots"], place("data.root", "/thesis"))["data"] == {"name": "slots"}


@pytest.fixture
def checkpoint(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DBP_RUN", raising=False)
    small = ["data=slots", "data.size=20", "trainer.max_epochs=1", "trainer.accelerator=cpu", "run=r"]
    assert main(["fit", *NEEDED, *small]) == 0
    path = tmp_path / "lightning_logs" / "r" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["dbp"]["config"]["data"] = {"name": "mnist", "root": "/thesis"}
    content["dbp"]["config"]["trainer"]["default_root_dir"] = "elsewhere"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_the_path_is_named_in_two_lines_and_can_be_said(checkpoint, capsys, stage):
    assert main([stage, f"ckpt_path={checkpoint}"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "dbp: error: the checkpoint names the path data.root=/thesis: where a run reads and writes is for you to say",
        "  give data.root=PATH yourself, on the command line or in a --config",
    ]
    assert not Path("elsewhere").exists()
    assert main([stage, f"ckpt_path={checkpoint}", "data={name: slots, size: 20}", "trainer.max_epochs=2"]) == 0
    assert not Path("elsewhere").exists()


def test_weights_are_loaded_wherever_their_data_was(checkpoint):
    assert load(checkpoint).solver is not None
