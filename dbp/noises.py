"""Elementwise noise, each scaled by its own `scale`. The only source of randomness in estimators."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dbp.core import Noise, Slices
from dbp.errors import UserError
from dbp.gradients.sums import weighted_sum
from dbp.native import ops
from dbp.native.quantiles import of_sum_of_gamma, place
from dbp.native.torch_private import functorch_level


class Counted(Noise):
    """Noise that a kernel makes by a counter, on the CPU, of a key that the generator gives; elsewhere torch draws it.

    Number i depends on the key and i alone: not on threads, on the instruction set, or on what is made with it. The
    kernel's numbers are others than torch's of the same seed, as a GPU's are.
    """

    kernel: ClassVar[str]

    def sample(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if not _has_kernel(like):
            return self.draw(like, generator)
        return self._counted(like.detach(), None, _key(generator), 0)

    def around(self, centre: Tensor, samples: int, generator: torch.Generator | None = None) -> Slices:
        if not _has_kernel(centre) or type(self).sample is not Counted.sample:  # a subclass may draw its own way
            return super().around(centre, samples, generator)
        key, centre, each = _key(generator), centre.contiguous(), centre.numel()
        return lambda begin, end: self._counted(centre.expand(end - begin, *centre.shape), centre, key, begin * each)

    def _counted(self, like: Tensor, centre: Tensor | None, key: Tensor, begin: int) -> Tensor:
        return numbers(like, centre, self.table(like), key, self.kernel, begin, float(self.scale))

    @abstractmethod
    def draw(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draws by torch, where there is no kernel."""

    def weighted_score(self, theta: Tensor, noisy: Tensor, weight: Tensor) -> Tensor:
        return weighted_sum(self.score(noisy - theta), weight)

    def table(self, like: Tensor) -> Tensor | None:
        """The table that the kernel looks numbers up in; null for none."""
        return None


@ops.operator
def numbers(
    like: Tensor, centre: Tensor | None, table: Tensor | None, key: Tensor, kernel: str, begin: int, scale: float
) -> Tensor:
    """Numbers of the key's stream from `begin` on, one for each of `like`, times scale, plus the centre."""
    z = torch.empty_like(like, memory_format=torch.contiguous_format)
    period = z.numel() if centre is None else centre.numel()
    ops.call(kernel, (z, centre, table), int(key), begin, z.numel(), max(period, 1), scale=scale)
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

    def weighted_score(self, theta: Tensor, noisy: Tensor, weight: Tensor) -> Tensor:
        if type(self).score is not Normal.score:  # a subclass may have its own
            return super().weighted_score(theta, noisy, weight)
        return weighted_sum(noisy, weight, theta[None], -1 / self.scale**2)


class LogNormal(Normal):
    """Noise that multiplies, `theta exp(Z - scale^2 / 2)` with Z of `N(0, scale^2)`: the mean is theta.

    It keeps the sign of every score, so it is for scores that all have one sign, such as costs by softplus: a positive
    and a negative one never change places, and a score of zero stays where it is and has no gradient.

    Source: Dalle, Baty, Bouvier, Parmentier, 2022 (arXiv:2207.13513).
    """

    def perturb(self, theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return theta * (self.sample(theta, generator) - self.scale**2 / 2).exp()

    def around(self, centre: Tensor, samples: int, generator: torch.Generator | None = None) -> Slices:
        drawn = super().around(torch.zeros_like(centre), samples, generator)
        return lambda begin, end: centre * (drawn(begin, end) - self.scale**2 / 2).exp()

    def opposite(self, theta: Tensor, noisy: Tensor) -> Tensor:
        return torch.where(theta == 0, 0, theta * (theta / noisy) * math.exp(-(self.scale**2)))

    def slope(self, theta: Tensor, noisy: Tensor, y: Tensor) -> Tensor:
        return torch.where(theta == 0, y, noisy / theta * y)

    def weighted_score(self, theta: Tensor, noisy: Tensor, weight: Tensor) -> Tensor:
        drawn = (noisy / theta).log() + self.scale**2 / 2
        small = theta.abs() < torch.finfo(theta.dtype).tiny  # denormal, and so lost among others
        return torch.where(small, 0, weighted_sum(self.score(drawn), weight) / theta)


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
    octave of the probability to the nearer end, which is at least 2^-33; ten Gamma draws cost 200 times as much.
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
        node, past = place(random, table.dtype)
        nodes = table.flatten(0, 1).index_select(0, node.flatten()).view(*like.shape, 2)
        return torch.addcmul(nodes[..., 0], past, nodes[..., 1]).mul_(self.scale).to(like.dtype)

    def table(self, like: Tensor) -> Tensor:
        return of_sum_of_gamma(self.k, self.terms, torch.promote_types(like.dtype, torch.float32), like.device)


def _key(generator: torch.Generator | None) -> Tensor:
    return torch.empty((), dtype=torch.int64).random_(generator=generator)


def _has_kernel(like: Tensor) -> bool:
    return ops.serves(like) and functorch_level() is None  # vmap draws by torch's rules


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform on the open interval (0, 1), so that its log and logit are finite."""
    return torch.empty_like(like).uniform_(torch.finfo(like.dtype).tiny, 1, generator=generator)
