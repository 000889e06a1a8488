"""One call a row, here or in worker processes, with errors that name the row."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from multiprocessing import TimeoutError as PoolTimeout
from pickle import PicklingError
from typing import Any

from dbp.errors import UserError

Call = tuple[Any, ...]

_START = 60.0  # seconds that a new process may take before its first call


def call_each(
    function: Callable[..., Any],
    calls: Sequence[Call],
    name: Callable[[int], str],
    workers: int = 0,
    timeout: float | None = None,
) -> list[Any]:
    """`[function(*call) for call in calls]`, one call for each row.

    The processes are joblib's: loky, unless `joblib.parallel_config` names another backend, such as ray or dask. They
    stay for the next calls; when one raises, hangs or dies, all are killed, and the next calls start new ones.

    Args:
        function: called here if there are no workers; else sent to them, by cloudpickle.
        calls: the arguments of each call.
        name: maps the index of a call to what errors say of it: the row it decides.
        workers: how many processes; 0 for none. joblib has no pool of one: two at least.
        timeout: seconds for each call; needs workers.

    Raises:
        UserError: a call raised, took longer, or killed its process. It names the row.
    """
    if not workers:
        return [_attempt(function, call, partial(name, index)) for index, call in enumerate(calls)]
    return _pooled(function, [(name(index), call) for index, call in enumerate(calls)], max(workers, 2), timeout)


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function in errors."""
    function = getattr(function, "__wrapped__", function)
    return getattr(function, "__qualname__", type(function).__qualname__)


def _pooled(
    function: Callable[..., Any], named: list[tuple[str, Call]], workers: int, timeout: float | None
) -> list[Any]:
    import joblib

    # A call that never releases the GIL cannot be timed in its own process; the pool's clock ends it, later.
    limits: dict[str, Any] = {} if timeout is None else {"timeout": timeout + _START, "batch_size": 1}
    try:
        return joblib.Parallel(workers, **limits)(
            joblib.delayed(_in_worker)(function, call, row, timeout) for row, call in named
        )
    except (TimeoutError, FutureTimeout, PoolTimeout) as error:
        raise UserError(f"one of {len(named)} rows from {named[0][0]}: {_too_long(function, timeout)}") from error
    except PicklingError as error:
        raise UserError(
            f"{name_of(function)} cannot be sent to worker processes: it, or what it is called with, refers to a lock, "
            "an open file or the like, which cannot be pickled"
        ) from error
    except BrokenExecutor as error:
        # Which call killed its process is not known: halve them until one is left.
        if len(named) == 1:
            raise UserError(
                f"{named[0][0]}: {name_of(function)} killed its process (a crash in native code, or out of memory)"
            ) from error
        half = len(named) // 2
        return _pooled(function, named[:half], workers, timeout) + _pooled(function, named[half:], workers, timeout)


def _in_worker(function: Callable[..., Any], call: Call, row: str, timeout: float | None) -> Any:
    if timeout is None:
        return _attempt(function, call, lambda: row)
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(_attempt(function, call, lambda: row))
        except UserError as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout)
    if not outcome:
        raise UserError(f"{row}: {_too_long(function, timeout)}")
    if isinstance(outcome[0], UserError):
        raise outcome[0]
    return outcome[0]


def _attempt(function: Callable[..., Any], call: Call, row: Callable[[], str]) -> Any:
    try:
        return function(*call)
    except UserError as error:
        raise UserError(f"{row()}: {error}") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"{row()}: {name_of(function)} raised {type(error).__name__}: {error}") from error


def _too_long(function: Callable[..., Any], timeout: float | None) -> str:
    return f"{name_of(function)} took longer than the time limit of {timeout:g} s"
