"""Draws an estimator many times, and compares the draws with the exact gradient."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import inf, nan
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from dbp.audit.losses import Loss, standard_losses
from dbp.audit.references import Reference, reference
from dbp.core import Estimator, Noise, Solver, Target
from dbp.errors import UserError
from dbp.noises import Gumbel
from dbp.solvers.counting import counted
from dbp.solvers.scores import random_scores

_CHUNK = 2_000  # draws in one call, for each theta


@dataclass(frozen=True)
class Row:
    """An estimator on a loss. Lengths are relative to that of the exact gradient, all thetas taken together.

    Attributes:
        noise: under which the exact gradient is that of the expected loss; "gibbs" for the Gibbs distribution.
        bias: the distance of the mean draw from the exact gradient, less what the noise in both explains.
        bias_error: what the noise explains, the standard error of the mean and of the reference.
        z: the same distance on the scale of a standard normal, which it follows if there is no bias (chi-squared, by
            Wilson and Hilferty's cube root); under 4, no bias has been seen.
        std: the standard deviation of one draw.
        cosine: between the mean draw and the exact gradient, the mean over thetas.
        calls: solver calls of one draw, forward and backward.
        seconds: of one draw in a large batch, forward and backward.
        reference_error: the standard error of the reference; zero if it is a sum over all decisions.
        note: why there are no numbers.
    """

    estimator: str = ""
    loss: str = ""
    noise: str = ""
    bias: float = nan
    bias_error: float = nan
    z: float = nan
    std: float = nan
    cosine: float = nan
    calls: float = nan
    seconds: float = nan
    reference_error: float = nan
    note: str = ""


def audit(
    solver: Solver,
    estimators: Mapping[str, Estimator],
    shape: Sequence[int],
    instance: Any = None,
    *,
    noise: Noise | None = None,
    thetas: int = 3,
    draws: int = 50_000,
    tuning: int = 200,
    seed: int = 0,
    progress: bool = False,
) -> list[Row]:
    """Compares estimators with the exact gradient of the expected loss, `d/d theta E[f(solver(theta + Z))]`.

    Z is the noise of the estimator, if it has one of its own, else that of the solver, else `noise`: a deterministic
    estimator is measured against the solver's natural distribution. One that is `gibbs` is measured under the Gibbs
    distribution, p(y) proportional to exp <theta, y>, instead. Three losses, several thetas.

    The linear loss is that of random right scores: -<theta*, y>, the regret up to a constant. Supervised estimators get
    these scores and their decision, for this loss only. They descend a loss of their own: what its gradient differs
    from that of the expected regret counts as bias, and the cosine says more.

    An estimator that averages decisions, or relaxes them, has a loss of the mean where this has the mean of the losses:
    on a loss that is not linear the difference counts as its bias.

    Args:
        solver: the hard function; `dbp.audit.reference` says when its reference is exact.
        estimators: by the names that the rows have; copies are measured.
        shape: of theta; leading dims, beyond the event's, are independent decisions that share a loss.
        instance: handed to the solver.
        noise: where neither the estimator nor the solver has one; Gumbel by default.
        thetas: how many, standard normal (negative for solvers of costs).
        draws: of each estimator, for each theta and loss; at least 2.
        tuning: Adam steps at a rate of 0.01 for parameters of the estimator's own, calls without for its buffers.
        seed: of all of it; the global random state is left alone.
        progress: show a bar.

    Returns:
        A row for each estimator and loss. One that cannot work with the solver has a note instead of numbers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        theta = random_scores(solver, (thetas, *shape), instance, torch.float64)
        y = solver(theta[0], instance)
        right = random_scores(solver, shape, instance, torch.float64) if y.shape == theta[0].shape else None
        losses = standard_losses(y.numel(), seed, right)
        bench = _Bench(solver, instance, theta, losses, noise or Gumbel(), draws, tuning, seed)
        bar = tqdm(estimators.items(), desc="audit", unit="estimator", disable=not progress, leave=False)
        rows = [row for name, estimator in bar for row in bench.rows(name, estimator)]
    return rows


class _Bench:
    """The problem that all estimators share; references are computed once for each noise."""

    def __init__(
        self,
        solver: Solver,
        instance: Any,
        theta: Tensor,
        losses: Sequence[Loss],
        noise: Noise,
        draws: int,
        tuning: int,
        seed: int,
    ) -> None:
        self.plain, (self.solver, self.calls) = solver, counted(solver)
        self.instance, self.theta, self.losses = instance, theta, losses
        self.noise, self.draws, self.tuning, self.seed = noise, draws, tuning, seed
        self.ndim = solver(theta[0], instance).ndim
        self.decisions = theta.shape[1 : theta.ndim - solver.event_dim].numel()
        self._references: dict[Noise | None, list[Reference]] = {}

    def rows(self, name: str, estimator: Estimator) -> list[Row]:
        """A row for each loss."""
        noise = None if estimator.gibbs else estimator.noise or self.solver.noise or self.noise
        return [self._row_or_note(name, estimator, noise, index) for index in range(len(self.losses))]

    def _row_or_note(self, name: str, estimator: Estimator, noise: Noise | None, index: int) -> Row:
        loss = self.losses[index]
        try:
            return self._row(name, deepcopy(estimator), noise, loss, self._reference(noise)[index])
        except UserError as error:
            return Row(name, loss.name, _describe(noise), note=str(error).splitlines()[0].partition(";")[0])

    def _reference(self, noise: Noise | None) -> list[Reference]:
        if noise not in self._references:
            torch.manual_seed(self.seed)
            many = 20 * self.draws  # so that its error is small beside that of an estimator's mean
            self._references[noise] = reference(self.solver, noise, self.theta, self.losses, self.instance, many)
        return self._references[noise]

    def _row(self, name: str, estimator: Estimator, noise: Noise | None, loss: Loss, exact: Reference) -> Row:
        torch.manual_seed(self.seed + 1)  # a row does not depend on which others there are
        self._tune(estimator.train(), loss)
        self.calls.clear()
        chunks, fastest = [], inf
        for start in range(0, self.draws, _CHUNK):
            count = min(_CHUNK, self.draws - start)
            began = perf_counter()
            chunks.append(self._gradients(estimator, loss, count))
            fastest = min(fastest, (perf_counter() - began) / (count * len(self.theta)))
        calls = sum(call.inputs for call in self.calls) / (self.draws * len(self.theta) * self.decisions)
        found = _compare(torch.cat(chunks, 1), exact)
        return replace(found, estimator=name, loss=loss.name, noise=_describe(noise), calls=calls, seconds=fastest)

    def _gradients(self, estimator: Estimator, loss: Loss, count: int) -> Tensor:
        """Independent draws of the gradient, `[thetas, count, size]`."""
        leaf = self.theta.float().unsqueeze(1).repeat(1, count, *[1] * (self.theta.ndim - 1)).requires_grad_()
        draw = estimator(self.solver, leaf, self.instance, self._target(loss, leaf))
        value = draw.surrogate(loss.of(draw.y, self.ndim))  # [*samples, thetas, count]
        (value.mean() * (len(self.theta) * count)).backward()
        assert leaf.grad is not None
        return leaf.grad.flatten(2).double() if leaf.ndim > 2 else leaf.grad.unsqueeze(-1).double()

    def _target(self, loss: Loss, like: Tensor) -> Target:
        if loss.right is None:
            return Target()
        right = loss.right.to(like)
        return Target(self.plain(right, self.instance).expand_as(like), right.expand_as(like))

    def _tune(self, estimator: Estimator, loss: Loss) -> None:
        parameters = list(estimator.parameters())
        optimizer = torch.optim.Adam(parameters, 0.01) if parameters else None
        for _ in range(self.tuning if estimator.state_dict() else 1):
            self._gradients(estimator, loss, 16)
            if optimizer:
                for p in parameters:  # of the mean, not of the sum
                    p.grad = None if p.grad is None else p.grad / (16 * len(self.theta))
                optimizer.step()
                optimizer.zero_grad()


def _compare(draws: Tensor, exact: Reference) -> Row:
    """The statistics of draws `[thetas, count, size]`; float32's rounding counts as noise."""
    mean, truth = draws.mean(1), exact.gradient.reshape(len(draws), -1)
    length = truth.norm()
    if not length:
        raise UserError("the exact gradient is zero: no score changes the decision, or none the loss; a larger n?")
    rounding = (1e-6 * length).square() / truth.numel()
    centred = draws - mean[:, None]
    spread = torch.einsum("tnd,tne->tde", centred, centred) / (draws.shape[1] - 1)
    error = exact.error.reshape(truth.shape).square() + rounding
    of_mean = spread / draws.shape[1] + torch.diag_embed(error)
    explained = _trace(of_mean)  # of the squared distance, by noise
    distance = (mean - truth).square().sum()
    narrow = 2 / 9 * _trace(of_mean @ of_mean) / explained.square()  # 2 / (9 degrees of freedom)
    return Row(
        bias=((distance - explained).clamp_min(0).sqrt() / length).item(),
        bias_error=(explained.sqrt() / length).item(),
        z=(((distance / explained) ** (1 / 3) - 1 + narrow) / narrow.sqrt()).item(),
        std=(_trace(spread).sqrt() / length).item(),
        cosine=F.cosine_similarity(mean, truth, dim=-1).mean().item(),
        reference_error=(exact.error.norm() / length).item(),
    )


def _trace(x: Tensor) -> Tensor:
    return x.diagonal(dim1=-2, dim2=-1).sum()


def _describe(noise: Noise | None) -> str:
    if noise is None:
        return "gibbs"
    name = type(noise).__name__.lower()
    return name if noise.scale == 1 else f"{name}({noise.scale:g})"
