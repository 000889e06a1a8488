"""The gradient of the expected loss, `d/d theta E[f(solver(theta + Z))]`: exact, or with a known error."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dbp.audit.losses import Loss, joint_vertices
from dbp.core import Noise, Solver
from dbp.errors import Unsupported, UserError
from dbp.shapes import sum_to

MOST = 100_000  # joint decisions that are looked through
_CHUNKS = 50


class Reference(NamedTuple):
    """A gradient of `[thetas, *shape]`, and the standard error of each of its elements: zero where it is exact."""

    gradient: Tensor
    error: Tensor


def reference(
    solver: Solver,
    noise: Noise | None,
    theta: Tensor,
    losses: Sequence[Loss],
    instance: Any = None,
    draws: int = 1_000_000,
) -> list[Reference]:
    """The gradient of the expected loss, for each of the losses.

    It is a sum over all decisions, `sum_y f(y) d p(y)`, where their probabilities are known: of a tractable solver
    under its own noise, and without noise, where p(y) is proportional to `exp <theta, y>`. Else it is the mean of
    `(f(y) - mean f) grad log rho(Z)` over many draws, unbiased for any solver; and for a noise without a density, a
    central difference of fourth order under common random numbers, at steps of a fifth and two fifths of its scale.

    Args:
        solver: any.
        noise: of perturb-and-MAP; None for the Gibbs distribution.
        theta: `[thetas, *shape]`, float64; leading dims in `shape` are independent decisions that share a loss.
        losses: of the joint decision.
        instance: handed to the solver.
        draws: for each theta, where the gradient is not a sum.

    Raises:
        UserError: there are too many decisions.
    """
    ndim = solver(theta[0], instance).ndim
    if noise is None:
        return _by_sum(solver, _gibbs, theta, losses, ndim, instance)
    if solver.offers("log_prob") and noise == solver.noise:
        log_prob = partial(solver.log_prob, instance=instance)
        return _by_sum(solver, log_prob, theta, losses, ndim, instance)
    try:
        noise.log_prob(theta)
    except Unsupported:
        return _by_difference(solver, noise, theta, losses, ndim, instance, draws // (4 * theta[0].numel()))
    return _by_score(solver, noise, theta, losses, ndim, instance, draws)


def _gibbs(theta: Tensor, y: Tensor) -> Tensor:
    """`log p(y)` of all joint decisions, in dim 1."""
    return (theta * y).flatten(2).sum(-1).log_softmax(1)


def _by_sum(
    solver: Solver,
    log_prob: Callable[[Tensor, Tensor], Tensor],
    theta: Tensor,
    losses: Sequence[Loss],
    ndim: int,
    instance: Any,
) -> list[Reference]:
    leading = theta.shape[1 : theta.ndim - solver.event_dim]
    vertices = solver.vertices(theta.shape[theta.ndim - solver.event_dim :], instance)
    if len(vertices) ** leading.numel() > MOST:
        raise UserError(f"audit: {len(vertices)}^{leading.numel()} decisions are too many to sum over: a smaller n")
    y = joint_vertices(vertices.to(theta), leading)  # [count, *shape]
    leaf = theta.detach().clone().requires_grad_()
    p = sum_to(log_prob(leaf[:, None].expand(-1, *y.shape), y.expand(len(theta), *y.shape)), 2).exp()
    gradients = [torch.autograd.grad((p * loss.of(y, ndim)).sum(), leaf, retain_graph=True)[0] for loss in losses]
    return [Reference(gradient, torch.zeros_like(gradient)) for gradient in gradients]


def _by_score(
    solver: Solver, noise: Noise, theta: Tensor, losses: Sequence[Loss], ndim: int, instance: Any, draws: int
) -> list[Reference]:
    count = max(2, draws // _CHUNKS)

    def chunk() -> list[Tensor]:
        z = noise.sample(theta.expand(count, *theta.shape)).requires_grad_()
        (slope,) = torch.autograd.grad(noise.log_prob(z).sum(), z)
        y = solver(theta + z.detach(), instance)  # [count, thetas, *out]
        values = [loss.of(y, ndim) for loss in losses]
        return [-torch.einsum("nt,nt...->t...", f - f.mean(0), slope) / (count - 1) for f in values]

    return _mean_of_chunks(chunk, len(losses))


def _by_difference(
    solver: Solver, noise: Noise, theta: Tensor, losses: Sequence[Loss], ndim: int, instance: Any, draws: int
) -> list[Reference]:
    count, step = max(2, draws // _CHUNKS), noise.scale / 5
    directions = torch.eye(theta[0].numel(), dtype=theta.dtype).reshape(-1, 1, *theta.shape[1:])

    def chunk() -> list[Tensor]:
        noisy = theta + noise.sample(theta.expand(count, *theta.shape))

        def values(shift: Tensor) -> Tensor:
            y = solver(noisy + shift, instance)
            return torch.stack([loss.of(y, ndim).mean(0) for loss in losses])  # [losses, thetas]

        slopes = [
            (8 * (values(step * e) - values(-step * e)) - (values(2 * step * e) - values(-2 * step * e))) / (12 * step)
            for e in directions
        ]
        return list(torch.stack(slopes, -1).reshape(len(losses), *theta.shape))

    return _mean_of_chunks(chunk, len(losses))


def _mean_of_chunks(chunk: Callable[[], list[Tensor]], losses: int) -> list[Reference]:
    chunks = [chunk() for _ in range(_CHUNKS)]
    stacked = [torch.stack([gradients[i] for gradients in chunks]) for i in range(losses)]
    return [Reference(x.mean(0), x.std(0) / _CHUNKS**0.5) for x in stacked]
