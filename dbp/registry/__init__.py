"""Components by name: options from source code, lazy import, construction from plain data."""

from dbp.registry.catalog import Catalog
from dbp.registry.names import Registry, did_you_mean

__all__ = ["Catalog", "Registry", "did_you_mean"]
