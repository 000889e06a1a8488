"""Omniglot in the version used for discrete latent variables: 28 x 28 pixels, in a MATLAB file."""

from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dbp.errors import DataError
from dbp.data.images import Images

PIXELS = 28 * 28
PLACES = ("omniglot/", "", "*/", "omniglot/*/")  # below root
LIMIT = 1 << 27  # numbers in an array; the largest of the official file has 19 million


class Omniglot(Images):
    """Hand-written characters of 50 alphabets: images of 28x28 pixels, the labels are the alphabets.

    They are read from `chardata.mat` in the layout of Burda, Grosse and Salakhutdinov; the official file has 24,345
    training and 8,070 test images. It is looked for in `root/omniglot`, in `root`, and one folder below each. It has no
    published checksum, so it is never downloaded: fetch it from https://github.com/yburda/iwae (datasets/OMNIGLOT).

    Source: B. Lake, R. Salakhutdinov, J. Tenenbaum, "Human-level concept learning through probabilistic program
    induction", Science 350, 2015; Y. Burda, R. Grosse, R. Salakhutdinov, "Importance weighted autoencoders", ICLR 2016.
    """

    def prepare_data(self) -> None:
        """Checks that the file is there."""
        self._find()

    def read(self, part: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Reads one part of the file; its pixels are in column-major order."""
        names = {"train": ("data", "target"), "test": ("testdata", "testtarget")}[part]
        path = self._find()
        images, alphabets = _variables(path, names)
        if images.shape[0] != PIXELS or alphabets.ndim != 2 or images.shape[1:] != alphabets.shape[1:]:
            raise DataError(
                f"{path}: expected {names[0]} of {PIXELS} x N numbers and {names[1]} of 50 x N, found "
                f"{' x '.join(map(str, images.shape))} and {' x '.join(map(str, alphabets.shape))}"
            )
        if not (np.isfinite(images).all() and images.min(initial=0) >= 0 and images.max(initial=0) <= 1):
            raise DataError(f"{path}: pixels must be numbers from 0 to 1")
        pixels = torch.from_numpy((images.T * 255).round().astype(np.uint8)).view(-1, 28, 28)
        return pixels.mT.contiguous(), torch.from_numpy(alphabets.argmax(0))

    def _find(self) -> Path:
        for place in PLACES:
            if found := sorted(self.root.glob(f"{place}chardata.mat")):
                return found[0]
        raise DataError(
            f"omniglot: there is no {self.root / 'omniglot' / 'chardata.mat'}, and no published checksum to download it "
            "by\n  fetch datasets/OMNIGLOT/chardata.mat of https://github.com/yburda/iwae, and put it there"
        )


def _variables(path: Path, names: tuple[str, ...]) -> list[Any]:
    from scipy.io import loadmat, whosmat

    try:
        if any(prod(shape) > LIMIT for name, shape, _ in whosmat(path) if name in names):
            raise ValueError(f"an array of more than {LIMIT:,} numbers")
        found = loadmat(path, variable_names=names)
    except Exception as error:  # a damaged file makes loadmat raise whatever its bytes lead to
        raise DataError(f"{path}: not a MATLAB file that can be read ({error})") from error
    arrays = [found.get(name) for name in names]
    if any(not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" for array in arrays):
        raise DataError(f"{path}: expected the variables {' and '.join(names)}, numbers")
    return arrays
