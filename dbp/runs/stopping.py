"""Signals: a run that is asked to stop ends after the current step, with a checkpoint to resume."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch import distributed

from dbp.errors import Stopped
from dbp.runs.lightning import requeue_signal
from dbp.runs.saving import complete_line, cut_short, resumes_exactly


class StopOnSignal(Checkpoint):
    """After SIGTERM, SIGUSR1 or Ctrl-C: finishes the step, writes a checkpoint and raises `Stopped`.

    All processes stop at the same step, whichever of them was signalled: the next one after which the run
    `resumes_exactly`, which waits for a validation to end. A second Ctrl-C stops at once, without a checkpoint. In a
    job of SLURM with requeueing (Lightning's default), the signal that warns of the time limit requeues the job, too.
    It is a `Checkpoint` because Lightning calls those after all other callbacks.

    Args:
        path: of the checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.received = path, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # Python would not let it
        # Lightning has set its own handlers by now, and puts back those before them when the run ends.
        for number in {signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, requeue_signal(trainer) or signal.SIGUSR1}:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup, and shells for what runs in the background
                signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])

    def _note(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT and self.received:
            raise KeyboardInterrupt
        self.received = number
        if number == signal.SIGINT:  # print could be what the signal interrupted
            os.write(2, b"\nstopping after this step; Ctrl-C again: at once, without a checkpoint\n")

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if resumes_exactly(trainer) and (number := self._agreed(trainer)):
            trainer.save_checkpoint(self.path)
            self._stop(trainer, number)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if number := self._agreed(trainer):
            complete_line(trainer)
            if not cut_short(trainer):  # `Last` has written the checkpoint of the batch
                trainer.save_checkpoint(self.path)
            self._stop(trainer, number)

    def _agreed(self, trainer: pl.Trainer) -> int:
        """The signal that any of the processes was sent; 0 for none."""
        if trainer.world_size == 1:
            return self.received
        flag = torch.tensor(self.received, device=trainer.strategy.root_device)
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return int(flag)

    def _stop(self, trainer: pl.Trainer, number: int) -> None:
        if number == requeue_signal(trainer) and trainer.is_global_zero:
            array = os.environ.get("SLURM_ARRAY_JOB_ID")
            job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
            subprocess.run(["scontrol", "requeue", job], check=True)
        raise Stopped(number, trainer.global_step, str(self.path), trainer.global_rank)
