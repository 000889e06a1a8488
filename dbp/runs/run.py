"""Builds the objects of a complete configuration and hands them to the Trainer."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from dbp import errors
from dbp.components import catalog
from dbp.config import carried, over
from dbp.errors import UserError
from dbp.files.atomic import replacing
from dbp.files.lock import locked, require_posix
from dbp.native import loader
from dbp.registry.signature import signature
from dbp.runs import folder, loggers, messages
from dbp.runs.checkpoints import KEY, config_in, fault_in, read_plain, verify
from dbp.runs.dead import DeadGradient
from dbp.runs.finite import Finite
from dbp.runs.initial import initialise
from dbp.runs.paths import OwnPaths, check_filename
from dbp.runs.pictures import ProgressBar, SavedPictures
from dbp.runs.processes import ERROR, OneMessage
from dbp.runs.randomness import KeyedRandomness, seed_all
from dbp.runs.resuming import ChangedOptimizer, Ended, SameBatches
from dbp.runs.saving import AtomicCheckpointIO, Best, Header, Last
from dbp.runs.stopping import StopOnSignal
from dbp.tasks import hparams
from dbp.tasks.task import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """The results of a run: its folder, the last metrics, the checkpoints to resume and to use."""

    folder: Path | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    best: str | None = None
    last: Path | None = None
    pictures: list[Path] = field(default_factory=list)


def fit(config: Mapping[str, Any], checkpoint: Path | None = None) -> Result:
    """Trains, from a checkpoint if one is given.

    Args:
        config: complete, from `dbp.config.validate`.
        checkpoint: the one to resume; in a cluster's job that is started again, None finds the last one.
    """
    dry = config["trainer"].get("fast_dev_run")
    claimed = nullcontext((None, checkpoint)) if dry else folder.claimed(config, checkpoint)
    with messages.quietly(), _without_denormals():
        require_posix()
        _say_kernels()
        task, data = build_task(config), _data(config)
        with claimed as (place, start):
            start = _readable(start, config)
            if config["init_from"] and not start:
                initialise(task, config["init_from"])
            trainer = _trainer(config, place, start)
            with (
                errors.in_short(place and place / ERROR),
                messages.in_users_words(),  # twice: a loader may die while the inner one is at work
                _held(place, config, trainer),
                messages.in_users_words(),
                messages.scores_kept(place),
                messages.one_message(trainer),
                messages.changed_keys_named(start, config),
            ):
                trainer.fit(task, datamodule=data, ckpt_path=start and str(start), weights_only=True)
    metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if not k.endswith("_step")}
    last = next(iter(folder.checkpoints_in(place)), None) if place else None
    return Result(place, metrics, getattr(trainer.checkpoint_callback, "best_model_path", None), last)


def _readable(start: Path | None, config: Mapping[str, Any]) -> Path | None:
    """The checkpoint to resume, read by torch once before anything depends on it; if it was not named, or else another.

    Damage to what torch alone reads of the archive's directory passes the check that needs no torch.
    """
    if start is None or config["ckpt_path"] not in (None, "last"):
        return start
    return folder.last_in(start.parent.parent if start.parent.name == "checkpoints" else start.parent, _fault_in)


def _fault_in(path: Path) -> str | None:
    if fault := fault_in(path):
        return fault
    try:
        AtomicCheckpointIO().load_checkpoint(path)
    except UserError as error:
        return str(error)
    return None


def evaluate(stage: str, config: Mapping[str, Any], checkpoint: Path) -> Result:
    """Validates or tests a checkpoint; the metrics of a test join the line of its epoch in the run's metrics.csv."""
    with messages.quietly():
        _say_kernels()
        checkpoint = _readable(checkpoint, config) or checkpoint
        place = folder.folder_of(checkpoint)
        pictures = SavedPictures(place or checkpoint.parent)
        trainer = _trainer(config, None, more=[pictures])
        task, data = build_task(config), _data(config)
        found = getattr(trainer, stage)(
            task, datamodule=data, ckpt_path=str(checkpoint), weights_only=True, verbose=False
        )
    metrics = {name: value for results in found for name, value in results.items()}
    if stage == "test" and place and trainer.is_global_zero:
        _record(place / loggers.FILE, checkpoint, metrics)
    return Result(place, metrics, pictures=pictures.paths)


