"""Makes a job slow until it is interrupted."""

import os
import time
from pathlib import Path

from pytorch_lightning import Callback


class Slow(Callback):
    """Says that training has begun, and waits a second in each step, unless the job was requeued."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if "SLURM_RESTART_COUNT" not in os.environ:
            Path(f"training_{os.environ['SLURM_JOB_ID']}").touch()
            time.sleep(1)
