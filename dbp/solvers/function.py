"""Any function as a solver."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from dbp.core import Solver
from dbp.errors import UserError
from dbp.solvers.cache import Cache, fingerprint
from dbp.solvers.instances import naming, repeat
from dbp.solvers.workers import Call, call_each, name_of


@dataclass(frozen=True)
class FromFunction(Solver):
    """A solver from any function of scores, of any output shape; the decision has theta's dtype and device.

    A batched function maps `[batch, *event]` to `[batch, *out]`, and is called once (once for each worker). Any other
    maps `[*event]` to `[*out]`, and is called for each row:

        dbp.solvers.FromFunction(shortest_path, 2, batched=False, numpy=True, workers=8, timeout=10, cache=100_000)

    An empty batch tells such a function nothing about `out`: its decisions have theta's shape.

    Args:
        function: called with theta and the further arguments in `instance`: a tuple, the same for all rows; or, for a
            function that is not batched, a list with one tuple for each row.
        event_dim: the number of trailing dims of theta that make one input.
        batched: whether the function takes a batch, with all leading dims flattened to one.
        numpy: whether it takes NumPy arrays, copies that it may change; else tensors. It may return either.
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
        if not isinstance(instance, tuple | list | None):
            raise UserError(f"FromFunction takes a tuple of further arguments, got {type(instance).__name__}")
        split = theta.ndim - self.event_dim
        leading = theta.shape[:split]
        rows = theta.reshape(leading.numel(), *theta.shape[split:])
        y = self._by_batch(rows, instance) if self.batched else self._by_row(rows, instance, leading)
        return y.reshape(*leading, *y.shape[1:]).to(theta)

    def _by_batch(self, rows: Tensor, args: Any) -> Tensor:
        chunks = rows.chunk(self.workers) if self.workers else (rows,)
        parts = self._decisions(
            [(chunk, *(args or ())) for chunk in chunks], lambda _: f"FromFunction: a batch of {len(chunks[0])}"
        )
        y = torch.cat(parts) if len(parts) > 1 else parts[0]
        if y.shape[:1] != rows.shape[:1]:
            raise UserError(
                f"FromFunction: {name_of(self.function)} made shape {list(y.shape)} of a batch of {len(rows)}"
            )
        return y

    def _by_row(self, rows: Tensor, instance: Any, leading: Sequence[int]) -> Tensor:
        if not len(rows):
            return rows
        name = naming(self, leading)
        args = repeat(instance if isinstance(instance, list) else [instance or ()], leading)
        calls = [(row, *more) for row, more in zip(rows, args, strict=True)]
        if self._solved is None:
            return _stack(self._decisions(calls, name), name)
        keys = [fingerprint(*call) for call in calls]
        known = {key: y for key in keys if (y := self._solved.get(key)) is not None}
        first = dict(zip(reversed(keys), reversed(range(len(keys))), strict=True))
        new = sorted(index for key, index in first.items() if key not in known)
        decisions = self._decisions([calls[index] for index in new], lambda index: name(new[index]))
        for index, y in zip(new, decisions, strict=True):
            known[keys[index]] = y
            self._solved.put(keys[index], y)
        return _stack([known[key] for key in keys], name)

    def _decisions(self, calls: list[Call], name: Callable[[int], str]) -> list[Tensor]:
        inputs = [(self._input(theta), *args) for theta, *args in calls]
        return call_each(_to_tensor(self.function), inputs, name, self.workers, self.timeout)

    def _input(self, theta: Tensor) -> Any:
        """A copy where the function may change it, or where its process would be sent all that theta is a view of."""
        if self.numpy:
            return theta.to("cpu", torch.float32 if theta.dtype == torch.bfloat16 else theta.dtype).numpy().copy()
        return theta.cpu().clone() if self.workers else theta


def _to_tensor(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """What the function returns, as a tensor of its own: its next call may use the same memory again."""

    @wraps(function)
    def call(*args: Any) -> Tensor:
        result = function(*args)
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
