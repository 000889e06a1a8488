"""Problem data other than the scores (graphs, capacities), shared by all rows or given per row.

An instance is a mapping `{field: tensor}`. It overrides fields of the solver, and broadcasts: a tensor with nothing but
its own dims is shared by all rows, one with leading dims too (as a data loader stacks it) has an entry for each row.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.scores import require_finite

MOST_NODES = 2**24  # beyond, numbers are identifiers of something, and tables of so many nodes fill the memory
NODES = (-1, MOST_NODES - 1)  # -1 is padding, or stands for a default


def require_whole(solver: Solver, least: int, *names: str, most: int = 2**31 - 1) -> None:
    """Raises a `UserError` if one of these options, unless it is null, is no whole number from `least` to `most`."""
    for name in names:
        value = getattr(solver, name)
        if value is not None and not _is_whole(value, least, most):
            bounds = f"at least {least}" if most == 2**31 - 1 else f"{least} to {most}"
            raise UserError(f"{type(solver).__name__}: {name} must be a whole number, {bounds}, got {value!r}")


def whole(value: Any, what: str, device: torch.device | str, bounds: tuple[int, int] | None = NODES) -> Tensor:
    """Whole numbers that an instance or an option gives, of any dtype, as an int64 tensor.

    Raises:
        UserError: some number is not whole, or out of bounds; the values of traced tensors are not checked.
    """
    try:
        tensor = torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"{what}: no array of whole numbers: {error}") from error
    if tensor.numel() and (tensor.is_complex() or tensor.dtype == torch.bool):
        raise UserError(f"{what}: whole numbers are needed, got {tensor.dtype}")
    known = tensor.numel() and not ops.traced(tensor)
    if known and tensor.is_floating_point() and not ((tensor == tensor.round()) & (tensor.abs() < 2**53)).all():
        raise UserError(f"{what}: whole numbers are needed, got {tensor.flatten()[:8].tolist()}")
    tensor = tensor.long().resolve_neg()
    if known and bounds:
        low, high = map(int, tensor.aminmax())
        if low < bounds[0] or high > bounds[1]:
            wrong = low if low < bounds[0] else high
            raise UserError(f"{what}: whole numbers from {bounds[0]} to {bounds[1]} are needed, got {wrong}")
    return tensor


def count_nodes(*numbers: Tensor) -> int:
    """One more than the largest of these numbers of nodes, the size of tables with an entry for each.

    Raises:
        UserError: there are more than `MOST_NODES`.
    """
    last = max((int(x.max()) for x in numbers if x.numel()), default=-1)
    if last >= MOST_NODES:
        raise UserError(f"nodes are numbered from 0 without large gaps, below {MOST_NODES}; there is a node {last}")
    return last + 1


def _is_whole(value: Any, least: int, most: int) -> bool:
    try:
        return not isinstance(value, bool) and least <= operator.index(value) <= most
    except TypeError:
        return False


def fields(solver: Solver, instance: Instance, *names: str) -> dict[str, Any]:
    """The solver's own fields of these names, or those of the instance, which has been checked."""
    given = instance or {}
    return {name: given.get(name, getattr(solver, name)) for name in names}


def per_row(value: Tensor, event_dim: int, leading: Sequence[int], what: str) -> Tensor:
    """`[*batch, *event]` broadcast to `[rows, *event]`, a view where it can be.

    Raises:
        UserError: its leading dims do not fit those of the scores.
    """
    event = value.shape[value.ndim - event_dim :]
    try:
        wide = value.expand((*leading, *event))
    except RuntimeError as error:
        raise UserError(
            f"{what} of shape {list(value.shape)} does not fit scores with leading dims {list(leading)}: "
            f"it has {event_dim} dims of its own and one entry for each row, or one for all"
        ) from error
    return value.expand(math.prod(leading), *event) if value.ndim == event_dim else wide.reshape(-1, *event)


def host_rows(solver: Solver, theta: Tensor) -> np.ndarray:
    """`[*leading, n]` scores as float64 `[rows, n]` on the host, where looking for NaN costs no synchronisation."""
    host = theta.cpu()
    if host is not theta:
        require_finite(host, solver.event_dim, type(solver).__name__)
    return host.double().resolve_neg().reshape(math.prod(theta.shape[:-1]), theta.shape[-1]).numpy()


def naming(solver: Solver | str, leading: Sequence[int]) -> Callable[[int], str]:
    """Maps a flat index to the name of its row in errors: `TopK: row [2, 1]`; `TopK: row 0` where there is but one."""
    name, shape = solver if isinstance(solver, str) else type(solver).__name__, tuple(leading)
    return lambda index: f"{name}: row {[int(i) for i in np.unravel_index(index, shape)] or 0}"


def entries(value: Any, event_dim: int, leading: Sequence[int], what: str) -> Any:
    """A sequence with an entry for each row, of tensors that broadcast or of lists that repeat over leading dims.

    Raises:
        UserError: they do not fit the leading dims.
    """
    if isinstance(value, Tensor):
        return per_row(value, event_dim, leading, what)
    if isinstance(value, np.ndarray):
        return per_row(torch.from_numpy(value), event_dim, leading, what).numpy()
    fits = [math.prod(leading[start:]) for start in range(len(leading) + 1)]
    if len(value) not in fits:
        raise UserError(f"{what} of {len(value)} entries does not fit scores with leading dims {list(leading)}")
    return [value[index % len(value)] for index in range(fits[0])]
