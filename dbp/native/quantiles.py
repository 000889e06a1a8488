"""Quantile tables for inverse-transform sampling: the bits of a random word index the table, at the cost of two loads.

A table is `[2, nodes, 2]`: for the lower half of the probabilities and for the upper half, the quantiles from the tail
to the median, each with the increment to the next. The tail probability p is 2^-33 to 1/2; 128 equally spaced nodes lie
between two powers of two, so that the bits of p as a floating-point number are its index.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from dbp.native.operator import eager

OCTAVES, EACH = 32, 128  # as in native/src/noise.cpp


def place(word: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Returns the node before a random word's probability (lower half, then upper), and how far it is past the node."""
    mantissa, bias = (23, 127) if dtype == torch.float32 else (52, 1023)
    each = int(math.log2(EACH))
    upper = word >> (torch.iinfo(word.dtype).bits - 1)  # -1 in the upper half
    nearer = word ^ upper
    from_end = nearer.to(dtype) if dtype == torch.float32 else (nearer >> 12).to(dtype) * 2.0**-20
    bits = (from_end + 0.5).view(word.dtype)  # of 2^32 times the probability, 1/2 to 2^31
    node = (bits >> (mantissa - each)) - (bias - 1 << each) + (upper & (OCTAVES * EACH + 1))
    past = (bits << each & (1 << mantissa) - 1 | bias << mantissa).view(dtype) - 1
    return node, past


@eager  # NumPy and SciPy, once
@lru_cache(maxsize=32)
def of_sum_of_gamma(k: float, terms: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns the quantiles of `(sum_{i=1..terms} Gamma(1/k, scale k/i) - log(terms)) / k`."""
    import numpy as np
    from scipy.interpolate import PchipInterpolator
    from scipy.special import gammainc, gammaincc, ndtri

    weights, shape, rate = _mixture(k, terms)
    end = 1 + math.log(terms) + 50 * k + 20 * math.sqrt(k)
    x = np.concatenate([np.geomspace(1e-14, 1e-2, 500), np.geomspace(1e-2, end, 1500)[1:]])
    below = sum(w * gammainc(shape + j, x * rate) for j, w in enumerate(weights) if w > 1e-18)
    above = sum(w * gammaincc(shape + j, x * rate) for j, w in enumerate(weights) if w > 1e-18)
    normal = np.where(below < 0.5, ndtri(np.maximum(below, 1e-300)), -ndtri(np.clip(above, 1e-300, 1)))
    keep = np.concatenate([[True], np.diff(normal) > 1e-9]) & np.isfinite(normal)
    total = PchipInterpolator(normal[keep], np.log(x[keep]))
    octave = 2.0 ** np.arange(-OCTAVES - 1, -1)
    p = np.append(np.outer(octave, 1 + np.arange(EACH) / EACH).ravel(), 0.5)
    nodes = np.stack([ndtri(p), -ndtri(p)]).clip(normal[keep][0], normal[keep][-1])
    value = (np.exp(total(nodes)) - math.log(terms)) / k
    return torch.tensor(np.stack([value, np.diff(value, append=value[:, -1:])], -1), dtype=dtype, device=device)


def _mixture(k: float, terms: int):
    """Returns P(J = j), the shape and the rate: `sum_i Gamma(1/k, scale k/i)` is Gamma(shape + J, scale 1/rate).

    J is a sum of negative binomials; its distribution is computed by the recursion of Moschopoulos, "The distribution
    of the sum of independent gamma random variables", Annals of the Institute of Statistical Mathematics 37, 1985.
    """
    import numpy as np

    index = np.arange(1, terms + 1)
    ratio = 1 - index / terms  # of each scale to the smallest, k / terms
    mean, deviation = (ratio / (1 - ratio)).sum() / k, math.sqrt((ratio / (1 - ratio) ** 2).sum() / k)
    length = int(mean + 12 * deviation) + 60 * terms
    drift = (ratio[:, None] ** np.arange(1, length + 1)).sum(0) / k
    weights = np.zeros(length)
    weights[0] = np.prod((index / terms) ** (1 / k))
    for j in range(1, length):
        weights[j] = drift[:j] @ weights[j - 1 :: -1] / j
    return weights, terms / k, terms / k
