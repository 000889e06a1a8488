"""A run that goes on with other options than it had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


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
