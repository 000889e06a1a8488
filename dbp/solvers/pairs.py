"""Assignments in which some pairs do not exist, and rows may stay unmatched."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dbp.core import Solver
from dbp.errors import UserError
from dbp.solvers import masks
from dbp.solvers.listing import listed


def by_shape(function: Callable[[Tensor, Tensor], Tensor], theta: Tensor, mask: Tensor) -> Tensor:
    """Calls a function of problems once for each shape, without the rows and columns that have no pairs.

    Args:
        function: of scores and mask, both `[problems, rows, columns]`, where some pair exists in each row and column;
            the mask is all true, or has a false in every problem. Returns the like.
        theta: `[*leading, n, m]`.
        mask: like theta, which pairs exist.

    Returns:
        The results in theta's shape, zero in the rows and columns that were left out.
    """
    n, m = theta.shape[-2:]
    x, exists = theta.reshape(-1, n, m), mask.reshape(-1, n, m)
    row, column = exists.any(-1), exists.any(-2)
    down = masks.order(row).unsqueeze(-1).expand_as(x)
    right = masks.order(column).unsqueeze(-2).expand_as(x)
    x, exists = (t.gather(-2, down).gather(-1, right) for t in (x, exists))
    inside = row.unsqueeze(-1) & column.unsqueeze(-2)
    full = (mask.reshape(-1, n, m) | ~inside).flatten(1).all(-1)
    sizes = torch.stack([row.sum(-1), column.sum(-1), full], -1)
    out = torch.zeros_like(x) + x[:0].sum()  # part of the graph, however few problems there are
    for size in sizes.unique(dim=0):
        rows, columns, _ = size.tolist()
        if rows:
            index = (sizes == size).all(-1).nonzero().squeeze(-1)
            y = function(x[index, :rows, :columns], exists[index, :rows, :columns])
            out = out.index_put((index,), F.pad(y, (0, m - columns, 0, n - rows)))
    out = torch.zeros_like(out).scatter(-1, right, out)
    return torch.zeros_like(out).scatter(-2, down, out).reshape(theta.shape)


def avoiding(theta: Tensor, mask: Tensor) -> Tensor:
    """Scores in float64 under which any assignment of pairs that exist beats all with a pair that does not."""
    theta = theta.double()
    size = theta.masked_fill(~mask, 0).abs().amax((-2, -1), keepdim=True)
    theta = torch.where(size > 2.0**900, theta * 2.0**-64, theta)  # so that sums do not overflow
    least = theta.masked_fill(~mask, torch.inf).amin((-2, -1), keepdim=True)
    most = theta.masked_fill(~mask, -torch.inf).amax((-2, -1), keepdim=True)
    apart = torch.where(most > least, most - least, most.abs().clamp_min(1))
    return torch.where(mask, theta, least - (min(theta.shape[-2:]) + 1) * apart)


def with_spare(theta: Tensor, mask: Tensor, cost: Tensor) -> Tensor:
    """Scores `[*leading, n, m + n]`, with as many spare columns as rows, that cost `cost` of `[*leading, n]`."""
    stay = -cost.unsqueeze(-1)
    worse = (stay - 1 - stay.abs()).clamp_min(torch.finfo(theta.dtype).min)
    return torch.cat([torch.where(mask, theta, worse), stay.expand(*theta.shape[:-1], theta.shape[-2])], -1)


def costs(solver: Solver, given: Any, theta: Tensor) -> Tensor:
    """The costs of staying unmatched for each row `[*leading, n]`, in theta's dtype.

    Raises:
        UserError: they are not finite numbers, or do not broadcast to the rows.
    """
    name = type(solver).__name__
    try:
        cost = torch.as_tensor(given, dtype=theta.dtype, device=theta.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name}: the cost `unmatched` is no array of numbers: {error}") from error
    if masks.is_known(cost) and not cost.isfinite().all():
        raise UserError(f"{name}: the cost `unmatched` must be finite; a mask forbids pairs")
    try:
        return cost.expand(theta.shape[:-1])
    except RuntimeError:
        raise UserError(
            f"{name}: a cost `unmatched` of shape {list(cost.shape)} does not broadcast to "
            f"the rows of scores of shape {list(theta.shape)}"
        ) from None


def soft_unmatched(scores: Tensor, stay: Tensor, iterations: int) -> Tensor:
    """Sinkhorn's iteration where a row adds up to one with its part `stay`, and a column to at most one.

    Args:
        scores: `[*leading, n, m]`; a large negative number, but not infinity, for a pair that does not exist.
        stay: `[*leading, n, 1]`, the scores of staying unmatched.
        iterations: how many.
    """
    f = torch.zeros_like(stay)
    for _ in range(iterations):
        g = -torch.logsumexp(scores + f, -2, keepdim=True).clamp_min(0)
        f = -torch.logsumexp(torch.cat([scores + g, stay], -1), -1, keepdim=True)
    return (scores + f + g).exp()


def partial_matchings(mask: Tensor) -> Tensor:
    """Every choice of pairs that exist, at most one in each row and column: `[count, n, m]`."""
    rows = [[-1, *row.nonzero().squeeze(-1).tolist()] for row in mask]
    found = listed(c for c in itertools.product(*rows) if len(t := [j for j in c if j >= 0]) == len(set(t)))
    chosen = torch.tensor(found, dtype=torch.int64).reshape(len(found), len(mask), 1)
    return (chosen == torch.arange(mask.shape[-1])).to(torch.get_default_dtype())
