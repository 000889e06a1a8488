"""Data sets: official file formats, and batches in an order that resumes exactly."""

from dbp import components
from dbp.data.data import Data as Data
from dbp.data.images import Images as Images
from dbp.data.loader import Loader as Loader
from dbp.data.loader import Tensors as Tensors
from dbp.data.order import Order as Order
from dbp.data.order import key as key
from dbp.errors import DataError as DataError

__getattr__, __dir__, __all__ = components.data.lazy("Data", "DataError", "Images", "Loader", "Order", "Tensors", "key")
