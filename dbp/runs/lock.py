"""One run at a time in a folder."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dbp.errors import UserError

log = logging.getLogger(__name__)
FILE = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a run's folder for this process, and says in the file `.lock` which one that is.

    A record lock of POSIX: the system gives it back when the process ends, however it ends and on whichever host, and
    the processes that it forks to load data, which may outlive it, do not share it. So no lock is ever stale.

    Raises:
        UserError: another process holds the folder, or nothing can be written there.
    """
    path = folder / FILE
    try:
        file = path.open("a+")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise UserError(_taken(folder, path)) from error
            log.warning("%s cannot be locked (%s): see to it that no other run uses it", folder, error.strerror)
        file.truncate(0)
        json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%F %T")}, file)
        file.flush()
        yield


def _taken(folder: Path, path: Path) -> str:
    try:
        owner = json.loads(path.read_text())
        who = f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (ValueError, TypeError, KeyError):  # it has the lock, and has not said so yet
        who = "another process"
    return f"{folder} is in use by {who}: wait for it or stop it, or give another run=NAME"
