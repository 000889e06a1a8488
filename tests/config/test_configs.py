"""Every file under configs/ is an experiment that runs, or lays over one that does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dbp.cli import main

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data"  # the official files, where they are at hand
EXPERIMENTS = sorted(p for p in (ROOT / "configs").rglob("*.yaml") if p.parent.name != "trainer")
QUICK = ["trainer.fast_dev_run=true", "trainer.accelerator=cpu"]
LAYERS = sorted((ROOT / "configs" / "trainer").glob("*.yaml"))


def data_for(path: Path) -> list[str]:
    """Overrides for a set that would be downloaded: its files, or else the digits that need none."""
    name = yaml.safe_load(path.read_text())["data"]["name"]
    places = {"mnist": REAL, "fashion_mnist": REAL, "omniglot": REAL}
    if name not in places:
        return []
    return [f"data.root={places[name]}"] if REAL.is_dir() else ["data={name: digits}", "task.shape=[8,8]"]


def fits(*arguments: object) -> None:
    assert main(["fit", *map(str, arguments), *QUICK]) == 0


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_experiment_fits_a_batch(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fits("--config", path, *data_for(path))


@pytest.mark.parametrize("path", LAYERS, ids=lambda path: path.name)
def test_a_layer_lies_over_an_experiment(path, tmp_path):
    """In a process of its own, which may start others."""
    base = ROOT / "configs" / "dvae" / "digits.yaml"
    command = [sys.executable, "-m", "dbp", "fit", "--config", base, "--config", path, *QUICK]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SLURM_JOB_ID": "17"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    assert "train/loss" in done.stdout


def test_there_are_experiments_to_test():
    assert {path.parent.name for path in EXPERIMENTS} >= {"dvae", "slots", "vae", "sorting"}
    assert len(LAYERS) >= 3
