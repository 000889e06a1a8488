"""Experiments that ship with dbp, by name: `--config dvae/digits` in any folder."""

from __future__ import annotations

import os
from pathlib import Path

from dbp.errors import UserError
from dbp.registry.listing import rows
from dbp.registry.names import did_you_mean

_PACKAGE = Path(__file__).parents[1]
_SHIPPED = _PACKAGE / "configs"  # in a wheel
FOLDER = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parent / "configs"  # of a clone


def experiments() -> dict[str, Path]:
    """Every name, as dvae/digits, with its file."""
    return {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in sorted(FOLDER.glob("*/*.yaml"))}


def find(name: str) -> str:
    """The file that `--config` names: one that exists, else the experiment of that name, with or without `.yaml`.

    Raises:
        UserError: there is neither.
    """
    if os.path.exists(name) and not os.path.isdir(name):
        return name
    known, stem = experiments(), name.removesuffix(".yaml").removesuffix(".yml")
    path = known.get(stem)
    if path is None:
        near = [str(p) for p in Path(name).parent.glob("*.y*ml")] if "\0" not in name else []
        hint = did_you_mean(name, near) or did_you_mean(stem.removeprefix("configs/"), known)
        raise UserError(f"--config {name}: no such file or experiment.{hint}\n  dbp list config shows all experiments")
    return str(path)


def listing(name: str | None = None) -> str:
    """A line for each experiment, the first comment of its file; or all of one's file.

    Raises:
        UserError: there is none of that name.
    """
    if name:
        file = find(name)
        return f"# {file}\n{Path(file).read_text(encoding='utf-8').rstrip()}"
    return "configs  (--config NAME)\n" + rows((each, _first_comment(path)) for each, path in experiments().items())


def _first_comment(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return next((line.lstrip("# ").rstrip() for line in file if line.startswith("#")), "")
