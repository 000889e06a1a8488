"""A process of torchrun that dies: all start again, and the result is the same."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from dbp.cli import main

ROOT = Path(__file__).parents[2]
KILLER = """
import os, signal
from pytorch_lightning import Callback

class Kill(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and trainer.global_step == 9 and trainer.is_global_zero:
            os.kill(os.getpid(), signal.SIGKILL)
"""
CONFIG = """
task: {name: slots, items: 4, slots: 2, hidden: [8]}
solver: one_hot
estimator: {name: adaptive_imle, samples: 2}
data: {name: slots, items: 4, size: 60, batch_size: 5}  # six batches an epoch for each of two processes
callbacks: {last: {every_n_train_steps: 4}, pictures: null}
loggers: {tensorboard: null}
trainer: {max_epochs: 2, accelerator: cpu, strategy: ddp, devices: 2}
ckpt_path: last
"""


def fit(folder: Path, *command: str) -> tuple[dict[str, torch.Tensor], str]:
    """The weights and the metrics that a run leaves."""
    known = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]), "OMP_NUM_THREADS": "1"}
    environment = {**known, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr
    place = folder / "lightning_logs" / command[-1].removeprefix("run=")
    weights = torch.load(place / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return weights, (place / "metrics.csv").read_text()


def test_a_killed_worker_changes_nothing(tmp_path):
    (tmp_path / "killer.py").write_text(KILLER)
    (tmp_path / "run.yaml").write_text(CONFIG)
    run = ["dbp", "fit", "--config", "run.yaml"]
    whole, history = fit(tmp_path, *run, "run=whole")
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1", "-m"]
    killed, killed_history = fit(tmp_path, *torchrun, *run, "callbacks={'killer:Kill': {}}", "run=killed")
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert history == killed_history


def test_a_torchrun_that_could_hang_after_a_restart_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    assert main(["fit", "task=slots", "solver=one_hot", "estimator=imle", "data=slots"]) == 2
    assert "give torchrun TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in capsys.readouterr().err
