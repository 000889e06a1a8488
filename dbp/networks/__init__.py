"""Encoders, decoders, values and control variates: networks around a discrete layer."""

from dbp import components

__getattr__, __dir__, __all__ = components.networks.lazy()
