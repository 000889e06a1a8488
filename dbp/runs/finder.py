"""The learning rate finder: Lightning's, for a task whose optimizer holds the learning rate."""

import pytorch_lightning as pl
from pytorch_lightning import callbacks


class LearningRateFinder(callbacks.LearningRateFinder):
    """Trains with rising learning rates, then begins again from the initial weights with the one it suggests.

    A resumed run keeps the learning rate that it has.
    """

    def __init__(
        self,
        min_lr: float = 1e-8,
        max_lr: float = 1,
        num_training_steps: int = 100,
        mode: str = "exponential",
        early_stop_threshold: float | None = 4.0,
    ) -> None:
        super().__init__(min_lr, max_lr, num_training_steps, mode, early_stop_threshold)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.ckpt_path is None:
            pl_module.lr = trainer.optimizers[0].param_groups[0]["lr"]  # where Lightning writes what it finds
            super().on_fit_start(trainer, pl_module)
