"""A run that is killed and resumed ends as one that was never interrupted, bit for bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
KILLER = """
import os, signal
from pytorch_lightning import Callback

class Kill(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
"""
CONFIG = """
task: {name: slots, items: 4, slots: 2, hidden: [8]}
solver: one_hot
estimator: {name: adaptive_imle, samples: 2}
data: {name: slots, items: 4, size: 60, batch_size: 10}  # six batches an epoch
scheduler: {name: cosine, T_max: 3}
callbacks: {last: {every_n_train_steps: 4}}
trainer: {max_epochs: 3, accelerator: cpu}
ckpt_path: last
"""


def fit(folder: Path, *arguments: str) -> int:
    command = [sys.executable, "-m", "dbp", "fit", "--config", "run.yaml", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def outcome(folder: Path, run: str) -> tuple[dict[str, torch.Tensor], str]:
    place = folder / "lightning_logs" / run
    weights = torch.load(place / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return weights, (place / "metrics.csv").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "killer.py").write_text(KILLER)
    (folder / "run.yaml").write_text(CONFIG)
    assert fit(folder, "run=whole") == 0
    return folder


@pytest.mark.parametrize("step", [3, 9, 17])  # before any checkpoint, in mid-epoch, at the end
def test_killed_and_resumed_is_never_interrupted(folder, step):
    run = f"killed_{step}"
    assert fit(folder, f"run={run}", f"callbacks={{'killer:Kill': {{step: {step}}}}}") == -signal.SIGKILL
    assert fit(folder, f"run={run}") == 0
    (whole, history), (resumed, resumed_history) = outcome(folder, "whole"), outcome(folder, run)
    assert whole.keys() == resumed.keys()
    assert any("alpha" in name for name in whole)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert history == resumed_history
