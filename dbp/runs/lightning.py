"""Lightning's private names that runs rely on, all of them as read in 2.6.6; `NAMES` is tested to be there."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments import SLURMEnvironment
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

__all__ = ["SLURMEnvironment", "TorchCheckpointIO"]

NAMES = (  # of a Trainer
    "fit_loop._can_stop_early",
    "fit_loop._data_fetcher",
    "fit_loop.epoch_loop._num_ready_batches_reached",
    "fit_loop.epoch_loop._should_accumulate",
    "fit_loop.epoch_loop._should_check_val_fx",
    "fit_loop.epoch_loop.batch_progress.current.processed",
    "fit_loop.epoch_progress.current.processed",
    "_accelerator_connector.cluster_environment",
)


def accumulates(trainer: pl.Trainer) -> bool:
    """True if gradients of this batch wait for those of the next before the optimizer steps."""
    return _loop(trainer)._should_accumulate()


def ends_epoch(trainer: pl.Trainer) -> bool:
    """True if this batch is the last one of its epoch."""
    return _loop(trainer)._num_ready_batches_reached()


def validates(trainer: pl.Trainer) -> bool:
    """True if the schedule has a validation after this batch; the one that Lightning adds when a run stops is not."""
    stop, trainer.should_stop = trainer.should_stop, False
    try:
        return _loop(trainer)._should_check_val_fx(trainer.fit_loop._data_fetcher)
    finally:
        trainer.should_stop = stop


def ends_run(trainer: pl.Trainer) -> bool:
    """True if a limit of steps or of time, or early stopping, ends the run after this batch."""
    return 0 <= trainer.max_steps <= trainer.global_step or ended(trainer)


def ended(trainer: pl.Trainer) -> bool:
    """True if a callback has ended the run, and the least numbers of epochs and steps are done."""
    return trainer.should_stop and trainer.fit_loop._can_stop_early


def requeue_signal(trainer: pl.Trainer) -> int | None:
    """The signal with which SLURM warns of the time limit, if the job is to be requeued then."""
    environment: Any = trainer._accelerator_connector.cluster_environment
    automatic = isinstance(environment, SLURMEnvironment) and environment.auto_requeue
    return environment.requeue_signal if automatic else None


def _loop(trainer: pl.Trainer) -> Any:
    return trainer.fit_loop.epoch_loop
