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
        return self._counted(like, generator)(0, like.numel()).view(like.shape)

    def stream(self, like: Tensor, generator: torch.Generator | None = None) -> Callable[[int, int], Tensor]:
        if not _has_kernel(like) or type(self).sample is not Counted.sample:  # a subclass may draw its own way
            return super().stream(like, generator)
        return self._counted(like, generator)

    def _counted(self, like: Tensor, generator: torch.Generator | None) -> Callable[[int, int], Tensor]:
        key, table = torch.empty((), dtype=torch.int64).random_(generator=generator), self.table(like)

        def make(begin: int, end: int) -> Tensor:
            z = numbers(like.new_empty(()).expand(end - begin), key, self.kernel, begin, table)
            return z if self.scale == 1 else z.mul_(self.scale)

        return make

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
    if table is None:
        native.call(kernel, (z,), int(key), begin, z.numel())
    else:
        native.call(kernel, (z, table), int(key), begin, z.numel(), len(table), _LIMIT)
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
        return value.detach() / -(self.scale**2)


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
    the Gamma and draw far too little noise. Drawn exactly up to linear interpolation in a table of 8,193 quantiles on
    the axis of a standard normal, which is beyond 6 sigma (2e-9 of the mass) clipped; ten Gamma draws cost 100 times
    as much. Source: Niepert, Minervini, Franceschi, "Implicit MLE", NeurIPS 2021, section 3.4.

    Args:
        scale: the temperature tau.
        k: how many coordinates are chosen, more than 0; need not be an integer.
        terms: the length of the series, s in the paper.
    """

    k: float = 10
    terms: int = 10
    kernel = "normal_table"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.k > 0 and self.terms >= 1):
            raise UserError(f"SumOfGamma: k must be positive and terms at least 1, got k={self.k}, terms={self.terms}")

    def draw(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        table = self.table(like)
        middle = (len(table) - 1) / 2  # the node of z = 0
        position = torch.empty_like(like).normal_(middle, middle / _LIMIT, generator=generator)
        position = position.clamp(0, len(table) - 1.001)
        left = position.to(torch.int32)
        fraction, index = position.sub_(left), left.flatten()
        low, high = (table.index_select(0, i).view_as(like) for i in (index, index + 1))
        return torch.lerp(low, high, fraction).mul_(self.scale)

    def table(self, like: Tensor) -> Tensor:
        return _quantiles(self.k, self.terms, like.dtype, like.device)


_LIMIT = 6  # the table's end, in standard deviations of the normal that indexes it


def _has_kernel(like: Tensor) -> bool:
    return native.serves(like) and torch._C._functorch.maybe_current_level() is None  # vmap draws by torch's rules


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform on the open interval (0, 1), so that its log and logit are finite."""
    return torch.empty_like(like).uniform_(torch.finfo(like.dtype).tiny, 1, generator=generator)


@torch.compiler.disable  # NumPy and SciPy, once
@lru_cache(maxsize=32)
def _quantiles(k: float, terms: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The quantiles at equal steps of a standard normal from -6 to 6."""
    import numpy as np
    from scipy.interpolate import PchipInterpolator
    from scipy.special import gammainc, gammaincc, ndtri

    weights, shape, rate = _mixture(k, terms)
    x = np.concatenate([np.geomspace(1e-14, 1e-2, 500), np.geomspace(1e-2, 50 * k, 1500)[1:]])
    below = sum(w * gammainc(shape + j, x * rate) for j, w in enumerate(weights) if w > 1e-18)
    above = sum(w * gammaincc(shape + j, x * rate) for j, w in enumerate(weights) if w > 1e-18)
    normal = np.where(below < 0.5, ndtri(np.maximum(below, 1e-300)), -ndtri(np.clip(above, 1e-300, 1)))
    keep = np.concatenate([[True], np.diff(normal) > 1e-9]) & np.isfinite(normal)
    nodes = np.linspace(-_LIMIT, _LIMIT, 8193).clip(normal[keep][0], normal[keep][-1])
    total = np.exp(PchipInterpolator(normal[keep], np.log(x[keep]))(nodes))
    return torch.tensor((total - math.log(terms)) / k, dtype=dtype, device=device)


def _mixture(k: float, terms: int):
    """`sum_i Gamma(1/k, scale k/i)` is Gamma(shape + J, scale 1/rate), J with these probabilities.

    J is a sum of negative binomials, its distribution computed by the recursion of Moschopoulos, "The distribution of
    the sum of independent gamma random variables", Annals of the Institute of Statistical Mathematics 37, 1985.
    """
    import numpy as np

    index = np.arange(1, terms + 1)
    ratio = 1 - index / terms  # of each scale to the smallest, k / terms
    length = 60 * terms
    drift = (ratio[:, None] ** np.arange(1, length + 1)).sum(0) / k
    weights = np.zeros(length)
    weights[0] = np.prod((index / terms) ** (1 / k))
    for j in range(1, length):
        weights[j] = drift[:j] @ weights[j - 1 :: -1] / j
    return weights, terms / k, terms / k
