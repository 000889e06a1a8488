"""Dead gradients: an epoch in which the decision passed no gradient on to its scores."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.utils.hooks import RemovableHandle

log = logging.getLogger(__name__)
REMEDIES = {  # options of estimators that make zero gradients rarer
    "lam": "a larger estimator.lam",
    "temperature": "a higher estimator.temperature",
    "noise": "more noise (estimator.noise.scale)",
    "samples": "more estimator.samples",
}


class DeadGradient(Callback):
    """Warns once if every gradient that reached theta in an epoch is exactly zero, so that nothing before it learns.

    It looks at each step until it has seen a gradient that is not zero, and then at none of that epoch: a run that
    learns pays for one step. Under DDP it looks at rank 0.

    Args:
        estimator: its configuration, for what to try.
    """

    def __init__(self, estimator: Mapping[str, Any]) -> None:
        self.estimator = estimator
        self._hook: RemovableHandle | None = None
        self._seen, self._warned = 0, False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._seen = 0
        if not self._warned and trainer.is_global_zero and self._hook is None:
            self._hook = pl_module.estimator.register_forward_pre_hook(self._watch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self._hook is not None and self._seen:
            self._warned = True
            tries = [text for option, text in REMEDIES.items() if self.estimator.get(option) is not None]
            log.warning(
                "estimator %s passed only gradients of zero to theta in epoch %d: nothing before it learns; try %s",
                self.estimator["name"],
                trainer.current_epoch,
                ", ".join([*tries, "or a different estimator"]),
            )
        self._remove()

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        self._remove()

    def _watch(self, module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        solver, theta, *rest = args
        if module.training and theta.requires_grad:
            theta = theta.view_as(theta)  # whose gradient has no part that reaches theta around the estimator
            theta.register_hook(self._look)
        return (solver, theta, *rest)

    def _look(self, gradient: Tensor) -> None:
        self._seen += 1
        if gradient.any():
            self._remove()

    def _remove(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
