"""Instances: what else than the scores defines a problem, one for all rows or one for each.

An instance is a mapping `{field: tensor}`. It overrides fields of the solver, and broadcasts: a tensor with nothing but
its own dims is shared by all rows, one with leading dims too (as a data loader stacks it) has an entry for each row.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from dbp.core import Solver
from dbp.errors import UserError
from dbp.scores import require_finite


def require_whole(solver: Solver, least: int, *names: str) -> None:
    """Raises a `UserError` if one of these options, unless it is null, is no int or less than `least`."""
    for name in names:
        value = getattr(solver, name)
        if value is not None and (not isinstance(value, int) or value < least):
            raise UserError(f"{type(solver).__name__}: {name} must be a whole number, at least {least}, got {value!r}")


def fields(solver: Solver, instance: Any, *names: str) -> dict[str, Any]:
    """The solver's own fields of these names, or what the instance has in their place."""
    given: Mapping[str, Any] = {} if instance is None else instance
    if not isinstance(given, Mapping) or not set(given) <= set(names):
        got = list(given) if isinstance(given, Mapping) else type(given).__name__
        raise UserError(f"{type(solver).__name__} takes an instance {{name: tensor}} of {', '.join(names)}; got {got}")
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


def naming(solver: Solver, leading: Sequence[int]) -> Callable[[int], str]:
    """What errors call the row of a flat index: `TopK: row [2, 1]`; `TopK: row 0` where there is but one."""
    shape = tuple(leading)
    return lambda index: f"{type(solver).__name__}: row {[int(i) for i in np.unravel_index(index, shape)] or 0}"


def repeat(values: Sequence[Any], leading: Sequence[int]) -> list[Any]:
    """One value for each row, from one for all rows or one for each entry of the last leading dims.

    Raises:
        UserError: their number is not that of entries.
    """
    fits = [math.prod(leading[start:]) for start in range(len(leading) + 1)]
    if len(values) not in fits:
        raise UserError(f"an instance of {len(values)} entries does not fit scores with leading dims {list(leading)}")
    return [values[index % len(values)] for index in range(fits[0])]
