"""Generated data for sorting: sequences of numbers and the order that sorts them."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dbp.data.data import Data
from dbp.errors import DataError
from dbp.data.loader import Tensors
from dbp.data.order import key


class Sequences(Data):
    """Numbers drawn from the uniform distribution on [0, 1), with the order that sorts them.

    A batch is (sequences [B, length], order [B, length] int64): `order[t]` is the index of the t-th smallest number.
    An example depends on `seed`, the split and its index alone.

    Args:
        length: numbers in a sequence, at least 2.
        size: training examples; there are a fiftieth as many (at least one) for validation and a fifth for the test.

    Source: Ramapuram, Webb, "Improving discrete latent representations with differentiable approximation bridges",
    WCCI 2020, section 4.1, which has 2,000,000 and 400,000.
    """

    def __init__(
        self, length: int = 5, size: int = 2_000_000, batch_size: int = 32, workers: int = 0, seed: int = 0
    ) -> None:
        super().__init__(batch_size, workers, seed)
        if length < 2 or size < 1:
            raise DataError(f"length={length} must be at least 2 and size={size} at least 1")
        self.length, self.size = length, size

    def datasets(self) -> Mapping[str, Dataset]:
        """Draws the three splits."""
        sizes = {"train": self.size, "val": max(1, self.size // 50), "test": max(1, self.size // 5)}
        return {split: Tensors(*self._draw(split, size)) for split, size in sizes.items()}

    def _draw(self, split: str, size: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(key(self.seed, "sequences", split))
        sequences = torch.rand(size, self.length, generator=generator)
        return sequences, sequences.argsort(stable=True)
