"""Orphans: a process of a run ends when the one that started it is gone, from its first second on. Imports no torch."""

import os
import threading
import time

PARENT = "DBP_PARENT"  # set by the process that starts the others
_NAME = "dbp: end with the parent"


def watch(parent: int) -> None:
    """Ends this process when `parent` is gone.

    A process that waits for a GPU, or for others to meet it, does not notice by itself.
    """
    threading.Thread(target=_end_with, args=(parent,), name=_NAME, daemon=True).start()


def watch_starter() -> None:
    """Watches the process that started this one as a further rank of its run, if one did."""
    if PARENT in os.environ and int(os.environ.get("LOCAL_RANK", 0)) > 0 and "TORCHELASTIC_RUN_ID" not in os.environ:
        watch(int(os.environ[PARENT]))


def watching() -> bool:
    """True if a thread of this process watches."""
    return any(thread.name == _NAME for thread in threading.enumerate())


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
