"""Data sets: official file formats, and batches in an order that resumes exactly."""

from dbp.data.data import Data
from dbp.data.digits import Digits
from dbp.errors import DataError
from dbp.data.images import Images
from dbp.data.loader import Loader, Tensors
from dbp.data.mnist import MNIST, FashionMNIST
from dbp.data.omniglot import Omniglot
from dbp.data.order import Order, key
from dbp.data.sequences import Sequences
from dbp.data.slots import SlotsData

__all__ = [
    "MNIST",
    "Data",
    "DataError",
    "Digits",
    "FashionMNIST",
    "Images",
    "Loader",
    "Omniglot",
    "Order",
    "Sequences",
    "SlotsData",
    "Tensors",
    "key",
]
