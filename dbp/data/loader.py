"""Data loaders: batches of indices become batches of tensors."""

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from dbp.errors import DataError
from dbp.data.order import Batch, Order


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Tensors(Dataset[tuple[Tensor, ...]]):
    """Tensors of n rows in memory; a whole batch is one copy. uint8 stands for pixels, read as floats in [0, 1].

    Args:
        tensors: all with the same number of rows.
        transform: maps the tensors of a batch to those of the transformed batch; it may be random (augmentation).
    """

    def __init__(self, *tensors: Tensor, transform: Callable[..., tuple[Tensor, ...]] | None = None) -> None:
        rows = [len(tensor) for tensor in tensors]
        if len(set(rows)) != 1:
            raise DataError(f"the tensors of a data set need the same number of rows, not {rows}")
        self.tensors, self.transform = tensors, transform

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(tensor[0] for tensor in self.batch([range(len(self))[index]]))

    def batch(self, indices: list[int]) -> tuple[Tensor, ...]:
        """The rows `indices` of each tensor."""
        rows = torch.tensor(indices)
        chosen = (tensor.index_select(0, rows) for tensor in self.tensors)
        batch = tuple(tensor / 255 if tensor.dtype is torch.uint8 else tensor for tensor in chosen)
        return self.transform(*batch) if self.transform else batch


class Loader:
    """Iterates over the batches of a data set in a given `Order`, starting at `position() -> (epoch, batch)`.

    It is not a `DataLoader`, so Lightning does not change its order. Random numbers that a data set draws from the
    generators of torch, NumPy or Python (augmentation) depend on the batch alone, with any number of workers.
    `len()` is the length of a whole epoch, wherever iteration starts.
    """

    def __init__(
        self,
        dataset: Dataset,
        order: Order,
        workers: int = 0,
        position: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        self.dataset, self.order, self.workers, self.position = dataset, order, workers, position

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Any]:
        batches, fetch = self.order.batches(*self.position()), _Fetch(self.dataset)
        if not self.workers:
            return map(fetch.__getitem__, batches)
        loader = DataLoader(
            fetch,
            batch_size=None,
            sampler=batches,
            num_workers=self.workers,
            collate_fn=_unchanged,
            worker_init_fn=_leave_signals_to_the_run,
            generator=torch.Generator(),  # of its own, because the loader draws a seed when it starts
        )
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the workers have set their handlers
        try:
            return iter(loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def state_dict(self) -> dict[str, Any]:
        """Empty: the position is in Lightning's progress. The method tells Lightning that the loader is resumable."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Does nothing: `state_dict` is empty."""


class _Fetch(Dataset[Any]):
    """A data set of batches."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, batch: Batch) -> Any:
        if isinstance(self.dataset, Tensors) and not self.dataset.transform:
            return self.dataset.batch(batch.indices)
        with _randomness(batch.seed):
            if isinstance(self.dataset, Tensors):
                return self.dataset.batch(batch.indices)
            return default_collate([self.dataset[index] for index in batch.indices])


@contextmanager
def _randomness(seed: int) -> Iterator[None]:
    """Seeds the CPU generators of torch, NumPy and Python, and restores their states afterwards."""
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])


def _leave_signals_to_the_run(worker: int) -> None:
    """Ignores what a launcher or a scheduler sends to all processes: the process that trains stops them at its end.

    The second SIGTERM ends a worker: it comes from a loader that has waited in vain for the worker to finish.
    """
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _ignore_one)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _ignore_one(number: int, frame: Any) -> None:
    signal.signal(number, signal.SIG_DFL)


def _unchanged(batch: Any) -> Any:
    return batch
