"""Checkpoints: when they are written, their header, and atomic writes."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint, ModelCheckpoint

import dbp
from dbp.errors import UserError
from dbp.files.atomic import replacing
from dbp.native import loader
from dbp.runs import lightning
from dbp.runs.checkpoints import KEY
from dbp.runs.loggers import CSVLogger
from dbp.runs.paths import inside, remove

log = logging.getLogger(__name__)


class Header(Callback):
    """Writes into every checkpoint, as plain data, what dbp knows of the run, and reads it when the run is resumed.

    That is the configuration, the epoch's line of metrics.csv, whether early stopping has ended the run, and whether
    noise came from the compiled kernels or from torch, which draw different numbers for the same seed.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        rows = [logger.row(trainer.current_epoch) for logger in trainer.loggers if isinstance(logger, CSVLogger)]
        checkpoint[KEY] = {
            "version": dbp.__version__,
            "config": self.config,
            "row": next(iter(rows), {}),
            "ended": lightning.ended(trainer),
            "kernels": kernels(),
        }

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        old, new = checkpoint.get(KEY, {}).get("kernels", kernels()), kernels()
        if old != new and trainer.is_global_zero:
            log.warning("noise was drawn by %s and is now drawn by %s: the same seed gives different numbers", old, new)


def kernels() -> str:
    """The implementation of noise and solvers: native kernels, with equal results on all processors, or torch."""
    return loader.status().partition(" ")[0]


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

    An epoch that `max_steps` or `max_time` cuts short is none: the rest of it is trained when the run is resumed.

    Args:
        monitor: the metric that says which is best; of training where there is no validation.
    """

    def __init__(self, monitor: str = "val/loss", **options: Any) -> None:
        super().__init__(monitor=monitor, save_last=False, enable_version_counter=False, **options)
        self.kept: Path | None = None  # a checkpoint that the user named to resume

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.monitor and not trainer.enable_validation:
            self.monitor = self.monitor.replace("val/", "train/")
        super().setup(trainer, pl_module, stage)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or not cut_short(trainer) or lightning.validates(trainer):
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        complete_line(trainer)
        if not cut_short(trainer):
            super().on_train_epoch_end(trainer, pl_module)

    def _should_remove_checkpoint(self, trainer: pl.Trainer, previous: str, current: str) -> bool:
        # Lightning's keeps any that the run resumed from; a run that was never killed would not have it.
        assert self.dirpath is not None
        return previous != current and inside(previous, Path(self.dirpath)) and Path(previous).absolute() != self.kept


def resumes_exactly(trainer: pl.Trainer) -> bool:
    """True if resuming from a checkpoint of this batch's end gives the run that was never interrupted.

    Not between accumulated batches, whose gradients are in no checkpoint. And not before a validation or the end of an
    epoch, which Lightning 2.6 would take for done when it resumes.
    """
    return not (lightning.ends_epoch(trainer) or lightning.validates(trainer) or lightning.accumulates(trainer))


def cut_short(trainer: pl.Trainer) -> bool:
    """True if the run ends within an epoch: by `max_steps`, `max_time`, or early stopping after a validation."""
    return lightning.ends_run(trainer) and not lightning.ends_epoch(trainer)


class Last(Checkpoint):
    """`last.ckpt` after every epoch: what `ckpt_path=last` resumes.

    It is apart from `Best` because Lightning's `save_last` writes only when the monitored metric has improved. A run
    that ends within an epoch leaves a checkpoint of that batch, so that the rest of the epoch is trained when it is
    resumed; where gradients are being accumulated, the run ends when they have been used.

    Args:
        every_n_train_steps: how often it is written within an epoch, too; a step or more later before a validation.
    """

    def __init__(self, dirpath: str | None = None, every_n_train_steps: int | None = None) -> None:
        self.dirpath, self.every = dirpath, every_n_train_steps
        self._saved = 0
        self._stop = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._stop |= trainer.should_stop
        trainer.should_stop = self._stop and not lightning.accumulates(trainer)
        due = self.every and trainer.global_step - self._saved >= self.every
        if (due or cut_short(trainer)) and resumes_exactly(trainer):
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and cut_short(trainer) and lightning.validates(trainer):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        complete_line(trainer)
        if not cut_short(trainer):
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        self._saved = trainer.global_step
        trainer.save_checkpoint(os.path.join(self.dirpath or trainer.default_root_dir, "last.ckpt"))


class AtomicCheckpointIO(lightning.TorchCheckpointIO):
    """Atomic writes of checkpoints, below the run's folder only, and reads of plain data and tensors only.

    Lightning's own writes go through TMPDIR, perhaps on a different file system, where a rename is not atomic.

    Args:
        folder: of the run; None allows every path (there is no run).

    Raises:
        UserError: the disk is full or not writable (the existing file is kept), or the path leads out of the folder. A
            checkpoint is damaged, or holds more than plain data and tensors.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        try:
            return torch.load(path, map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            raise UserError(f"{path} holds more than plain data and tensors, and is refused") from error
        except Exception as error:  # damaged files raise nearly anything
            raise UserError(f"{path} is damaged: {type(error).__name__}: {str(error).splitlines()[0]}") from error

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if not self._allowed(path):
            raise UserError(f"{path} is outside of the run's folder {self.folder}: no checkpoint is written there")
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with replacing(path) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            fault = error if isinstance(error, OSError) else error.__context__  # torch has an error of its own for it
            if not isinstance(fault, OSError):
                raise
            raise UserError(
                f"cannot write {path}: {fault.strerror}; what was there is kept: resume it with ckpt_path=last"
            ) from error

    def remove_checkpoint(self, path: Any) -> None:
        if self._allowed(path):
            remove(path)
        else:
            log.warning("%s is outside of the run's folder %s, and is kept", path, self.folder)

    def _allowed(self, path: Any) -> bool:
        spawned = Path(path).name == ".temp.ckpt"  # weights that a spawned process hands over in a temporary folder
        return self.folder is None or spawned or inside(path, self.folder)
