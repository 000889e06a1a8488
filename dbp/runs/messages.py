"""Error translation: errors of torch and Lightning in a user's words, and the scores that a solver failed on."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor

from dbp.config import changes
from dbp.errors import UserError
from dbp.runs.checkpoints import config_in
from dbp.runs.processes import OneMessage

QUIET = (
    "does not have many workers",
    "smaller than the logging interval",
    "exists and is not empty",
    "is not supported by the model summary",
    "isinstance.treespec",
    "Be aware that when using `ckpt_path`",
    "A `OneCycleLR` scheduler is using 'interval': 'epoch'",  # not by default: the user said so
    "It is recommended to use `self.log",  # values that torchmetrics has already made one for all processes
)
ASKED = (  # loggers of what prints only if a configuration names it
    "pytorch_lightning.callbacks.early_stopping",
    "pytorch_lightning.callbacks.model_summary",
    "pytorch_lightning.profilers",
    "pytorch_lightning.tuner.lr_finder",
)
SHAPING = ("task", "solver", "estimator", "data")  # the shapes of a checkpoint's state follow from these
log = logging.getLogger(__name__)
SCORES = "failed_scores.npy"  # of the run's folder
UNFIT = "Error(s) in loading state_dict"
WORKER_DIED = (
    "a process that loads data was killed, most often because memory ran out (fewer data.workers or a smaller "
    "data.batch_size need less); to resume: ckpt_path=last. "
)
USERS = {  # errors of others that users cause, and what to say before them
    UNFIT: "",
    "Early stopping conditioned on metric": "",
    "DataLoader worker (pid": WORKER_DIED,
    "Expected more than 1 value per channel": "a batch of one example, which batch norm cannot take: choose another "
    "data.batch_size. ",
}


@contextmanager
def quietly() -> Iterator[None]:
    """Without Lightning's advice, and with the errors that users cause as UserError."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ASKED:
        logging.getLogger(name).setLevel(logging.INFO)
    # It tells of a process that died, before it ends the others.
    logging.getLogger("lightning_fabric.strategies.launchers.subprocess_script").setLevel(logging.INFO)
    with warnings.catch_warnings(), in_users_words():
        for text in QUIET:
            warnings.filterwarnings("ignore", message=f".*{text}")
        yield


@contextmanager
def scores_kept(place: Path | None) -> Iterator[None]:
    """Writes the scores that a solver failed on into the run's folder, and says so."""
    try:
        yield
    except Exception as error:
        theta = _scores_of(error)
        if theta is None or place is None:
            raise
        path = place / SCORES
        try:
            np.save(
                path,
                theta.detach().cpu().to(torch.promote_types(theta.dtype, torch.float32)).numpy(),
                allow_pickle=False,
            )
        except OSError:  # the folder is gone, or the disk full: the solver's error is the one to be told
            raise error from None
        note = f"the scores {list(theta.shape)} that the solver failed on: {os.path.relpath(path)}"
        if isinstance(error, UserError):
            raise UserError(f"{error}\n  {note}") from error
        log.error(note)
        raise


def _scores_of(error: BaseException | None) -> Tensor | None:
    """The scores of the solver that raised an error or one of its causes."""
    while error and not hasattr(error, "scores"):
        error = error.__cause__
    return error.scores if error else None  # type: ignore[attr-defined]


@contextmanager
def one_message(trainer: pl.Trainer) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, OneMessage) and callback.instead:
                raise callback.instead from error
        raise


@contextmanager
def changed_keys_named(start: Path | None, config: Mapping[str, Any]) -> Iterator[None]:
    """Says which changed key it may be when the state of a checkpoint does not fit what the configuration builds."""
    try:
        yield
    except RuntimeError as error:
        if not (start and str(error).startswith(UNFIT)):
            raise
        old = {name: value for name, value in config_in(start).items() if name in SHAPING}
        changed = changes(old, config)
        what = "\n  ".join([*str(error).splitlines()[:2], *(f"changed: {line}" for line in changed)])
        raise UserError(f"{what}\n  give the old values, or start a new run: init_from=FILE run=NAME") from error


@contextmanager
def in_users_words() -> Iterator[None]:
    try:
        yield
    except MisconfigurationException as error:
        raise UserError(str(error)) from error
    except (ConnectionError, EOFError) as error:  # from a loader that does not yet know what became of its process
        if not any("torch/utils/data" in frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)):
            raise
        raise UserError(f"{WORKER_DIED}{type(error).__name__}: {error}") from error
    except (RuntimeError, ValueError) as error:
        said = next((said for start, said in USERS.items() if str(error).startswith(start)), None)
        if said is None:
            raise
        raise UserError(said + str(error)) from error
