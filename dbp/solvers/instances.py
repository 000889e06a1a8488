"""Problem data other than the scores (graphs, capacities), shared by all rows or given per row.

An instance is a mapping `{field: tensor}`. It overrides fields of the solver, and broadcasts: a tensor with nothing but
its own dims is shared by all rows, one with leading dims too (as a data loader stacks it) has an entry for each row.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.scores import require_finite


def require_whole(solver: Solver, least: int, *names: str) -> None:
    """Raises a `UserError` if one of these options, unless it is null, is no int or less than `least`."""
    for name in names:
        value = getattr(solver, name)
        if value is not None and (not isinstance(value, int) or value < least):
            raise UserError(f"{type(solver).__name__}: {name} must be a whole number, at least {least}, got {value!r}")


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
    return host.double().reshape(math.prod(theta.shape[:-1]), theta.shape[-1]).numpy()


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
