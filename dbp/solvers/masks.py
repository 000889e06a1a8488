"""Masks: which entries of each row exist, so that rows of different lengths share a batch.

A row with masked entries is solved as the row of its existing entries alone, whatever the masked scores are.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.solvers.instances import naming, whole


def of(solver: Solver, theta: Tensor, instance: Instance) -> Tensor:
    """The mask in theta's shape, true for existing entries; all true if the instance has none.

    Raises:
        UserError: the mask is not boolean, or does not broadcast to the scores.
    """
    given = (instance or {}).get("mask")
    mask = _booleans(solver, True if given is None else given, theta.device)
    try:
        return mask.expand(theta.shape)
    except RuntimeError:
        raise UserError(
            f"{type(solver).__name__}: a mask of shape {list(mask.shape)} does not broadcast to "
            f"scores of shape {list(theta.shape)}"
        ) from None


def per_row(solver: Solver, name: str, value: Any, theta: Tensor) -> Tensor:
    """A whole number, 0 or more, for each row of `[*leading, n]` scores.

    Raises:
        UserError: they are not such numbers, or do not broadcast to the leading dims.
    """
    numbers = whole(value, f"{type(solver).__name__}: {name}", theta.device, (0, 2**31 - 1))
    try:
        return numbers.expand(theta.shape[:-1])
    except RuntimeError:
        raise UserError(
            f"{type(solver).__name__}: {name} of shape {list(numbers.shape)} does not broadcast to "
            f"the rows of scores of shape {list(theta.shape)}"
        ) from None


def require_entries(solver: Solver, mask: Tensor, least: int | Tensor) -> None:
    """Raises a `UserError` that names the first row with fewer existing entries than `least`.

    Not looked for where that would synchronise or trace (CUDA, torch.compile, vmap).
    """
    if not is_known(mask) or (isinstance(least, Tensor) and not is_known(least)):
        return
    count = mask.sum(-1)
    short = count < least
    if short.any():
        row = int(short.flatten().nonzero()[0])
        needed = int(torch.as_tensor(least).expand_as(count).flatten()[row])
        raise UserError(
            f"{naming(solver, count.shape)(row)} has {int(count.flatten()[row])} existing entries by its mask, "
            f"where {needed} must be chosen"
        )


def is_known(x: Tensor) -> bool:
    """True if looking at values neither synchronises nor traces."""
    return x.is_cpu and not ops.traced(x)


def filled(theta: Tensor, mask: Tensor, value: float = -torch.inf) -> Tensor:
    """Scores whose masked entries come after all others, whatever those are; no gradient reaches the masked ones."""
    return theta.masked_fill(~mask, value)


@ops.eager  # the sizes of tensors depend on the mask
def by_size(
    function: Callable[[Tensor, int], Tensor], theta: Tensor, mask: Tensor, dims: int, k: int | Tensor = 0
) -> Tensor:
    """Calls a function of rows once for each number of existing entries (and each k), without the masked ones.

    Args:
        function: of the existing entries `[rows, m]` and of k; returns `[rows, ...]` with `dims` dims more.
        theta: `[*leading, n]`.
        mask: like theta.
        dims: of the result of one row.
        k: handed to the function, one for all or one for each row.

    Returns:
        The results `[*leading, n, ...]`, with zeros where those of a row are smaller than n.
    """
    leading, n = theta.shape[:-1], theta.shape[-1]
    rows = theta.gather(-1, order(mask)).reshape(leading.numel(), n)
    sizes = torch.stack([mask.sum(-1), torch.as_tensor(k, device=theta.device).expand(leading)], -1).reshape(-1, 2)
    out = rows.new_zeros(len(rows), *(n,) * dims) + rows[:0].sum()  # part of the graph, however few rows there are
    for size in sizes.unique(dim=0):
        m, each = size.tolist()
        if m:
            index = (sizes == size).all(-1).nonzero().squeeze(-1)
            y = function(rows[index, :m], each)
            padding = [p for extent in reversed(y.shape[1:]) for p in (0, n - extent)]
            out = out.index_put((index,), F.pad(y, padding) if padding else y)
    return out.reshape(leading + out.shape[1:])


def order(mask: Tensor) -> Tensor:
    """The positions of the existing entries of each row, in order, and then those of the masked ones."""
    return (~mask).to(torch.uint8).argsort(dim=-1, stable=True)


def first(theta: Tensor, mask: Tensor) -> Tensor:
    """The existing scores of each row, in order, and then zeros."""
    return filled(theta, mask, 0).gather(-1, order(mask))


def each(k: int | Tensor, theta: Tensor) -> Tensor:
    """A number for each row of `[*leading, n]` scores."""
    return torch.as_tensor(k, device=theta.device).expand(theta.shape[:-1])


def spread(y: Tensor, mask: Tensor) -> Tensor:
    """Entries of the last dim, existing ones first, back at the positions of these."""
    return torch.zeros_like(y).scatter(-1, order(mask).expand(y.shape), y)


def _booleans(solver: Solver, given: Any, device: torch.device) -> Tensor:
    name = type(solver).__name__
    try:
        mask = torch.as_tensor(given, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name}: the mask is no array of booleans: {error}") from error
    if mask.dtype != torch.bool:
        raise UserError(
            f"{name}: the mask must be boolean, true for entries that exist; got {mask.dtype}: mask.bool()?"
        )
    return mask
