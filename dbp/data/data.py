"""The data module: splits, data loaders, and the batch at which a resumed run continues."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from itertools import count
from typing import Any

from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.loops.loop import _Loop
from torch.utils.data import Dataset

from dbp.errors import DataError
from dbp.data.loader import Loader
from dbp.data.order import Order


class Data(LightningDataModule, ABC):
    """Training, validation and test examples. A subclass implements `datasets`, and `prepare_data` to download.

    Each example is used exactly once an epoch, by one process or many (see `Order`). The order of the training
    examples depends on `seed` and the epoch alone; the others keep their own order. A resumed run continues with its
    next batch and does not load those before it. It works without a trainer: call `setup()`, take a loader.

    A `Tensors` data set is the fast one: whole batches, no collation. `predict` uses the test examples.

    Args:
        batch_size: examples in a batch, per process.
        workers: processes that load batches; 0 loads in the process that trains, best for data in memory.
        seed: of the order of the training examples, and of random transforms.

    Raises:
        DataError: an option is out of range, or a data set has fewer examples than there are processes.
    """

    def __init__(self, batch_size: int = 32, workers: int = 0, seed: int = 0) -> None:
        super().__init__()
        if batch_size < 1 or not 0 <= workers <= 512:
            raise DataError(f"batch_size={batch_size} must be at least 1 and workers={workers} from 0 to 512")
        self.batch_size, self.workers, self.seed = batch_size, workers, seed

    @abstractmethod
    def datasets(self) -> Mapping[str, Dataset]:
        """The map-style data sets "train", "val" and "test"; called once."""

    @cached_property
    def splits(self) -> Mapping[str, Dataset]:
        """The data sets, made on first use."""
        return self.datasets()

    def setup(self, stage: str | None = None) -> None:
        """Reads the examples now instead of at the first batch."""
        _ = self.splits

    def train_dataloader(self) -> Loader:
        """The shuffled training batches; without a trainer, each pass over them is a new epoch."""
        order, epochs, trainer = self._order("train", shuffle=True), count(), self.trainer
        if trainer:
            _count_once(trainer)

        def position() -> tuple[int, int]:
            return _next(trainer, len(order)) if trainer else (next(epochs), 0)

        return Loader(self.splits["train"], order, self.workers, position)

    def val_dataloader(self) -> Loader:
        """The validation batches, in order."""
        return Loader(self.splits["val"], self._order("val"), self.workers)

    def test_dataloader(self) -> Loader:
        """The test batches, in order."""
        return Loader(self.splits["test"], self._order("test"), self.workers)

    def predict_dataloader(self) -> Loader:
        """The test batches, in order."""
        return self.test_dataloader()

    def _order(self, split: str, shuffle: bool = False) -> Order:
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        examples = len(self.splits[split])  # type: ignore[arg-type]
        return Order(examples, self.batch_size, shuffle, self.seed, world, rank)


def _next(trainer: Trainer, batches: int) -> tuple[int, int]:
    """The epoch, and the batch in it, to train on next, from the progress that a checkpoint restores.

    `ready` is one more than `processed` until the end of an epoch is counted: after the last batch, `ready` is the
    number of the next epoch.
    """
    loop: Any = trainer.fit_loop
    epoch, progress = loop.epoch_progress.current, loop.epoch_loop.batch_progress
    done = progress.current.processed
    if not loop.restarting:
        number, done = epoch.processed, 0
    elif done >= batches or (progress.is_last_batch and done == progress.current.ready):
        number, done = epoch.ready, 0
    else:
        number = epoch.processed
    return (0 if loop.trainer.overfit_batches else number), done  # every epoch of `overfit_batches` has the same batches


def _count_once(trainer: Trainer) -> None:
    """Keeps Lightning 2.6 from running the end of an epoch twice, which would count it twice and lose its metrics.

    A run limited by steps alone that is resumed at the end of an epoch would "restart" that epoch, and only end it again.
    """
    loop: Any = trainer.fit_loop
    current = loop.epoch_progress.current
    if loop.restarting and current.processed == current.started == current.ready:
        setter: Any = _Loop.restarting  # of the base class, as Lightning's own is, where epochs are the limit
        setter.fset(loop, False)
