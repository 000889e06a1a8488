"""The folder of a run, `lightning_logs/<run>`: claimed by one process and handed to those that it starts."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from dbp.config import carried, to_yaml
from dbp.errors import UserError
from dbp.files.atomic import replacing
from dbp.files.lock import FILE as LOCK
from dbp.registry import did_you_mean
from dbp.runs.checkpoints import best_in, fault_in, verify
from dbp.runs.parent import PARENT

log = logging.getLogger(__name__)
EVENTS = 200  # bytes of a file of TensorBoard's events that has a header alone
HANDED = "DBP_RUN"  # Lightning starts other ranks by running the command line again


def runs_of(config: Mapping[str, Any]) -> Path:
    """The folder of all runs."""
    return Path(config["trainer"].get("default_root_dir") or ".") / "lightning_logs"


def folder_named(config: Mapping[str, Any]) -> Path:
    """The folder of the run called `run`.

    Raises:
        UserError: the name leads out of the folder of all runs, or is that folder.
    """
    run = config["run"]
    if os.path.isabs(run) or ".." in Path(run).parts or not Path(run).parts or "\0" in run:
        raise UserError(f"run={run!r}: a run is a folder below {runs_of(config)}: give a name, such as run=first")
    return runs_of(config) / run


def find_checkpoint(config: Mapping[str, Any], stage: str) -> Path | None:
    """The checkpoint to resume or to evaluate: the file that `ckpt_path` means, None for a new fit.

    Raises:
        UserError: there is no such file, it cannot be read, or an untrained model would be evaluated.
    """
    if config["run"] is not None:
        folder_named(config)  # refused at once, not after torch is imported
    try:
        return _find(config, stage)
    except OSError as error:
        raise UserError(f"cannot read {str(error.filename)[:200]}: {error.strerror}") from error


def _find(config: Mapping[str, Any], stage: str) -> Path | None:
    wanted, run = config["ckpt_path"], config["run"]
    if wanted is None:
        if stage != "fit":
            raise UserError(f"{stage} of an untrained model: give ckpt_path=FILE, or run=NAME ckpt_path=best")
        return None
    if wanted not in ("last", "best"):
        path = Path(wanted)
        if not path.is_file():
            near = [str(p) for p in path.parent.glob("*.ckpt")] if path.parent.is_dir() else []
            raise UserError(f"ckpt_path={wanted}: no such file.{did_you_mean(wanted, near)}".removesuffix("."))
        verify(path)
        return path
    if run is None:
        raise UserError(f"ckpt_path={wanted}: of which run? give run=NAME, or ckpt_path=FILE")
    found = last_in(folder_named(config))
    if found and wanted == "best" and (found := best_in(found)):
        verify(found)
    if found is None and (stage != "fit" or wanted == "best"):
        raise UserError(f"ckpt_path={wanted}: there is no checkpoint in {folder_named(config)}")
    return found


def last_in(folder: Path, fault_in: Callable[[Path], str | None] = fault_in) -> Path | None:
    """The newest valid checkpoint: last.ckpt, what Lightning saves when SLURM stops a job, or else another.

    Args:
        folder: of the run.
        fault_in: says what is wrong with a file; None if nothing is.

    Raises:
        UserError: there are checkpoints, and none is valid.
    """
    found, faults = checkpoints_in(folder), list[str]()
    for path in found:
        if (fault := fault_in(path)) is None:
            for line in faults if int(os.environ.get("LOCAL_RANK", 0)) == 0 else ():
                log.warning("passed over %s; resuming from %s", line, path)
            return path
        faults.append(f"{path} ({fault})")
    if found:
        raise UserError("\n  ".join([f"no checkpoint in {folder} is valid; remove them to start again:", *faults]))
    return None


def checkpoints_in(folder: Path) -> list[Path]:
    """All checkpoints of a run: the newest first of those that are written last, and then of the others."""
    last = [*folder.glob("checkpoints/last.ckpt"), *folder.glob("hpc_ckpt_*.ckpt")]
    others = set(folder.glob("checkpoints/*.ckpt")) - set(last)
    return [
        path
        for found in (last, others)
        for path in sorted(found, key=lambda path: path.lstat().st_mtime_ns, reverse=True)
    ]


def folder_of(checkpoint: Path) -> Path | None:
    """The run that a checkpoint belongs to, if it lies in the folder of one."""
    return next((p for p in list(checkpoint.absolute().parents)[:2] if (p / "config.yaml").is_file()), None)


@contextmanager
def claimed(config: Mapping[str, Any], checkpoint: Path | None) -> Iterator[tuple[Path, Path | None]]:
    """The folder of a fit, made if need be, and the checkpoint that it starts from.

    `run` names it. Otherwise it is the folder of the checkpoint; otherwise, in a job of a cluster, `job_<id>`, where a
    job that is started again with the same configuration resumes; otherwise the next free `version_<n>`. A folder that
    was made here is removed when the fit fails before it has written anything there.

    Raises:
        UserError: `run` names a run that has checkpoints, and `ckpt_path` does not say to resume one; or the folder
            cannot be made.
    """
    if HANDED in os.environ and int(os.environ.get("LOCAL_RANK", 0)) > 0:
        yield Path(os.environ[HANDED]), checkpoint
        return
    runs = runs_of(config)
    before = [runs, *runs.glob("*")] if runs.is_dir() else []
    try:
        folder, checkpoint = _claim(config, checkpoint)
    except OSError as error:
        raise UserError(f"cannot make a folder for the run in {runs}: {error.strerror}") from error
    try:
        yield folder, checkpoint
    except BaseException:
        if folder not in before and folder.parent == runs and _is_empty(folder):
            shutil.rmtree(folder, ignore_errors=True)
            if runs not in before and not any(runs.iterdir()):
                runs.rmdir()
        raise


def _is_empty(folder: Path) -> bool:
    """True if a run has left nothing: no checkpoint, metric or message, and no value among TensorBoard's events."""
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    return all(
        path.name in ("config.yaml", LOCK) or (path.match("events.out.tfevents.*") and path.stat().st_size < EVENTS)
        for path in files
    )


