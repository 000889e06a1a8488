"""Image data sets with labels: the validation split and binarisation."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dbp.data.data import Data
from dbp.errors import DataError
from dbp.data.loader import Tensors
from dbp.data.order import key


class Images(Data):
    """Images of bytes with labels, in a training and a test part. A subclass implements `read`.

    A batch is (images [B, height, width] in [0, 1], labels [B] int64).

    Args:
        root: the folder for data sets.
        val_size: how many of the last training images are used for validation instead. With 0 all of them train, as in
            most papers, and **validation uses the test images**: do not select by it a model whose test result you report.
        binarise: make each pixel 0 or 1, with its value as the probability of 1. `static`: drawn once, the same for
            every run and seed; `dynamic`: training images are drawn anew in every epoch, others once; null: unchanged.

    Raises:
        DataError: a file is damaged, not the official one, or missing and cannot be downloaded.
    """

    def __init__(
        self,
        root: str | Path = "data",
        val_size: int = 0,
        binarise: Literal["static", "dynamic"] | None = None,
        batch_size: int = 32,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, workers, seed)
        self.root, self.val_size, self.binarise = Path(root).expanduser(), val_size, binarise

    @abstractmethod
    def read(self, part: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """The images, uint8 [N, height, width], and the labels, int64 [N]."""

    def datasets(self) -> Mapping[str, Dataset]:
        """Reads the files; downloads missing ones."""
        images, labels = self.read("train")
        held_out, test_labels = self.read("test")
        rest = len(images) - self.val_size
        if self.val_size < 0 or rest < 1:
            raise DataError(f"val_size={self.val_size} must be from 0 to {len(images) - 1:,}")
        test = Tensors(self._fixed(held_out, "test"), test_labels)
        val = Tensors(self._fixed(images[rest:], "val"), labels[rest:]) if self.val_size else test
        if self.binarise == "dynamic":
            train = Tensors(images[:rest], labels[:rest], transform=_drawn)
        else:
            train = Tensors(self._fixed(images[:rest], "train"), labels[:rest])
        return {"train": train, "val": val, "test": test}

    def _fixed(self, images: Tensor, split: str) -> Tensor:
        if self.binarise is None:
            return images
        generator = torch.Generator().manual_seed(key("binarise", split))
        # A byte v exceeds one of 0..254 with probability v / 255.
        levels = torch.randint(255, images.shape, generator=generator, dtype=torch.uint8)
        return (levels < images) * torch.tensor(255, dtype=torch.uint8)


def _drawn(images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    return images.bernoulli(), labels
