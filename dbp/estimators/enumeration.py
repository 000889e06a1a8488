"""Estimators that enumerate a solver's decisions: exact, and sampling without replacement."""

from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from dbp.core import Draw, Estimator, Solver, Target
from dbp.errors import UserError
from dbp.gradients.rules import only_gradient
from dbp.noises import Gumbel
from dbp.scores import widened, without_autocast


class _Enumerating(Estimator):
    """Knows `p(y) proportional to exp <theta, y>` over all vertices of a small feasible set."""

    needs: tuple[str, ...] = ("linear", "vertices")
    gibbs = True

    def __init__(self, joint: int, limit: int) -> None:
        super().__init__()
        if joint < 0:
            raise UserError(f"{type(self).__name__.lower()}: joint counts dims, so it is at least 0, not {joint}")
        self.joint, self.limit = joint, limit

    def enumerate(self, solver: Solver, theta: Tensor, instance: Any) -> tuple[Tensor, Tensor]:
        """The joint decisions `[count, *joint, *event]`, and their log-probabilities `[count, *batch]`."""
        own = theta.ndim - solver.event_dim
        if self.joint > own:
            raise UserError(f"{type(self).__name__.lower()}: joint={self.joint}, but theta has {own} batch dims")
        vertices = solver.vertices(theta.shape[own:], instance).to(theta, non_blocking=True)  # [vertices, *event]
        shape = theta.shape[own - self.joint : own]
        if len(vertices) ** shape.numel() > self.limit:
            raise UserError(
                f"{type(self).__name__.lower()}: {len(vertices)}^{shape.numel()} decisions are more than {self.limit}: "
                "fewer of them jointly (joint), a higher limit, or an estimator that samples"
            )
        choices = torch.cartesian_prod(*[torch.arange(len(vertices), device=theta.device)] * shape.numel())
        vertices = vertices[choices.reshape(-1, shape.numel())].reshape(-1, *theta.shape[own - self.joint :])
        flat = vertices.reshape(len(vertices), -1)
        scores = theta.reshape(*theta.shape[: own - self.joint], flat.shape[1]) @ flat.T  # [*batch, count]
        return vertices, scores.movedim(-1, 0).log_softmax(0)

    @torch.no_grad()
    def sample(self, solver: Solver, theta: Tensor, instance: Any = None) -> Tensor:
        """One of all decisions, with its probability."""
        with without_autocast(theta.device.type):
            vertices, log_prob = self.enumerate(solver, widened(theta), instance)
        index = (log_prob + Gumbel().sample(log_prob, self.generator)).argmax(0)
        return vertices[index].to(theta.dtype)

    def check(self, losses: Tensor, log_prob: Tensor) -> None:
        """One loss for each joint decision, or the probabilities do not belong to the losses."""
        if losses.shape != log_prob.shape:
            raise UserError(
                f"{type(self).__name__.lower()}: losses of shape {list(losses.shape)} for joint decisions of shape "
                f"{list(log_prob.shape)}: joint counts theta's dims, before one input's, that share a loss"
            )


class Exact(_Enumerating):
    """No estimate: the expected loss itself, by enumeration, for small feasible sets.

        loss = sum_y p(y) loss(y),   p(y) proportional to exp <theta, y>

    The task evaluates every decision, in a new first dim; the surrogate weighs their losses so that their mean is the
    expectation. For one_hot and threshold, p is their distribution under their own noise.

    Args:
        joint: how many batch dims of theta, next to the event dims, share one loss: 1 for rows of bits of a threshold.
        limit: refuse to enumerate more.
    """

    def __init__(self, joint: int = 0, limit: int = 4096) -> None:
        super().__init__(joint, limit)

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        vertices, log_prob = self.enumerate(solver, theta, instance)
        lead = [1] * (theta.ndim + 1 - vertices.ndim)
        y = vertices.reshape(len(vertices), *lead, *vertices.shape[1:]).expand(-1, *theta.shape)

        def surrogate(losses: Tensor) -> Tensor:
            self.check(losses, log_prob)
            return losses * (log_prob.exp() * len(vertices))

        return Draw(y, surrogate)


class Unordered(_Enumerating):
    """Score function over distinct decisions: k drawn without replacement, weighted for it. Unbiased.

        S: the k largest of log p(y) + Gumbel noise,   w_s = p(s) R(S, s),   b_s = sum_t p(t) R(S \\ s, t) loss(t)
        loss = sum_s w_s loss(s),   d theta = sum_s w_s (loss(s) - b_s) grad log p(s)

    R(S, s) is the probability to draw S given that s comes first, over that of S; both by a recursion over subsets of
    S. p is as in `exact`. The surrogate weighs the losses by w, so that their mean is unbiased too.

    Source: Kool, van Hoof, Welling, "Estimating gradients for discrete random variables by sampling without
    replacement", ICLR 2020.

    Args:
        samples: k, the distinct decisions for each input, from 2 to 8, in a new leading dim.
        joint: as in `exact`.
        limit: refuse to enumerate more.
    """

    samples: int

    def __init__(self, samples: int = 4, joint: int = 0, limit: int = 4096) -> None:
        super().__init__(joint, limit)
        if not 2 <= samples <= 8:
            raise UserError(f"unordered: samples must be from 2 to 8, got {samples}")
        self.samples = samples

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        vertices, every = self.enumerate(solver, theta[0], instance)  # one set of samples, drawn together
        if len(vertices) < self.samples:
            raise UserError(
                f"unordered: {len(vertices)} decisions in all, so no {self.samples} different ones: "
                "fewer samples, or several decisions jointly (joint)"
            )
        fixed = every.detach()
        index = (fixed + Gumbel().sample(fixed, self.generator)).topk(self.samples, 0).indices
        log_prob = every.gather(0, index)  # [samples, *batch]
        with torch.no_grad():
            weight, others = _without_replacement(log_prob, fixed.scatter(0, index, -torch.inf).logsumexp(0))

        def surrogate(losses: Tensor) -> Tensor:
            self.check(losses, log_prob)
            reward = losses.detach() - (others * losses.detach()).sum(1)
            return self.samples * weight * (losses + only_gradient(reward * log_prob))

        return Draw(vertices[index], surrogate)


def _without_replacement(log_p: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
    """The weights w `[k, *batch]` of k distinct draws, and those of their baselines `[k, k, *batch]`.

    log_p are the draws' log-probabilities, outside the log of the rest.
    """
    k = len(log_p)
    draws = set(range(k))
    ahead = {frozenset(draws): torch.zeros_like(outside)}  # log P(the rest of the draws come next | these are drawn)
    for size in reversed(range(k)):
        for drawn in map(frozenset, combinations(range(k), size)):
            rest = sorted(draws - drawn)
            left = torch.logaddexp(log_p[rest].logsumexp(0), outside)
            ahead[drawn] = torch.stack([log_p[s] + ahead[drawn | {s}] for s in rest]).logsumexp(0) - left
    first = torch.stack([ahead[frozenset({s})] for s in range(k)])
    pairs = torch.stack([torch.stack([ahead[frozenset({s, t})] for t in range(k)]) for s in range(k)])
    weight = (log_p + first - ahead[frozenset()]).exp()
    return weight, (log_p + pairs - first.unsqueeze(1)).exp()
