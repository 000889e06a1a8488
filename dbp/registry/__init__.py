"""A name, its options, an object: nothing here imports what it names before it is built."""

from dbp.registry.catalog import Catalog
from dbp.registry.names import Registry, did_you_mean

__all__ = ["Catalog", "Registry", "did_you_mean"]
