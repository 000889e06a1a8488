"""Exact samples of a binary solver's Gibbs distribution, from its marginals."""

import math
from typing import Any

import torch
from torch import Tensor

from dbp.core import Solver


@torch.no_grad()
def sequential(solver: Solver, theta: Tensor, generator: torch.Generator | None, instance: Any) -> Tensor:
    """A decision y with probability proportional to `exp <theta, y>`: entry by entry, given those before it.

    The chain rule of probability; an entry that has been decided gets a score that no other decision can afford. It
    takes as many calls of `solver.marginals` as there are entries.

    Args:
        solver: binary, with a log-partition, of one event dim.
        theta: `[*leading, n]`.
        generator: of the uniform numbers.
        instance: of the solver.
    """
    scores = theta.detach().double().clone()
    n = scores.shape[-1]
    low, high = scores.amin(-1), scores.amax(-1)
    far = n * (high - low + math.log(max(n, 2))) + 50
    y = torch.zeros_like(theta)
    for i in range(n):
        p = solver.marginals(scores, instance)[..., i]
        chosen = torch.rand(p.shape, generator=generator, device=p.device, dtype=p.dtype) < p
        scores[..., i] = torch.where(chosen, high + far, low - far)
        y[..., i] = chosen.to(y)
    return y
