"""MNIST, and the data sets that use its format."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from dbp.data.download import download
from dbp.data.idx import read_idx
from dbp.data.images import Images


class Official(NamedTuple):
    """SHA-256 of an official file, as it is downloaded (.gz) and uncompressed."""

    compressed: str
    content: str


class IdxImages(Images):
    """Images with labels in four files with MNIST's names and format. A subclass gives their origin.

    Files are looked for in `root/<folder>`, then in `root`, compressed or not, and must be the official ones. Missing
    files are downloaded to `root/<folder>`.
    """

    folder: ClassVar[str]
    mirrors: ClassVar[tuple[str, ...]]
    files: ClassVar[Mapping[str, Official]]

    def prepare_data(self) -> None:
        """Downloads missing files."""
        for name in self.files:
            self._find(name)

    def read(self, part: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Reads the two files of a part; downloads missing ones."""
        stem = {"train": "train", "test": "t10k"}[part]
        images, labels = (
            read_idx(self._find(name), self.files[name].content)
            for name in (f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte")
        )
        return images, labels.to(torch.int64)

    def _find(self, name: str) -> Path:
        folder = self.root / self.folder
        for path in (folder / name, folder / f"{name}.gz", self.root / name, self.root / f"{name}.gz"):
            if path.exists():
                return path
        download(folder / f"{name}.gz", self.mirrors, self.files[name].compressed)
        return folder / f"{name}.gz"


class MNIST(IdxImages):
    """Hand-written digits: 60,000 and 10,000 images of 28x28 pixels, 10 classes.

    With val_size=0, all 60,000 train, and the 10,000 test images are also used for validation.

    Source: Y. LeCun, C. Cortes and C. Burges, The MNIST database, 1998.
    """

    folder = "mnist"
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    files: ClassVar = {
        "train-images-idx3-ubyte": Official(
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        "train-labels-idx1-ubyte": Official(
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        "t10k-images-idx3-ubyte": Official(
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        "t10k-labels-idx1-ubyte": Official(
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    }


class FashionMNIST(IdxImages):
    """Articles of clothing: 60,000 and 10,000 images of 28x28 pixels, 10 classes.

    With val_size=0, all 60,000 train, and the 10,000 test images are also used for validation.

    Source: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017.
    """

    folder = "fashion-mnist"
    mirrors = (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    )
    files: ClassVar = {
        "train-images-idx3-ubyte": Official(
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        "train-labels-idx1-ubyte": Official(
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        "t10k-images-idx3-ubyte": Official(
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        "t10k-labels-idx1-ubyte": Official(
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    }
