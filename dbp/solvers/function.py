"""Any function as a solver."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from dbp.core import Solver
from dbp.errors import UserError
from dbp.solvers.cache import Cache, fingerprint
from dbp.solvers.instances import entries, naming
from dbp.solvers.workers import Call, call_each, name_of

Named = dict[str, Any]


@dataclass(frozen=True)
class FromFunction(Solver):
    """A solver from any function of scores, of any output shape; the decision has theta's dtype and device.

    A batched function maps `[batch, *event]` to `[batch, *out]`, and is called once (once for each worker). Any other
    maps `[*event]` to `[*out]`, and is called for each row:

        dbp.solvers.FromFunction(shortest_path, 2, batched=False, numpy=True, workers=8, timeout=10, cache=100_000)

    An empty batch tells such a function nothing about `out`: its decisions have theta's shape.

    An `instance` is handed on by name, `function(theta, **instance)`: each value as it is, to a function of a batch and
    of a row alike, except those that `per_row` names.

    Args:
        function: called with theta and the instance.
        event_dim: the number of trailing dims of theta that make one input.
        linear: the function returns the y that maximises `<theta, y>`, with theta's shape.
        per_row: values of the instance that differ from row to row, `{name: dims of its own}`: a tensor of `[*batch,
            *own]` broadcasts against theta's leading dims, and the function gets those of its rows; so it does of a
            list with an entry for each row.
        batched: the function takes a batch, with all leading dims flattened to one.
        numpy: it takes scores in NumPy arrays, copies that it may change; else in tensors. It may return either.
        workers: processes to call it in, at least two; 0 calls it here. They are joblib's, so that
            `joblib.parallel_config` can send the calls to a Ray or Dask cluster.
        timeout: seconds for each call; needs workers. A call that never lets go of Python's global lock is ended a
            minute later.
        cache: how many solutions are kept for inputs that come again, bit for bit, with equal arguments; the least
            recently used goes first. For functions that are not batched.

    Raises:
        UserError: the function raised, ran out of time, killed its process or returned what is no decision; it names
            the row.
    """

    function: Callable[..., Any]
    event_dim: int = 1
    instance_keys = None
    linear: bool = field(default=False, kw_only=True)
    per_row: Mapping[str, int] = field(default_factory=dict, kw_only=True, hash=False)
    batched: bool = field(default=True, kw_only=True)
    numpy: bool = field(default=False, kw_only=True)
    workers: int = field(default=0, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)
    cache: int = field(default=0, kw_only=True)
    _solved: Cache | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.workers < 0 or self.cache < 0 or (self.timeout is not None and not self.timeout > 0):
            raise UserError("FromFunction: timeout must be positive, workers and cache not negative")
        if self.timeout is not None and not self.workers:
            raise UserError("FromFunction: a time limit needs workers, processes that can be killed; set workers=2")
        if self.cache and self.batched:
            raise UserError("FromFunction: a cache needs a function of one input; set batched=False")
        if self.cache:
            object.__setattr__(self, "_solved", Cache(self.cache))

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        split = theta.ndim - self.event_dim
        leading, given = theta.shape[:split], dict(instance or {})
        names = [name for name in self.per_row if name in given]
        own = {name: entries(given.pop(name), self.per_row[name], leading, name) for name in names}
        rows = theta.reshape(leading.numel(), *theta.shape[split:])
        y = self._by_batch(rows, given, own) if self.batched else self._by_row(rows, given, own, leading)
        return y.reshape(*leading, *y.shape[1:]).to(theta)

    def _by_batch(self, rows: Tensor, shared: Named, own: Named) -> Tensor:
        chunks = rows.chunk(self.workers) if self.workers else (rows,)
        size = len(chunks[0])
        calls = [(x, shared | {n: v[i * size : (i + 1) * size] for n, v in own.items()}) for i, x in enumerate(chunks)]
        parts = self._decisions(calls, lambda _: f"FromFunction: a batch of {size}")
        y = torch.cat(parts) if len(parts) > 1 else parts[0]
        if y.shape[:1] != rows.shape[:1]:
            raise UserError(
                f"FromFunction: {name_of(self.function)} made shape {list(y.shape)} of a batch of {len(rows)}"
            )
        return y

    def _by_row(self, rows: Tensor, shared: Named, own: Named, leading: Sequence[int]) -> Tensor:
        if not len(rows):
            return rows
        name = naming(self, leading)
        calls = [(row, shared | {n: values[i] for n, values in own.items()}) for i, row in enumerate(rows)]
        if self._solved is None:
            return _stack(self._decisions(calls, name), name)
        keys = [fingerprint(row, *more, *more.values()) for row, more in calls]
        known = {key: y for key in keys if (y := self._solved.get(key)) is not None}
        first = dict(zip(reversed(keys), reversed(range(len(keys))), strict=True))
        new = sorted(index for key, index in first.items() if key not in known)
        decisions = self._decisions([calls[index] for index in new], lambda index: name(new[index]))
        for index, y in zip(new, decisions, strict=True):
            known[keys[index]] = y
            self._solved.put(keys[index], y)
        return _stack([known[key] for key in keys], name)

    def _decisions(self, calls: list[Call], name: Callable[[int], str]) -> list[Tensor]:
        inputs = [(self._input(theta), more) for theta, more in calls]
        return call_each(_to_tensor(self.function), inputs, name, self.workers, self.timeout)

    def _input(self, theta: Tensor) -> Any:
        """A copy where the function may change it, or where its process would be sent all that theta is a view of."""
        if self.numpy:
            return (
                theta.to("cpu", torch.float32 if theta.dtype == torch.bfloat16 else theta.dtype)
                .resolve_neg()
                .numpy()
                .copy()
            )
        return theta.cpu().clone() if self.workers else theta


def _to_tensor(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """The function with a copy of its result, in a tensor: its next call may use the same memory again."""

    @wraps(function)
    def call(theta: Any, more: Named) -> Tensor:
        result = function(theta, **more)
        try:
            return torch.as_tensor(result).clone()
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{name_of(function)} returned {type(result).__name__}, no tensor: {error}") from error

    return call


def _stack(decisions: list[Tensor], name: Callable[[int], str]) -> Tensor:
    for index, y in enumerate(decisions):
        if y.shape != decisions[0].shape:
            raise UserError(
                f"{name(index)}: a decision of shape {list(y.shape)}, and of shape "
                f"{list(decisions[0].shape)} before: the rows of a batch need one shape"
            )
    return torch.stack(decisions)
