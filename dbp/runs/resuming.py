"""A run that goes on with other options than it had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from dbp.data.loader import Loader
from dbp.data.order import Order
from dbp.errors import UserError

KEYS = {"batch_size": "data.batch_size", "world": "trainer.devices", "seed": "seed", "examples": "data"}


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


class SameBatches(Callback):
    """Refuses to go on in the middle of an epoch whose other batches would not be those that are left of it.

    Raises:
        UserError: names what is not as it was: the size of a batch, the number of processes or of examples, the seed.
    """

    def __init__(self) -> None:
        self.old: dict[str, Any] = {}

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["order"] = _order_of(trainer)

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.old = checkpoint.get("order", {})

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress
        new, done = _order_of(trainer), progress.current.processed
        if self.old and new and 0 < done < (batches := len(Order(**self.old))):
            changed = [f"{KEYS.get(k, k)}: {self.old[k]} -> {new[k]}" for k in new if new[k] != self.old[k]]
            if changed:
                raise UserError(
                    f"the checkpoint is of the middle of an epoch (batch {done} of {batches}), the rest of which would "
                    f"be other examples: {', '.join(changed)}\n"
                    "  give the old values, or go on from the end of an epoch: ckpt_path=FILE"
                )


def _order_of(trainer: pl.Trainer) -> dict[str, Any]:
    """What the training batches of all processes are a function of; empty for data that is not ours."""
    loader = trainer.train_dataloader
    return {**asdict(loader.order), "rank": 0} if isinstance(loader, Loader) else {}
