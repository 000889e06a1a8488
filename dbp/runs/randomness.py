"""Repeatable randomness: draws are a function of a run's position, not of its history."""

from __future__ import annotations

import random
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.seed import isolate_rng

from dbp.data.order import key


def seed_all(value: int) -> None:
    """Seeds Python, NumPy and torch (all devices)."""
    random.seed(value)
    np.random.seed(value % 2**32)
    if torch.accelerator.is_available():
        torch.manual_seed(value)
    else:  # which, without a device, writes down the call stack for one that may come: 0.4 ms
        torch.default_generator.manual_seed(value)


class KeyedRandomness(Callback):
    """Makes all randomness a function of (seed, rank, epoch, batch), not of history.

    A resumed run therefore draws the same numbers as an uninterrupted one, and evaluation does not change training.
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
