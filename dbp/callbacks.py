"""What every run carries besides its task: repeatable randomness, checkpoints that survive, and what they say."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, Checkpoint, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.seed import isolate_rng

import dbp
from dbp.checkpoints import KEY
from dbp.data.order import key
from dbp.errors import UserError
from dbp.files import replacing
from dbp.loggers import CSVLogger


def seed_all(value: int) -> None:
    """Seeds Python, NumPy and torch (all devices)."""
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)


class KeyedRandomness(Callback):
    """Makes all randomness a function of (seed, rank, epoch, batch), not of history.

    So a run that was killed and resumed draws what one that was not draws, and evaluation does not change training.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._kept = ExitStack()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        progress: Any = trainer.fit_loop.epoch_progress
        # Lightning 2.6 does not count an epoch as started after a resume from the last batch of the one before, and a
        # second resume inside of it would replay it from its first batch.
        for counts in (progress.current, progress.total):
            counts.ready = max(counts.ready, counts.processed + 1)
            counts.started = max(counts.started, counts.processed + 1)
        self._seed("train", trainer, progress.current.processed, batch_idx)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._kept.enter_context(isolate_rng(include_cuda=torch.cuda.is_initialized()))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._kept.close()

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._seed("val", trainer, dataloader_idx, batch_idx)

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._seed("test", trainer, dataloader_idx, batch_idx)

    def on_predict_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._seed("predict", trainer, dataloader_idx, batch_idx)

    def _seed(self, purpose: str, trainer: pl.Trainer, *position: int) -> None:
        seed_all(key(self.seed, purpose, trainer.global_rank, *position))


class SaveConfig(Callback):
    """Writes the configuration of the run into every checkpoint, as plain data."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = {"version": dbp.__version__, "config": self.config}


def complete_line(trainer: pl.Trainer) -> None:
    """Writes the epoch's line of metrics.csv before its checkpoint.

    Lightning logs an epoch after its checkpoint: a run killed in between would never have its line.
    """
    metrics = {k: v.item() for k, v in trainer.callback_metrics.items() if k.startswith("train/")}
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger):
            logger.log_metrics({"epoch": trainer.current_epoch, **metrics}, trainer.global_step - 1)


class Best(ModelCheckpoint):
    """The best epoch by `monitor`, as `epoch=N-step=M.ckpt`: what `ckpt_path=best` means.

    Args:
        monitor: the metric that says which is best; of training where there is no validation.
    """

    def __init__(self, monitor: str = "val/loss", **options: Any) -> None:
        super().__init__(monitor=monitor, save_last=False, enable_version_counter=False, **options)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.monitor and not trainer.enable_validation:
            self.monitor = self.monitor.replace("val/", "train/")
        super().setup(trainer, pl_module, stage)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        complete_line(trainer)
        super().on_train_epoch_end(trainer, pl_module)


class Last(Checkpoint):
    """`last.ckpt` after every epoch: what `ckpt_path=last` goes on from.

    It is apart from `Best` because Lightning's `save_last` writes only when the monitored metric has improved.

    Args:
        every_n_train_steps: how often it is written within an epoch, too.
    """

    def __init__(self, dirpath: str | None = None, every_n_train_steps: int | None = None) -> None:
        self.dirpath, self.every = dirpath, every_n_train_steps
        self._saved = 0

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if self.every and trainer.global_step % self.every == 0 and trainer.global_step != self._saved:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        complete_line(trainer)
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        self._saved = trainer.global_step
        trainer.save_checkpoint(os.path.join(self.dirpath or trainer.default_root_dir, "last.ckpt"))


class ProgressBar(TQDMProgressBar):
    """Lightning's, without the version of the run, which its folder has in full."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class Pictures(Callback):
    """Draws what became of the first validation batch, for TensorBoard.

    Args:
        every_n_epochs: how often; the first and the last epoch are always drawn.
    """

    def __init__(self, every_n_epochs: int = 10) -> None:
        if every_n_epochs < 1:
            raise UserError(f"pictures: every_n_epochs must be at least 1, got {every_n_epochs}")
        self.every = every_n_epochs

    @rank_zero_only
    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        epoch, boards = trainer.current_epoch, [x for x in trainer.loggers if isinstance(x, TensorBoardLogger)]
        due = epoch % self.every == 0 or epoch + 1 == trainer.max_epochs
        if boards and due and batch_idx == 0 and not trainer.sanity_checking:
            for name, figure in pl_module.figures(batch).items():
                for board in boards:
                    board.experiment.add_figure(f"val/{name}", figure, trainer.global_step)


class SavedPictures(Callback):
    """Draws what became of the first test batch into PNG files, `test_<name>.png` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.paths = folder, list[Path]()

    @rank_zero_only
    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        for name, figure in (pl_module.figures(batch) if batch_idx == 0 else {}).items():
            path = self.folder / f"test_{name}.png"
            with replacing(path) as temporary:
                figure.savefig(temporary, dpi=150, format="png")
            self.paths.append(path)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are complete or not there; Lightning's move them in from TMPDIR, perhaps another file system."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)


class ChangedOptimizer(Callback):
    """Gives the options that a resumed run changes to its optimizers, whose restored state would say otherwise.

    Where a schedule sets the learning rate, it goes on from where it was, multiplied by new / old.
    """

    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self.changed = {name: value for name, value in new.items() if name != "name" and old.get(name) != value}
        self.ratio = new["lr"] / old["lr"] if "lr" in self.changed and old.get("lr") else 1.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        for group in (group for optimizer in trainer.optimizers for group in optimizer.param_groups):
            scheduled = {"lr": group["lr"] * self.ratio} if schedulers and "lr" in self.changed else {}
            group.update({**self.changed, **scheduled})
            if "initial_lr" in group:
                group["initial_lr"] *= self.ratio
        for scheduler in schedulers:
            scheduler.base_lrs = [lr * self.ratio for lr in scheduler.base_lrs]
