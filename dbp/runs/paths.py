"""Path containment: a run writes and removes checkpoints in its own folder alone, whatever a checkpoint says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from dbp.errors import UserError

PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")  # of the state of a ModelCheckpoint


def inside(path: str | Path, folder: Path) -> bool:
    """True if `path` lies below `folder`, links and `..` resolved; the last part itself may be a link."""
    path = Path(path)
    return path.name not in ("", "..") and (path.parent.resolve() / path.name).is_relative_to(folder.resolve())


def remove(path: str | Path) -> None:
    """Removes a checkpoint: a file, a link (never what it points to), or the folder of a sharded one."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_filename(filename: str | None, where: str) -> None:
    """Refuses a template for names of checkpoints that leads out of their folder.

    Raises:
        UserError: names the option.
    """
    if filename and (Path(filename).is_absolute() or ".." in Path(filename).parts):
        raise UserError(f"{where}={filename}: checkpoints stay in the run's folder: give a relative path without '..'")


class OwnPaths(Callback):
    """Limits the paths in the restored state of `ModelCheckpoint` callbacks to the run's checkpoints folder.

    A path to another folder becomes the file of that name in this one (the run's folder was moved), or is dropped if
    there is none: the checkpoint is of another run, or a stranger's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        for key, state in checkpoint.get("callbacks", {}).items():
            if isinstance(state, dict) and not state.keys().isdisjoint(PATHS):
                checkpoint["callbacks"][key] = self._own(state)

    def _own(self, state: dict[str, Any]) -> dict[str, Any]:
        models = {self._path(path): score for path, score in dict(state.get("best_k_models", {})).items()}
        paths = {name: self._path(state.get(name)) for name in PATHS}
        return {**state, **paths, "best_k_models": {k: v for k, v in models.items() if k}, "dirpath": str(self.folder)}

    def _path(self, path: Any) -> str:
        if not isinstance(path, str) or not path or inside(path, self.folder):
            return path if isinstance(path, str) else ""
        moved = self.folder / Path(path).name
        return str(moved) if moved.is_file() else ""
