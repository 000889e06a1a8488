"""Resuming with a changed configuration: what takes effect, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping

from dbp.data.loader import Loader
from dbp.data.order import Order
from dbp.errors import UserError
from dbp.runs.checkpoints import KEY

log = logging.getLogger(__name__)
KEYS = {"batch_size": "data.batch_size", "world": "trainer.devices", "seed": "seed", "examples": "data"}
CYCLED = {"lr", "betas", "momentum"}  # what one_cycle sets from options of its own


class ChangedOptimizer(Callback):
    """Gives changed options to the optimizers of a resumed run, whose restored state would undo the change.

    Where a schedule sets the learning rate, it resumes from the restored rate, multiplied by new / old.

    Raises:
        UserError: a schedule with a `max_lr` sets what was changed.
    """

    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self.changed = {name: value for name, value in new.items() if name != "name" and old.get(name) != value}
        self.ratio = new["lr"] / old["lr"] if "lr" in self.changed and old.get("lr") else 1.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        for group in (group for optimizer in trainer.optimizers for group in optimizer.param_groups):
            if schedulers and "max_lr" in group and (cycled := sorted(CYCLED & self.changed.keys())):
                raise UserError(
                    f"optimizer.{cycled[0]}: the schedule sets it by its own options, and cannot change in a run\n"
                    "  give the old value, or start another run from the weights: init_from=FILE"
                )
            scheduled = {"lr": group["lr"] * self.ratio} if schedulers and "lr" in self.changed else {}
            group.update({**self.changed, **scheduled})
            if "initial_lr" in group:
                group["initial_lr"] *= self.ratio
        for scheduler in schedulers:
            scheduler.base_lrs = [lr * self.ratio for lr in scheduler.base_lrs]


class Ended(Callback):
    """Keeps a run that early stopping has ended from training on when the same configuration is started again.

    With other options of early stopping it is trained further; a changed `patience` takes effect, too, which
    Lightning would overwrite with the restored one.

    Args:
        old: the callbacks of the checkpoint's configuration.
        new: those of this run.
    """

    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self.same, self.ended = old == new, False

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        stoppers = [callback for callback in trainer.early_stopping_callbacks if isinstance(callback, EarlyStopping)]
        states = [(c, checkpoint["callbacks"][c.state_key]) for c in stoppers if c.state_key in checkpoint["callbacks"]]
        ended = bool(checkpoint.get(KEY, {}).get("ended"))
        self.ended = self.same and ended and any(state.get("stopping_reason") for _, state in states)
        for callback, state in states:
            state["patience"] = callback.patience

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.ended:
            trainer.should_stop = True
            if trainer.is_global_zero:
                log.info("early stopping has ended this run: nothing is left to train (a larger patience trains on)")


class SameBatches(Callback):
    """Refuses to resume mid-epoch if the remaining batches would differ from those that the interrupted run had left.

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
                    "  give the old values, or resume from the end of an epoch: ckpt_path=FILE"
                )


def _order_of(trainer: pl.Trainer) -> dict[str, Any]:
    """The values that determine the training batches of all processes; empty for data that is not ours."""
    loader = trainer.train_dataloader
    return {**asdict(loader.order), "rank": 0} if isinstance(loader, Loader) else {}
