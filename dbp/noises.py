"""Elementwise noise, each scaled by its own `scale`. The only source of randomness in estimators."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dbp import native
from dbp.core import Noise
from dbp.errors import UserError


class Counted(Noise):
    """Noise that a kernel makes by a counter, on the CPU, of a key that the generator gives; elsewhere torch draws it.

    Number i depends on the key and i alone: not on threads, on the instruction set, or on what is made with it. The
    kernel's numbers are others than torch's of the same seed, as a GPU's are.
    """

    kernel: ClassVar[str]

    def sample(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if not _has_kernel(like):
            return self.draw(like, generator)
        return self._counted(like.detach(), _key(generator), 0)

    def stream(self, like: Tensor, generator: torch.Generator | None = None) -> Callable[[int, int], Tensor]:
        if not _has_kernel(like) or type(self).sample is not Counted.sample:  # a subclass may draw its own way
            return super().stream(like, generator)
        key, one = _key(generator), like.new_empty(())
        return lambda begin, end: self._counted(one.expand(end - begin), key, begin)

    def _counted(self, like: Tensor, key: Tensor, begin: int) -> Tensor:
        z = numbers(like, key, self.kernel, begin, self.table(like))
        return z if self.scale == 1 else z.mul_(self.scale)

    @abstractmethod
    def draw(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """What `sample` returns where there is no kernel."""

    def table(self, like: Tensor) -> Tensor | None:
        """What the kernel looks up, if anything."""
        return None


@native.operator
def numbers(like: Tensor, key: Tensor, kernel: str, begin: int, table: Tensor | None) -> Tensor:
    """As many numbers of the key's stream as `like` has, from `begin` on, of scale one."""
    z = torch.empty_like(like, memory_format=torch.contiguous_format)
    native.call(kernel, (z,) if table is None else (z, table), int(key), begin, z.numel())
    return z


