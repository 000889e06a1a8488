"""Random scores that a solver takes."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dbp.core import Instance, Solver


def random_scores(
    solver: Solver,
    shape: Iterable[int],
    instance: Instance = None,
    dtype: torch.dtype = torch.float32,
    device: Any = None,
) -> Tensor:
    """Normal scores; all negative for a solver that is given minus costs."""
    theta = torch.randn(tuple(shape), dtype=dtype, device=device)
    return -theta.abs() if solver.nonpositive else theta
