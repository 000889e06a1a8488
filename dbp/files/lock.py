"""Locks between processes: one run at a time in a folder, one download at a time of a file."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TextIO

from dbp.errors import UserError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)
FILE = ".lock"
_THREADS = threading.Lock()


def require_posix() -> None:
    """Raises a UserError where a run could neither lock its folder nor be stopped by a signal."""
    if fcntl is None:
        raise UserError(
            "fit needs Linux, macOS or WSL (Windows Subsystem for Linux): this system has no POSIX file locks"
        )


@contextmanager
def locked(folder: Path, wait: bool = False, name: str = FILE) -> Iterator[None]:
    """Holds a folder for this process, and names the process in the folder's file `.lock`.

    A POSIX record lock: the system releases it when the process ends, however it ends and on whichever host, and
    forked children (data loaders, which may outlive it) do not inherit it. So no lock is ever stale.

    Args:
        folder: exists already.
        wait: wait for a process or a thread that holds the folder instead of raising. On a system without such locks
            it waits for threads alone.
        name: of the lock's file.

    Raises:
        UserError: another process holds the folder, or nothing can be written there.
    """
    path = folder / name
    with _THREADS if wait else nullcontext(), _opened(path) as file:
        try:
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise UserError(_taken(folder, path)) from error
            log.warning("%s cannot be locked (%s): make sure that nothing else uses it", folder, error.strerror)
        file.truncate(0)
        json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%F %T")}, file)
        file.flush()
        yield


def _opened(path: Path) -> TextIO:
    try:
        return path.open("a+")
    except OSError as error:
        raise UserError(f"cannot write to {path.parent}: {error.strerror}") from error


def _taken(folder: Path, path: Path) -> str:
    try:
        owner = json.loads(path.read_text())
        who = f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (ValueError, TypeError, KeyError):  # it has the lock, and has not said so yet
        who = "another process"
    return f"{folder} is in use by {who}: wait for it or stop it, or give another run=NAME"
