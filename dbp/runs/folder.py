"""Where runs live: `lightning_logs/<run>`, claimed by one process and handed to those that it starts."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from dbp.config import carried, to_yaml
from dbp.errors import UserError
from dbp.registry import did_you_mean
from dbp.runs.checkpoints import best_in, fault_in, verify
from dbp.runs.files import replacing

log = logging.getLogger(__name__)
HANDED = "DBP_RUN"  # Lightning starts other ranks by running the command line again


def runs_of(config: Mapping[str, Any]) -> Path:
    """The folder of all runs."""
    return Path(config["trainer"].get("default_root_dir") or ".") / "lightning_logs"


def find_checkpoint(config: Mapping[str, Any], stage: str) -> Path | None:
    """The checkpoint to go on from or to evaluate: what `ckpt_path` means, None for a fit that starts anew.

    Raises:
        UserError: there is no such file, it cannot be read, or an untrained model would be evaluated.
    """
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
    found = last_in(runs_of(config) / run)
    if found and wanted == "best" and (found := best_in(found)):
        verify(found)
    if found is None and (stage != "fit" or wanted == "best"):
        raise UserError(f"ckpt_path={wanted}: there is no checkpoint in {runs_of(config) / run}")
    return found


def last_in(folder: Path) -> Path | None:
    """The newest valid checkpoint: last.ckpt, what Lightning saves when SLURM stops a job, or else another.

    Raises:
        UserError: there are checkpoints, and none is valid.
    """
    found, faults = checkpoints_in(folder), list[str]()
    for path in found:
        if (fault := fault_in(path)) is None:
            for line in faults if int(os.environ.get("LOCAL_RANK", 0)) == 0 else ():
                log.warning("passed over %s; going on from %s", line, path)
            return path
        faults.append(f"{path} ({fault})")
    if found:
        raise UserError("\n  ".join([f"no checkpoint in {folder} is valid; remove them to start anew:", *faults]))
    return None


def checkpoints_in(folder: Path) -> list[Path]:
    """All checkpoints of a run: the newest first of those that are written last, and then of the others."""
    last = [*folder.glob("checkpoints/last.ckpt"), *folder.glob("hpc_ckpt_*.ckpt")]
    others = set(folder.glob("checkpoints/*.ckpt")) - set(last)
    return [
        path
        for found in (last, others)
        for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    ]


def folder_of(checkpoint: Path) -> Path | None:
    """The run that a checkpoint belongs to, if it lies in the folder of one."""
    return next((p for p in list(checkpoint.absolute().parents)[:2] if (p / "config.yaml").is_file()), None)


def claim(config: Mapping[str, Any], checkpoint: Path | None) -> tuple[Path, Path | None]:
    """The folder of a fit, made if need be, and the checkpoint that it starts from.

    `run` names it. Otherwise it is the folder of the checkpoint; otherwise, in a job of a cluster, `job_<id>`, where a
    job that is started again with the same configuration goes on; otherwise the next free `version_<n>`.

    Raises:
        UserError: `run` names a run that has checkpoints, and `ckpt_path` does not say to go on from one; or the folder
            cannot be made.
    """
    if HANDED in os.environ and int(os.environ.get("LOCAL_RANK", 0)) > 0:
        return Path(os.environ[HANDED]), checkpoint
    try:
        folder, checkpoint = _claim(config, checkpoint)
    except OSError as error:
        raise UserError(f"cannot make a folder for the run in {runs_of(config)}: {error.strerror}") from error
    return folder, checkpoint


@contextmanager
def handed_down(folder: Path) -> Iterator[None]:
    """Tells the processes that are started meanwhile which folder is theirs, too."""
    before = os.environ.get(HANDED)
    os.environ[HANDED] = str(folder.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ[HANDED]
        else:
            os.environ[HANDED] = before


def _claim(config: Mapping[str, Any], checkpoint: Path | None) -> tuple[Path, Path | None]:
    runs, run = runs_of(config), config["run"]
    if run is not None:
        folder = runs / run
        if config["ckpt_path"] is None and checkpoints_in(folder):
            raise UserError(f"run={run}: {folder} has checkpoints; give ckpt_path=last to go on, or another run")
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
