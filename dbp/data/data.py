"""The loop's side of a data set: splits, order, and where a resumed run goes on."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from itertools import count
from typing import Any

from pytorch_lightning import LightningDataModule, Trainer
from torch.utils.data import Dataset

from dbp.errors import DataError
from dbp.data.loader import Loader
from dbp.data.order import Order


class Data(LightningDataModule, ABC):
    """Training, validation and test examples; a subclass writes `datasets`, and `prepare_data` to download.

    Each example is used exactly once an epoch, by one process or many (see `Order`): training examples in an
    order that depends on `seed` and the epoch alone, the others in their own. A resumed run goes on at its
    next batch and loads nothing that it skips. It works without a trainer: call `setup()`, take a loader.

    A `Tensors` data set is the fast one: whole batches, no collation. `predict` uses the test examples.

    Args:
        batch_size: examples in a batch, per process.
        workers: processes that load batches; 0 loads in the process that trains, best for data in memory.
        seed: of the order of the training examples and of what data sets draw.

    Raises:
        DataError: an option is out of range, or a data set has fewer examples than there are processes.
    """

    def __init__(self, batch_size: int = 32, workers: int = 0, seed: int = 0) -> None:
        super().__init__()
        if batch_size < 1 or not 0 <= workers <= 512:
            raise DataError(f"batch_size={batch_size} must be at least 1 and workers={workers} from 0 to 512.")
        self.batch_size, self.workers, self.seed = batch_size, workers, seed

    @abstractmethod
    def datasets(self) -> Mapping[str, Dataset]:
        """Returns the map-style data sets "train", "val" and "test"; called once."""

    @cached_property
    def splits(self) -> Mapping[str, Dataset]:
        """What `datasets` returned."""
        return self.datasets()

    def setup(self, stage: str | None = None) -> None:
        """Reads the examples now, not at the first batch."""
        _ = self.splits

    def train_dataloader(self) -> Loader:
        """Returns the shuffled training batches; without a trainer, each pass over them is another epoch."""
        order, epochs, trainer = self._order("train", shuffle=True), count(), self.trainer
        if trainer:
            _count_once(trainer)

        def position() -> tuple[int, int]:
            return _next(trainer, len(order)) if trainer else (next(epochs), 0)

        return Loader(self.splits["train"], order, self.workers, position)

    def val_dataloader(self) -> Loader:
        """Returns the validation batches, in order."""
        return Loader(self.splits["val"], self._order("val"), self.workers)

    def test_dataloader(self) -> Loader:
        """Returns the test batches, in order."""
        return Loader(self.splits["test"], self._order("test"), self.workers)

    def predict_dataloader(self) -> Loader:
        """Returns the test batches, in order."""
        return self.test_dataloader()

    def _order(self, split: str, shuffle: bool = False) -> Order:
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        examples = len(self.splits[split])  # type: ignore[arg-type]
        return Order(examples, self.batch_size, shuffle, self.seed, world, rank)


def _next(trainer: Trainer, batches: int) -> tuple[int, int]:
    """Returns the epoch, and the batch in it, to train on next: from the progress that a checkpoint restores.

    `ready` is one more than `processed` until the end of an epoch is counted: if the last batch is done, it is
    the number of the next epoch.
    """
    loop: Any = trainer.fit_loop
    epoch, progress = loop.epoch_progress.current, loop.epoch_loop.batch_progress
    done = progress.current.processed
    if loop.trainer.overfit_batches:
        return 0, 0
    if not loop.restarting:
        return epoch.processed, 0
    if done >= batches or (progress.is_last_batch and done == progress.current.ready):
        return epoch.ready, 0
    return epoch.processed, done


def _count_once(trainer: Trainer) -> None:
    """Keeps Lightning 2.6 from counting an epoch twice, which would give later ones another order.

    Resumed at the end of an epoch, a run limited by steps alone "restarts" that epoch and counts it again.
    """
    loop: Any = trainer.fit_loop
    progress = loop.epoch_progress
    if loop.restarting and progress.current.processed == progress.current.ready:
        progress.current.processed -= 1
        progress.total.processed -= 1
