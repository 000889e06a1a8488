"""Generated data for slots: lists of items, one of which has a wanted value."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dbp.data.data import Data
from dbp.errors import DataError
from dbp.data.loader import Tensors
from dbp.data.order import key


class SlotsData(Data):
    """Lists of items, in each of which one item has the wanted value.

    A batch is (items [B, items, dim],). Values lie on the grid of `levels` numbers from 0 to `high`; in each
    dimension the items of an example are distinct, and one item equals `contains` in all of them, so that "choose the
    nearest item" has one best answer. The order of the items is random. An example depends on `seed`, the split and
    its index alone.

    Args:
        items: how many items an example has, at most `levels`.
        dim: numbers in an item.
        high: the largest value; 1.0 with contains=0.5 is the same problem, scaled.
        levels: how many different values there are.
        contains: the wanted value, one of the grid.
        size: training examples; there are a tenth as many (at least one) for validation and for the test.

    Source: "select one item per slot" (Stack Exchange, October 2022): values 0 to 10, the goal 5.
    """

    def __init__(
        self,
        items: int = 8,
        dim: int = 1,
        high: float = 10.0,
        levels: int = 11,
        contains: float = 5.0,
        size: int = 10_000,
        batch_size: int = 32,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, workers, seed)
        if min(dim, levels, size) < 1:
            raise DataError(f"dim={dim}, levels={levels} and size={size} must be at least 1")
        self.items, self.dim, self.size = items, dim, size
        grid = torch.linspace(0, high, levels)
        wanted = torch.isclose(grid, torch.tensor(float(contains)))
        if not 1 <= items <= levels:
            raise DataError(f"items={items} distinct values cannot be drawn from levels={levels}")
        if wanted.sum() != 1:
            raise DataError(f"contains={contains} is not one of the values {grid.tolist()}")
        self.wanted, self.others = float(contains), grid[~wanted]

    def datasets(self) -> Mapping[str, Dataset]:
        """Draws the three splits."""
        held_out = max(1, self.size // 10)
        sizes = {"train": self.size, "val": held_out, "test": held_out}
        return {split: Tensors(self._draw(split, size)) for split, size in sizes.items()}

    def _draw(self, split: str, size: int) -> Tensor:
        generator = torch.Generator().manual_seed(key(self.seed, "slots", split))
        columns = [self.dim * len(self.others), self.items]
        picks, places = torch.rand(size, sum(columns), generator=generator).split(columns, dim=1)
        chosen = picks.unflatten(1, (self.dim, -1)).argsort(-1)[..., : self.items - 1]
        wanted = torch.full((size, self.dim, 1), self.wanted)
        values = torch.cat([wanted, self.others[chosen]], -1).mT  # [size, items, dim]
        return values.take_along_dim(places.argsort(-1)[..., None], dim=1)
