"""The order of examples: each batch is a function of (seed, epoch, batch, rank), never of history."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import torch
from torch import Tensor

from dbp.errors import DataError


def key(*parts: object) -> int:
    """A 63-bit seed made of any values with a stable `repr`: the same in every process."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "little") >> 1


class Batch(NamedTuple):
    """The `indices` of a batch's examples, and the seed of its random transforms."""

    seed: int
    indices: list[int]


@dataclass(frozen=True)
class Order:
    """The batches of every epoch, as one of `world` processes sees them.

    An epoch is a permutation (or, unshuffled, the data set's own order), split into global batches of
    `batch_size * world` examples; process r takes every `world`-th example of each, starting at the r-th. The last
    batch may be smaller, and fewer than `world` remaining examples join the batch before. So each example is used
    exactly once in an epoch, nothing is padded or dropped, and all processes have the same number of batches, none of
    them empty: collectives cannot hang.

    Raises:
        DataError: there are fewer examples than processes.
    """

    examples: int
    batch_size: int
    shuffle: bool = False
    seed: int = 0
    world: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        if self.examples < self.world:
            raise DataError(f"{self.examples} examples cannot be shared by {self.world} process(es)")

    def __len__(self) -> int:
        whole, rest = divmod(self.examples, self.batch_size * self.world)
        return whole + (rest >= self.world or not whole)

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yields the batches of `epoch`, starting with the `start`-th; skipping costs nothing."""
        order, size = self.permutation(epoch), self.batch_size * self.world
        for number in range(start, len(self)):
            end = self.examples if number == len(self) - 1 else (number + 1) * size
            mine = order[number * size + self.rank : end : self.world]
            yield Batch(key(self.seed, "batch", self.rank, epoch, number), mine.tolist())

    def permutation(self, epoch: int) -> Tensor:
        """The order of all examples in `epoch`, the same in every process."""
        if not self.shuffle:
            return torch.arange(self.examples)
        generator = torch.Generator().manual_seed(key(self.seed, "order", epoch))
        return torch.randperm(self.examples, generator=generator)