@contextmanager
def handed_down(folder: Path) -> Iterator[None]:
    """Hands the folder to the processes that are started meanwhile, through the environment."""
    told = {HANDED: str(folder.absolute()), PARENT: str(os.getpid())}
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _claim(config: Mapping[str, Any], checkpoint: Path | None) -> tuple[Path, Path | None]:
    runs, run = runs_of(config), config["run"]
    if run is not None:
        folder = folder_named(config)
        if config["ckpt_path"] is None and checkpoints_in(folder):
            raise UserError(f"run={run}: {folder} has checkpoints; give ckpt_path=last to resume, or another run=NAME")
        folder.mkdir(parents=True, exist_ok=True)
    elif checkpoint and (found := folder_of(checkpoint)):
        folder = found
    elif job := _job(config):
        folder = _claim_one(
            runs, (f"job_{job}{suffix}" for suffix in _suffixes()), to_yaml(carried(config)), shared=True
        )
        checkpoint = checkpoint or last_in(folder)
    else:
        folder = _claim_one(runs, (f"version_{n}" for n in count()), to_yaml(carried(config)))
    return folder, checkpoint


def save_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Writes the complete configuration, from which `fit --config` makes the same run again."""
    with replacing(folder / "config.yaml") as path:
        path.write_text(to_yaml(carried(config)))


def _job(config: Mapping[str, Any]) -> str | None:
    job = os.environ.get("SLURM_JOB_ID") or os.environ.get("TORCHELASTIC_RUN_ID")
    many = int(os.environ.get("WORLD_SIZE", 1)) > 1 or config["trainer"].get("num_nodes", 1) > 1
    if job in (None, "none"):
        if many:
            raise UserError(
                "several machines or processes must agree on a folder: give run=NAME (or torchrun --rdzv-id)"
            )
        return None
    return job


def _suffixes() -> Iterator[str]:
    yield ""
    yield from (f"_{n}" for n in count(1))


def _claim_one(runs: Path, names: Iterator[str], text: str, shared: bool = False) -> Path:
    """The first folder that can be made; if `shared`, one that the same configuration made will do.

    A folder is made elsewhere and renamed, so that it never exists without its config.yaml.
    """
    runs.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".claim_", dir=runs))
    made.chmod(0o755)
    (made / "config.yaml").write_text(text)
    try:
        for folder in map(runs.joinpath, names):
            try:
                if not folder.exists():
                    return made.rename(folder)
            except OSError:  # another process was faster
                pass
            if shared and _text(folder / "config.yaml") == text:
                return folder
    finally:
        shutil.rmtree(made, ignore_errors=True)
    raise AssertionError("names are endless")


def _text(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None
