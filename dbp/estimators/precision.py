"""The precision of networks inside estimators."""

from torch import Tensor, nn


def as_parameters_of(network: nn.Module, x: Tensor) -> Tensor:
    """x in the dtype of the network: a model of low precision throughout has such a network in its estimator."""
    dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), x.dtype)
    return x.to(dtype)