def predict(config: Mapping[str, Any], checkpoint: Path) -> Result:
    """Writes the results of the task's `predict_step` for every test example to the `.npz` file `config["output"]`."""
    with messages.quietly():
        _say_kernels()
        trainer = _trainer(config, None)
        if trainer.world_size > 1:
            raise UserError("predict runs on one device: give trainer.devices=1")
        checkpoint = _readable(checkpoint, config) or checkpoint
        task, data = build_task(config), _data(config)
        batches = trainer.predict(task, datamodule=data, ckpt_path=str(checkpoint), weights_only=True) or []
    arrays: dict[str, Any] = {name: torch.cat([batch[name] for batch in batches]).cpu().numpy() for name in batches[0]}
    with replacing(config["output"]) as path, path.open("wb") as file:
        np.savez(file, **arrays)  # numbers alone; numpy 1 takes `allow_pickle=False` for an array
    return Result()


@rank_zero_only
def _say_kernels() -> None:
    log.info("kernels: %s", loader.status())


def load(path: str | os.PathLike[str], trust: Iterable[type | str] = ()) -> Task:
    """The trained task in a checkpoint, in eval mode on the CPU.

    Only plain data and tensors are read, and only registered components are built: a checkpoint cannot run code.

    Args:
        path: the checkpoint.
        trust: classes of your own that it may name too, themselves or as "module:Class".

    Raises:
        UserError: the file is no checkpoint of dbp, or names a class that is neither registered nor trusted.
    """
    trusted = [entry if isinstance(entry, str) else f"{entry.__module__}:{entry.__qualname__}" for entry in trust]
    path = Path(path)
    verify(path)
    base, held = config_in(path), read_plain(path).get("hyper_parameters")
    held = held if isinstance(held, dict) else {}
    if not base and not held.keys() & {"task", *hparams.PARTS}:
        raise UserError(f"{path} was not written by dbp: it holds no configuration")
    base = {key: value for key, value in base.items() if key != "data"}
    task = build_task(over({}, base, trusted)) if base else hparams.build(held, Task, trust=trusted)
    with messages.in_users_words():
        task.load_state_dict(AtomicCheckpointIO().load_checkpoint(path)["state_dict"])
    return task.eval()


def build_task(config: Mapping[str, Any]) -> Task:
    """The task with its solver, estimator, optimizer and scheduler; the initial weights depend on `seed` alone."""
    if config["seed"] is not None:
        seed_all(config["seed"])
    parts = {kind: catalog.build(kind, config[kind]) for kind in hparams.PARTS}
    task = catalog.build("task", config["task"], **parts)
    task.save_hyperparameters({kind: config[kind] for kind in ("task", *hparams.PARTS)})
    return task


def _data(config: Mapping[str, Any]) -> pl.LightningDataModule:
    spec = dict(config["data"])
    if "seed" in catalog["data"].signature(spec["name"]).options:
        spec.setdefault("seed", config["seed"] or 0)
    return catalog.build("data", spec)


