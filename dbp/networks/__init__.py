"""Encoders, decoders, values and control variates: networks around a discrete layer."""

from dbp.networks.entrywise import Entrywise
from dbp.networks.mlp import MLP
from dbp.networks.values import SquaredError

__all__ = ["MLP", "Entrywise", "SquaredError"]
