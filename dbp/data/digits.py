"""scikit-learn's hand-written digits: no file, no download."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dbp.data.data import Data
from dbp.errors import DataError
from dbp.data.loader import Tensors
from dbp.data.order import key


class Digits(Data):
    """1,797 digits of 8x8 pixels: 1,297 to train on, 200 to validate, 300 to test, classes in proportion.

    A batch is (images [B, 8, 8] in [0, 1], labels [B] int64). The split is always the same.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """

    def datasets(self) -> Mapping[str, Dataset]:
        """The three splits.

        Raises:
            DataError: scikit-learn is not installed.
        """
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise DataError("the digits come with scikit-learn: pip install scikit-learn") from None
        pixels, classes = load_digits(return_X_y=True)
        images = torch.tensor(pixels / 16, dtype=torch.float32).unflatten(1, (8, 8))
        labels = torch.tensor(classes, dtype=torch.int64)
        return {name: Tensors(images[rows], labels[rows]) for name, rows in _split(labels).items()}


def _split(labels: Tensor, val: int = 200, test: int = 300) -> dict[str, Tensor]:
    """Rows of each split: the held-out ones are evenly spaced among all rows sorted by class, so classes keep their share."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(key("digits")))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    train, held_out = _spread(by_class, val + test)
    tested, validated = _spread(held_out, val)
    return {name: rows.sort().values for name, rows in (("train", train), ("val", validated), ("test", tested))}


def _spread(rows: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Takes `number` evenly spaced rows; returns the remaining ones and the taken ones."""
    taken = torch.zeros(len(rows), dtype=torch.bool)
    taken[torch.arange(number) * len(rows) // number] = True
    return rows[~taken], rows[taken]
