"""Checkpoints: when they are written, what they say, and that they are complete."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, Checkpoint, ModelCheckpoint

import dbp
from dbp.errors import UserError
from dbp.runs.checkpoints import KEY
from dbp.runs.files import replacing
from dbp.runs.loggers import CSVLogger


class Header(Callback):
    """Writes into every checkpoint, as plain data, the configuration of the run and its line of metrics.csv."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        rows = [logger.row(trainer.current_epoch) for logger in trainer.loggers if isinstance(logger, CSVLogger)]
        checkpoint[KEY] = {"version": dbp.__version__, "config": self.config, "row": next(iter(rows), {})}


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
        self.kept: Path | None = None  # a checkpoint that the user went on from by its name

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.monitor and not trainer.enable_validation:
            self.monitor = self.monitor.replace("val/", "train/")
        super().setup(trainer, pl_module, stage)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        complete_line(trainer)
        super().on_train_epoch_end(trainer, pl_module)

    def _should_remove_checkpoint(self, trainer: pl.Trainer, previous: str, current: str) -> bool:
        # Lightning's keeps any that the run went on from; a run that was never killed would not have it.
        return previous != current and Path(previous).absolute() != self.kept


def resumes_exactly(trainer: pl.Trainer) -> bool:
    """Whether a checkpoint written at the end of this batch leads to the run that goes on without it.

    Not between accumulated batches, whose gradients are in no checkpoint. And not before a validation or the end of an
    epoch, which Lightning 2.6 would take for done when it resumes.
    """
    loop: Any = trainer.fit_loop.epoch_loop
    ahead = loop._is_training_done or loop._should_check_val_fx(trainer.fit_loop._data_fetcher)
    return not (ahead or loop._should_accumulate())


class Last(Checkpoint):
    """`last.ckpt` after every epoch: what `ckpt_path=last` goes on from.

    It is apart from `Best` because Lightning's `save_last` writes only when the monitored metric has improved.

    Args:
        every_n_train_steps: how often it is written within an epoch, too; a step or more later before a validation.
    """

    def __init__(self, dirpath: str | None = None, every_n_train_steps: int | None = None) -> None:
        self.dirpath, self.every = dirpath, every_n_train_steps
        self._saved = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if self.every and trainer.global_step - self._saved >= self.every and resumes_exactly(trainer):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        complete_line(trainer)
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        self._saved = trainer.global_step
        trainer.save_checkpoint(os.path.join(self.dirpath or trainer.default_root_dir, "last.ckpt"))


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are complete or not there; Lightning's move them in from TMPDIR, perhaps another file system.

    Raises:
        UserError: the disk is full, or cannot be written; the file that was there is kept. A checkpoint is damaged, or
            holds more than plain data and tensors.
    """

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        try:
            return torch.load(path, map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            raise UserError(f"{path} holds more than plain data and tensors, and is refused") from error
        except Exception as error:  # damaged files raise nearly anything
            raise UserError(f"{path} is damaged: {type(error).__name__}: {str(error).splitlines()[0]}") from error

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with replacing(path) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            fault = error if isinstance(error, OSError) else error.__context__  # torch has an error of its own for it
            if not isinstance(fault, OSError):
                raise
            raise UserError(
                f"cannot write {path}: {fault.strerror}; what was there is kept: go on from it with ckpt_path=last"
            ) from error
