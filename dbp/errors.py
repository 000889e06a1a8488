"""The exceptions that users meet, and unexpected errors shortened to a few lines. Imports nothing of dbp."""

from __future__ import annotations

import os
import signal
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import CodeType

LINES, WIDTH = 4, 300  # of what an error says
OURS = str(Path(__file__).parent) + os.sep
LIBRARIES = [sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib", "stdlib")]


class UserError(ValueError):
    """An error that the user can mend. `str(error)` is the whole message; `dbp` prints it and exits with 2."""


class Unsupported(UserError):
    """A solver or a noise lacks what an estimator needs."""


class Echo(UserError):
    """This process ends because of what another one says: nothing is left to say."""


class NonFinite(UserError):
    """Scores, a loss or a gradient that is NaN or infinite; `located` if the message says at which step."""

    def __init__(self, message: str, located: bool = False) -> None:
        super().__init__(message)
        self.located = located


class DataError(UserError):
    """Files or examples that cannot be used; the message names them and says what to do."""


class Stopped(Exception):
    """A process of a run ended early because a signal asked for it; `checkpoint` is the one to resume from."""

    def __init__(self, number: int, step: int, checkpoint: str, rank: int = 0) -> None:
        self.number, self.checkpoint, self.rank = number, checkpoint, rank
        super().__init__(f"stopped by {signal.Signals(number).name} at step {step}")


@contextmanager
def in_short(file: Path | None = None) -> Iterator[None]:
    """Shortens unexpected errors to what happened and where; an error through the user's own code keeps its traceback.

    Args:
        file: where the traceback is written.

    Raises:
        UserError: instead of any different error that came through dbp and installed packages alone.
    """
    try:
        yield
    except (UserError, Stopped, BrokenPipeError):
        raise
    except Exception as error:
        frames = [(frame.f_code, line) for frame, line in walk_tb(error.__traceback__)]
        # Those that loaders' processes sent have theirs in what they say.
        if any(_users(code.co_filename) for code, _ in frames) or "Traceback (most recent" in str(error):
            raise
        said = [line[:WIDTH] for line in f"{type(error).__name__}: {error}".splitlines()]
        ours = [frame for frame in frames if frame[0].co_filename.startswith(OURS)]
        where = " from ".join(_place(*frame) for frame in dict.fromkeys((frames[-1], ours[-1])))
        if file:
            try:
                file.write_text(traceback.format_exc())
            except OSError:  # the folder is gone, or the disk full: what happened before is the error to be told
                file = None
        more = f"the traceback: {os.path.relpath(file)}" if file else "DBP_TRACEBACK=1 shows the traceback"
        lines = [*said[:LINES], *(["..."] if len(said) > LINES else [])]
        lines += [f"in {where}", f"options that do not fit each other, or a bug; {more}"]
        raise UserError("\n  ".join(lines)) from error


def _users(path: str) -> bool:
    return not path.startswith(("<", OURS, *LIBRARIES))


def _place(code: CodeType, line: int) -> str:
    path = code.co_filename
    root = next((root for root in (*LIBRARIES, OURS.removesuffix("dbp" + os.sep)) if path.startswith(root)), "")
    return f"{path.removeprefix(root)}, line {line}, {code.co_name}"