class Normal(Counted):
    """Gaussian noise, `N(0, scale^2)`."""

    symmetric = True
    kernel = "normal"

    def draw(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        return torch.empty_like(like).normal_(0, self.scale, generator=generator)

    def log_prob(self, value: Tensor) -> Tensor:
        return -0.5 * (value / self.scale).square() - math.log(self.scale * math.sqrt(2 * math.pi))

    def score(self, value: Tensor) -> Tensor:
        return -value.detach() if self.scale == 1 else value.detach() / -(self.scale**2)


class Gumbel(Counted):
    """Gumbel noise, `-scale log(-log U)`: on a one-hot solver it draws from softmax(theta / scale)."""

    kernel = "gumbel"

    def draw(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        return _uniform(like, generator).log_().neg_().log_().mul_(-self.scale)

    def log_prob(self, value: Tensor) -> Tensor:
        z = value / self.scale
        return -z - torch.exp(-z) - math.log(self.scale)

    def score(self, value: Tensor) -> Tensor:
        return (value.detach() / -self.scale).expm1_().div_(self.scale)


class Logistic(Counted):
    """Logistic noise, `scale log(U / (1 - U))`: on a threshold it draws Bernoulli(sigmoid(theta / scale))."""

    symmetric = True
    kernel = "logistic"

    def draw(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        return _uniform(like, generator).logit_().mul_(self.scale)

    def log_prob(self, value: Tensor) -> Tensor:
        z = value / self.scale
        return -z - 2 * F.softplus(-z) - math.log(self.scale)

    def score(self, value: Tensor) -> Tensor:
        return (value.detach() / (-2 * self.scale)).tanh_().div_(self.scale)


class Uniform(Counted):
    """Uniform noise from -scale to scale. Its density is flat, so it has no score."""

    symmetric = True
    kernel = "uniform"

    def draw(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        return torch.empty_like(like).uniform_(-self.scale, self.scale, generator=generator)


class Rademacher(Noise):
    """`+scale` or `-scale` with equal probability."""

    symmetric = True

    def sample(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.empty_like(like).bernoulli_(0.5, generator=generator).sub_(0.5).mul_(2 * self.scale)


@dataclass(frozen=True)
class SumOfGamma(Counted):
    """Sum-of-Gamma noise: k independent copies add up, nearly, to one Gumbel variable.

        Z = (scale / k) (sum_{i=1..terms} G_i - log(terms)),    G_i ~ Gamma(shape 1/k, scale k/i)

    so that a k-subset's perturbed score is perturbed by one Gumbel(scale). Some published snippets invert the rate of
    the Gamma and draw far too little noise. Drawn exactly up to linear interpolation between quantiles, 128 to an
    octave of the probability to the nearer end, which is at least 2^-33; ten Gamma draws cost 100 times as much.
    Source: Niepert, Minervini, Franceschi, "Implicit MLE", NeurIPS 2021, section 3.4.

    Args:
        scale: the temperature tau.
        k: how many coordinates are chosen, more than 0; need not be an integer.
        terms: the length of the series, s in the paper.
    """

    k: float = 10
    terms: int = 10
    kernel = "quantiles"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.k > 0 and self.terms >= 1):
            raise UserError(f"SumOfGamma: k must be positive and terms at least 1, got k={self.k}, terms={self.terms}")
        if self.terms / self.k > 500:
            raise UserError(f"SumOfGamma: terms / k must be at most 500, got terms={self.terms}, k={self.k}")

    def draw(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        table = self.table(like)
        word = torch.int64 if table.dtype == torch.float64 else torch.int32
        random = torch.empty_like(like, dtype=word).random_(torch.iinfo(word).min, None, generator=generator)
        place, rest = _place(random, table.dtype)
        nodes = table.flatten(0, 1).index_select(0, place.flatten()).view(*like.shape, 2)
        return torch.addcmul(nodes[..., 0], rest, nodes[..., 1]).mul_(self.scale).to(like.dtype)

    def table(self, like: Tensor) -> Tensor:
        return _quantiles(self.k, self.terms, torch.promote_types(like.dtype, torch.float32), like.device)


_OCTAVES, _EACH = 32, 128  # of the table, and nodes to an octave: as in native/src/noise.cpp


def _place(word: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The node before the probability that a random word stands for, lower half then upper, and how far it is past."""
    mantissa, bias = (23, 127) if dtype == torch.float32 else (52, 1023)
    each = int(math.log2(_EACH))
    upper = word >> (torch.iinfo(word.dtype).bits - 1)  # -1 in the upper half
    nearer = word ^ upper
    from_end = nearer.to(dtype) if dtype == torch.float32 else (nearer >> 12).to(dtype) * 2.0**-20
    bits = (from_end + 0.5).view(word.dtype)  # of 2^32 times the probability, 1/2 to 2^31
    node = (bits >> (mantissa - each)) - (bias - 1 << each) + (upper & (_OCTAVES * _EACH + 1))
    past = (bits << each & (1 << mantissa) - 1 | bias << mantissa).view(dtype) - 1
    return node, past


def _key(generator: torch.Generator | None) -> Tensor:
    return torch.empty((), dtype=torch.int64).random_(generator=generator)


def _has_kernel(like: Tensor) -> bool:
    return native.serves(like) and torch._C._functorch.maybe_current_level() is None  # vmap draws by torch's rules


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform on the open interval (0, 1), so that its log and logit are finite."""
    return torch.empty_like(like).uniform_(torch.finfo(like.dtype).tiny, 1, generator=generator)


@torch.compiler.disable  # NumPy and SciPy, once
@lru_cache(maxsize=32)
def _quantiles(k: float, terms: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`[2, nodes, 2]`: of each half the quantiles, from its end to the median, with the rise to the next."""
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
    octave = 2.0 ** np.arange(-_OCTAVES - 1, -1)
    p = np.append(np.outer(octave, 1 + np.arange(_EACH) / _EACH).ravel(), 0.5)
    nodes = np.stack([ndtri(p), -ndtri(p)]).clip(normal[keep][0], normal[keep][-1])
    value = (np.exp(total(nodes)) - math.log(terms)) / k
    return torch.tensor(np.stack([value, np.diff(value, append=value[:, -1:])], -1), dtype=dtype, device=device)


def _mixture(k: float, terms: int):
    """`sum_i Gamma(1/k, scale k/i)` is Gamma(shape + J, scale 1/rate), J with these probabilities.

    J is a sum of negative binomials, its distribution computed by the recursion of Moschopoulos, "The distribution of
    the sum of independent gamma random variables", Annals of the Institute of Statistical Mathematics 37, 1985.
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
