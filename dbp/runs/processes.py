"""Failures of runs with several processes: all of them end, and one message says why."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch.distributed import DistBackendError, DistNetworkError

from dbp.errors import Echo, NonFinite, Stopped, UserError
from dbp.runs.parent import watch, watching

log = logging.getLogger(__name__)
ERROR = "error.txt"  # of the run's folder
PATIENCE = 2.0  # seconds in which the process that failed writes why
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed")


class OneMessage(Callback):
    """The first process to fail writes `error.txt` in the run's folder; the others end without a message.

    A killed process cannot write the file; the survivors do, and the one that launched it names it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ERROR
        self.instead: UserError | None = None

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if trainer.local_rank and not os.environ.get("TORCHELASTIC_RUN_ID") and not watching():
            watch(os.getppid())  # a process that was spawned, whose command line nobody ran

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        if trainer.world_size == 1 or isinstance(exception, Stopped | KeyboardInterrupt):
            return
        lost = isinstance(exception, DistBackendError | DistNetworkError) or any(x in str(exception) for x in LOST)
        if lost:
            self.instead = UserError(f"the run lost a process: {self._missing(trainer)}. To resume: ckpt_path=last")
        elif isinstance(exception, UserError) and not isinstance(exception, NonFinite):  # which has its rank in it
            self.instead = UserError(f"rank {trainer.global_rank}: {exception}")
        try:
            with self.path.open("x") as file:
                file.write(f"{self.instead or repr(exception)}\n")
        except FileExistsError:
            self.instead = Echo("another process says why")
        except OSError:  # the folder is gone, or the disk full: each process says what happened to it
            log.warning("%s cannot be written", self.path)

    def _missing(self, trainer: pl.Trainer) -> str:
        """The way in which a process that this one launched ended, after giving it time to report that itself."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not self.path.exists():
            for rank, child in enumerate(getattr(trainer.strategy.launcher, "procs", []), 1):
                if (child.poll() or 0) < 0:
                    return f"rank {rank} (process {child.pid}) was killed by {signal.Signals(-child.returncode).name}"
            time.sleep(0.05)
        return "it ended without a word, perhaps killed because memory ran out"
