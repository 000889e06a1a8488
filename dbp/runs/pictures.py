"""The progress bar, and pictures of a batch and its decisions."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from dbp.errors import UserError
from dbp.files.atomic import replacing

BOARDS = (TensorBoardLogger, WandbLogger)


class ProgressBar(TQDMProgressBar):
    """Lightning's, without the version of the run, which its folder has in full."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class Pictures(Callback):
    """Draws the first validation batch and its decisions, for TensorBoard and Weights & Biases.

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
        epoch, boards = trainer.current_epoch, [x for x in trainer.loggers if isinstance(x, BOARDS)]
        due = epoch % self.every == 0 or epoch + 1 == trainer.max_epochs
        if boards and due and batch_idx == 0 and not trainer.sanity_checking:
            for board in boards:
                for name, figure in pl_module.figures(batch).items():
                    _add(board, f"val/{name}", figure, trainer.global_step)
                    del figure
            gc.collect()  # a figure is a knot of references, of ten megabytes


def _add(board: Any, name: str, figure: Any, step: int) -> None:
    if isinstance(board, WandbLogger):
        board.log_image(name, [figure], step=step)
    else:
        board.experiment.add_figure(name, figure, step)


class SavedPictures(Callback):
    """Draws the first test batch and its decisions into PNG files, `test_<name>.png` in a folder."""

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
