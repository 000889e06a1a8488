"""Choosing: one of n, k of n, or each for itself."""

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dbp.core import Instance, Noise, Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.noises import Gumbel, Logistic
from dbp.shapes import standardise
from dbp.solvers import masks, sparse, subsets
from dbp.solvers.instances import require_whole
from dbp.solvers.listing import listed
from dbp.solvers.orders import Rank


@dataclass(frozen=True)
class OneHot(Solver):
    """The largest score: `argmax <theta, y>` over the one-hot vectors of the last dim. Ties go to the lowest index.

    With Gumbel noise it draws from softmax(theta) (the Gumbel-max trick: Gumbel, "Statistical theory of extreme
    values", 1954; Maddison, Tarlow, Minka, "A* sampling", NeurIPS 2014).

        softmax:  p = exp(theta / temperature) / sum
        entmax:   p = argmax_p <theta, p> / temperature + H_alpha(p),   p in the simplex, H_alpha Tsallis' entropy

    An `instance` is a mapping with a boolean `mask` that broadcasts to theta; where it is false, nothing is chosen.

    entmax has first derivatives only. Source: Martins, Astudillo, "From softmax to sparsemax", ICML 2016; Peters,
    Niculae, Martins, "Sparse sequence-to-sequence models", ACL 2019.

    Args:
        relaxation: softmax, or entmax, which reaches exact zeros (needs the `entmax` package).
        alpha: of entmax, from 1 (softmax), 1.5 to 2 (sparsemax) and beyond.

    Raises:
        UserError: a row has no entries; it names the row.
    """

    binary = True
    instance_keys = ("mask",)
    noise: ClassVar[Noise | None] = Gumbel()
    relaxation: Literal["softmax", "entmax"] = "softmax"
    alpha: float = 1.5

    def __post_init__(self) -> None:
        if not self.alpha >= 1:
            raise UserError(f"OneHot: alpha must be at least 1, got {self.alpha}")
        if self.relaxation == "entmax":
            sparse.require_entmax(self)

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        if not theta.shape[-1]:
            raise UserError(f"OneHot: there is nothing to choose from in shape {list(theta.shape)}")
        if instance:
            mask = self._mask(theta, instance)
            return self.solve(masks.filled(ops.widen(theta), mask), None).to(theta).masked_fill(~mask, 0)
        wide = ops.widen(theta)
        return (one_hot if ops.serves(wide) else one_hot_torch)(wide).to(theta)

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return standardise(theta, 1, masks.of(self, theta, instance) if instance else None)

    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0, instance: Instance = None) -> Tensor:
        scores = theta / temperature
        if self.relaxation == "softmax":
            return self._filled(scores, instance).softmax(-1)
        if not instance:
            return sparse.entmax(scores, self.alpha)
        mask = self._mask(scores, instance)
        return masks.spread(masks.by_size(lambda x, _: sparse.entmax(x, self.alpha), scores, mask, 1), mask)

    def log_partition(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return self._filled(theta, instance).logsumexp(-1)

    def sample_gibbs(
        self, theta: Tensor, generator: torch.Generator | None = None, instance: Instance = None
    ) -> Tensor:
        return self.solve(Gumbel().perturb(theta.detach(), generator), instance)

    def lead(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return _lead(self._filled(theta, instance), 1)

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        return (_is_mark(y) & _allowed(self, y, instance)).all(-1) & (y.sum(-1) == 1)

    def vertices(self, shape: tuple[int, ...], instance: Instance = None) -> Tensor:
        y = torch.eye(*shape)
        return y if not instance else y[self._mask(y[0], instance)]

    def log_prob(self, theta: Tensor, y: Tensor, instance: Instance = None) -> Tensor:
        if not instance:
            return (y * theta.log_softmax(-1)).sum(-1)
        mask = self._mask(theta, instance)
        p = (y * masks.filled(theta, mask).log_softmax(-1).masked_fill(~mask, 0)).sum(-1)
        return p.masked_fill(((y != 0) & ~mask).any(-1), -torch.inf)

    def conditional(
        self, theta: Tensor, y: Tensor, generator: torch.Generator | None = None, instance: Instance = None
    ) -> Tensor:
        # The maximum of theta + Gumbel is Gumbel(logsumexp theta), whichever wins; the others are cut off at it.
        e = torch.empty_like(theta).exponential_(generator=generator)
        top = -(e * y).sum(-1, keepdim=True).log()
        if not instance:
            rest = top - F.softplus(top + e.log() - theta.log_softmax(-1))
            return torch.where(y.bool(), top, rest) + theta.logsumexp(-1, keepdim=True)
        mask = self._mask(theta, instance)
        scores = masks.filled(theta, mask)
        rest = top - F.softplus(top + e.log() - scores.log_softmax(-1).masked_fill(~mask, 0))
        tied = torch.where(y.bool(), top, rest) + scores.logsumexp(-1, keepdim=True)
        return torch.where(mask, tied, theta - e.log())  # masked entries neither win nor are cut off

    def _mask(self, theta: Tensor, instance: Instance) -> Tensor:
        mask = masks.of(self, theta, instance)
        masks.require_entries(self, mask, 1)
        return mask

    def _filled(self, theta: Tensor, instance: Instance) -> Tensor:
        return theta if not instance else masks.filled(theta, self._mask(theta, instance))


@dataclass(frozen=True)
class TopK(Solver):
    """The k largest scores: `argmax <theta, y>` over the 0/1 vectors of the last dim with k ones.

    Exactly k ones, whatever ties: among equal scores the lowest indices win. Relaxations, which sum to k:

        softmax:  p = sum_{j <= k} p_j,   p_j = softmax(a_j / temperature), a_1 = theta, a_{j+1} = a_j + log(1 - p_j)
        budget:   the Euclidean projection of theta / temperature onto {0 <= p <= 1, sum p = k}

    The successive softmaxes are as published: an entry can exceed one where it wins several of them by halves.

    An `instance` is a mapping of some of
        mask: booleans that broadcast to theta; entries where it is false are never chosen;
        k: a whole number for each row, 0 or more, or one for all, instead of the option.

    Source: Xie, Ermon, "Reparameterizable subset sampling via continuous relaxations", IJCAI 2019.

    Args:
        k: how many are chosen, from 1 to the number of scores.
        relaxation: softmax, or budget, which reaches exact zeros and ones (needs the `entmax` package).

    Raises:
        UserError: a row has fewer than k entries; it names the row.
    """

    binary = True
    instance_keys = ("mask", "k")
    k: int
    noise: ClassVar[Noise | None] = Gumbel()  # draws k items without replacement, by softmax of what is left
    relaxation: Literal["softmax", "budget"] = "softmax"

    def __post_init__(self) -> None:
        require_whole(self, 1, "k")
        if self.relaxation == "budget":
            sparse.require_entmax(self)

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        if instance:
            return self._among(theta, instance)
        self._check(theta)
        wide = ops.widen(theta)
        return (top_k if ops.serves(wide) else top_k_torch)(wide, self.k).to(theta)

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return standardise(theta, 1, masks.of(self, theta, instance) if instance else None)

    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0, instance: Instance = None) -> Tensor:
        if instance:
            return self._soft(theta, temperature, instance)
        self._check(theta)
        if self.relaxation == "budget":
            return sparse.budget(theta / temperature, self.k)
        total = torch.zeros_like(theta)
        for _ in range(self.k):
            chosen = (theta / temperature).softmax(-1)
            theta = theta + (1 - chosen).clamp_min(torch.finfo(theta.dtype).tiny).log()
            total = total + chosen
        return total

    def log_partition(self, theta: Tensor, instance: Instance = None) -> Tensor:
        if instance:
            mask, k = self._entries(theta, instance)
            first = masks.first(theta.double(), mask)
            return subsets.log_partition_of_first(first, masks.each(k, theta), mask.sum(-1)).to(theta)
        self._check(theta)
        return subsets.log_partition(theta.double(), self.k).to(theta)

    def sample_gibbs(
        self, theta: Tensor, generator: torch.Generator | None = None, instance: Instance = None
    ) -> Tensor:
        """A draw with `P(y) ~ exp <theta, y>`, exact; no gradient."""
        wide = theta.detach().double()
        if instance:
            mask, k = self._entries(theta, instance)
            noise = Logistic().sample(wide, generator).masked_fill(~mask.gather(-1, masks.order(mask)), -torch.inf)
            return masks.spread(subsets.sample(masks.first(wide, mask), masks.each(k, theta), noise), mask).to(theta)
        self._check(theta)
        return subsets.sample(wide, self.k, Logistic().sample(wide, generator)).to(theta)

    def lead(self, theta: Tensor, instance: Instance = None) -> Tensor:
        if instance:
            mask, k = self._entries(theta, instance)
            return masks.by_size(_lead, theta, mask, 0, k).masked_fill(~mask.any(-1), torch.inf)
        self._check(theta)
        return _lead(theta, self.k)

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        k = self._entries(y, instance)[1] if instance else self.k
        return (_is_mark(y) & _allowed(self, y, instance)).all(-1) & (y.sum(-1) == k)

    def vertices(self, shape: tuple[int, ...], instance: Instance = None) -> Tensor:
        mask, k = self._entries(torch.zeros(shape), instance) if instance else (torch.ones(shape), self.k)
        entries = mask.nonzero().squeeze(-1).tolist()
        chosen = torch.tensor(listed(itertools.combinations(entries, int(k))), dtype=torch.int64)
        return torch.zeros(len(chosen), *shape).scatter(-1, chosen, 1) if len(chosen) else torch.zeros(0, *shape)

    def _check(self, theta: Tensor) -> None:
        if self.k > theta.shape[-1]:
            raise UserError(f"TopK: cannot choose k={self.k} of {theta.shape[-1]} scores")

    def _among(self, theta: Tensor, instance: Instance) -> Tensor:
        """The decision among the entries of each row, k of its own."""
        mask, k = self._entries(theta, instance)
        wide = masks.filled(ops.widen(theta), mask)
        if isinstance(k, int):
            return self.solve(wide, None).to(theta).masked_fill(~mask, 0)
        place = Rank().solve(-wide, None)  # 1 for the largest, the lowest index first among equals
        return ((place <= k.unsqueeze(-1)) & mask).to(theta)

    def _soft(self, theta: Tensor, temperature: float | Tensor, instance: Instance) -> Tensor:
        """The relaxation of the entries of each row."""
        mask, k = self._entries(theta, instance)
        if self.relaxation == "budget":
            return masks.spread(
                masks.by_size(lambda x, k: sparse.budget(x / temperature, k) if k else 0 * x, theta, mask, 1, k), mask
            )
        theta = theta.masked_fill(~mask, 0)
        each = masks.each(k, theta)
        some = mask | ~mask.any(-1, keepdim=True)  # softmaxes of nothing are not numbers
        total = 0 * theta  # part of the graph, also where every k is 0
        for j in range(subsets.largest(each)):
            chosen = masks.filled(theta / temperature, some).softmax(-1)
            theta = theta + (1 - chosen).clamp_min(torch.finfo(theta.dtype).tiny).log()
            total = total + torch.where(j < each.unsqueeze(-1), chosen, 0)
        return total.masked_fill(~mask, 0)

    def _entries(self, theta: Tensor, instance: Any) -> tuple[Tensor, int | Tensor]:
        """The entries that exist, in theta's shape, and the number that is chosen in each row."""
        mask = masks.of(self, theta, instance)
        given = instance.get("k")
        k = self.k if given is None else masks.per_row(self, "k", given, theta)
        masks.require_entries(self, mask, k)
        return mask, k


@dataclass(frozen=True)
class Threshold(Solver):
    """Each score for itself: y = 1 where theta > 0, else 0; `argmax <theta, y>` over {0, 1}.

    With logistic noise it draws Bernoulli(sigmoid(theta)), and sigmoid(theta) is its relaxation.
    """

    binary = True
    event_dim = 0
    noise: ClassVar[Noise | None] = Logistic()

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        return (theta > 0).to(theta)

    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0, instance: Instance = None) -> Tensor:
        return torch.sigmoid(theta / temperature)

    def log_partition(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return F.softplus(theta)

    def sample_gibbs(
        self, theta: Tensor, generator: torch.Generator | None = None, instance: Instance = None
    ) -> Tensor:
        return self.solve(Logistic().perturb(theta.detach(), generator), instance)

    def lead(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return theta.abs()

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        return _is_mark(y)

    def vertices(self, shape: tuple[int, ...] = (), instance: Instance = None) -> Tensor:
        return torch.tensor([0.0, 1.0])

    def log_prob(self, theta: Tensor, y: Tensor, instance: Instance = None) -> Tensor:
        return -F.binary_cross_entropy_with_logits(theta, y, reduction="none")

    def conditional(
        self, theta: Tensor, y: Tensor, generator: torch.Generator | None = None, instance: Instance = None
    ) -> Tensor:
        # theta + logistic is positive when its uniform exceeds 1 - p: draw the uniform from the side y is on.
        tiny = torch.finfo(theta.dtype).eps
        v = torch.empty_like(theta).uniform_(tiny, 1 - tiny, generator=generator)
        p = torch.sigmoid(theta)
        u = torch.where(y.bool(), 1 - p + v * p, v * (1 - p))
        return theta + torch.logit(u.clamp(tiny, 1 - tiny))


def _lead(theta: Tensor, k: int) -> Tensor:
    """The gap between the k-th and the next score, whose exchange is the least change; infinite if there is none."""
    if not 0 < k < theta.shape[-1]:
        return torch.full_like(theta[..., 0], torch.inf)
    best = theta.topk(k + 1, -1).values
    return best[..., -2] - best[..., -1]


def _allowed(solver: Solver, y: Tensor, instance: Instance) -> Tensor | bool:
    return masks.of(solver, y, instance) | (y == 0) if instance else True


def _is_mark(y: Tensor) -> Tensor:
    return (y == 0) | (y == 1)


@ops.operator
def one_hot(theta: Tensor) -> Tensor:
    """`OneHot` by the kernel: the maximum of a row a register at a time, then the first that equals it."""
    theta = theta.contiguous()
    y = ops.empty_like(theta)
    ops.call("one_hot", (theta, y), theta.shape[:-1].numel(), theta.shape[-1])
    return y


def one_hot_torch(theta: Tensor) -> Tensor:
    """`OneHot` by torch's argmax, on any device."""
    return torch.zeros_like(theta).scatter(-1, theta.argmax(-1, keepdim=True), 1)


@ops.operator
def top_k(theta: Tensor, k: int) -> Tensor:
    """`TopK` by the kernel: a search for the k-th largest score by counting what is above a guess."""
    theta = theta.contiguous()
    y = ops.empty_like(theta)
    ops.call("top_k", (theta, y), theta.shape[:-1].numel(), theta.shape[-1], k)
    return y


def top_k_torch(theta: Tensor, k: int) -> Tensor:
    """`TopK` by torch's, which leaves it open which of equal scores it takes: they are counted again."""
    least = theta.topk(k, -1, sorted=False).values.amin(-1, keepdim=True)
    above, tied = theta > least, theta == least
    room = k - above.sum(-1, keepdim=True)
    return (above | tied & (tied.cumsum(-1) <= room)).to(theta)
