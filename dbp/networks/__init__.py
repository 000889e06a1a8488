"""Encoders, decoders, values: what stands around a discrete layer."""

from dbp.networks.mlp import MLP
from dbp.networks.values import SquaredError

__all__ = ["MLP", "SquaredError"]