def _trainer(
    config: Mapping[str, Any], place: Path | None, start: Path | None = None, more: Sequence[pl.Callback] = ()
) -> pl.Trainer:
    if config["trainer"].get("val_check_interval") in (0, "0"):
        raise UserError(
            "trainer.val_check_interval=0: give a number of batches; trainer.limit_val_batches=0 means none"
        )
    found = [*_callbacks(config, place, start), *more]
    bars = any(isinstance(callback, pl.callbacks.ProgressBar) for callback in found)
    options = {"enable_progress_bar": bars or sys.stdout.isatty(), "enable_model_summary": False, **config["trainer"]}
    if options["enable_progress_bar"] and not bars:
        found.append(ProgressBar())
    plugins = options.pop("plugins", None) or []
    fixed: dict[str, Any] = {
        "logger": _loggers(config, place, start) if place else False,
        "callbacks": found,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in found),
        "use_distributed_sampler": False,
        "plugins": [AtomicCheckpointIO(place), *(plugins if isinstance(plugins, list) else [plugins])],
    }
    if place:  # SLURM's checkpoints go to this folder and are looked for there: never one that runs share
        fixed["default_root_dir"] = str(place)
    try:
        return pl.Trainer(**{**options, **fixed})
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise UserError(f"trainer: {error}") from error


def _callbacks(config: Mapping[str, Any], place: Path | None, start: Path | None) -> list[pl.Callback]:
    found: list[pl.Callback] = []
    if config["seed"] is not None:
        found.append(KeyedRandomness(config["seed"]))
    if place is None:
        return found
    names = ", ".join(f"{kind} {config[kind]['name']}" for kind in ("task", "estimator", "solver"))
    found += [Finite(names, skip=config["on_nonfinite"] == "skip"), DeadGradient(config["estimator"])]
    found += [Header(carried(config)), SameBatches(), OneMessage(place)]
    old = config_in(start) if start else {}
    if old and old["optimizer"] != config["optimizer"]:
        found.append(ChangedOptimizer(old["optimizer"], config["optimizer"]))
    if old:
        found.append(Ended(old["callbacks"], config["callbacks"]))
    for name in sorted(config["callbacks"], key=lambda name: name == "last"):  # last.ckpt knows what the others did
        check_filename(config["callbacks"][name].get("filename"), f"callbacks.{name}.filename")
        found.append(catalog.build("callback", {**config["callbacks"][name], "name": name}))
    folder = (place / "checkpoints").absolute()
    found.append(OwnPaths(folder))
    for callback in found:
        if isinstance(callback, ModelCheckpoint | Last):
            callback.dirpath = str(folder)
        if isinstance(callback, Best) and config["ckpt_path"] not in (None, "last"):
            callback.kept = start and start.absolute()
    return [*found, StopOnSignal(folder / "last.ckpt")]


def _loggers(config: Mapping[str, Any], place: Path, start: Path | None) -> list[Any]:
    row = read_plain(start).get(KEY, {}).get("row") if start else None
    known = {"save_dir": str(place.parent), "name": "", "version": place.name, "row": row}
    progress_bar = config["trainer"].get("enable_progress_bar", sys.stdout.isatty())
    found: list[Any] = [] if progress_bar else [loggers.EpochLines()]
    for name, options in config["loggers"].items():
        taken = signature(catalog["logger"].claim(name).path)
        extra = {key: value for key, value in known.items() if taken and key in taken.options}
        found.append(catalog.build("logger", {**options, "name": name}, **extra))
    return found


def _record(path: Path, checkpoint: Path, metrics: dict[str, float]) -> None:
    header, rows = read_plain(checkpoint), loggers.read_rows(path)
    epoch, step = min(header["epoch"], max(rows, default=header["epoch"])), header["global_step"] - 1
    loggers.write_rows(path, {**rows, epoch: {"epoch": epoch, "step": step, **rows.get(epoch, {}), **metrics}})


@contextmanager
def _held(place: Path | None, config: Mapping[str, Any], trainer: pl.Trainer) -> Iterator[None]:
    """The run's folder, if it has one: for this run alone, with its configuration, and for all of its processes."""
    with ExitStack() as stack:
        if place:
            stack.enter_context(folder.handed_down(place))
        if place and trainer.is_global_zero:
            stack.enter_context(locked(place))
            folder.save_config(place, config)
            (place / ERROR).unlink(missing_ok=True)
        yield


@contextmanager
def _without_denormals() -> Iterator[None]:
    """Adam's averages decay into denormals, which made steps on a CPU 1.7 times as long: numbers as small are zero."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
