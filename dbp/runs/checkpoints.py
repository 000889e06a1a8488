"""Checkpoint headers and integrity, read without torch and without running any code that a file names."""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dbp.config import changes
from dbp.errors import UserError

KEY = "dbp"
ANEW = "to start another run from the weights: init_from=FILE run=NAME"


class _Inert(dict[Any, Any]):
    """Stands for every object of a checkpoint that is not plain data: accepts any construction and holds nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return OrderedDict if (module, name) == ("collections", "OrderedDict") else _Inert

    def persistent_load(self, pid: Any) -> None:
        return None  # the contents of a tensor


def read_plain(path: Path) -> dict[str, Any]:
    """A checkpoint's plain data; tensors and other objects are empty stand-ins.

    Raises:
        UserError: the file is no checkpoint, or is damaged.
    """
    with _opened(path) as archive:
        return _plain(archive)


def verify(path: Path) -> None:
    """Reads the whole file against the checksums that torch writes into it.

    Raises:
        UserError: the file is no checkpoint, or is damaged.
    """
    with _opened(path) as archive:
        for record in archive.infolist():
            if record.external_attr & 0x10:  # a folder to torch, which would leave its tensor as the memory was
                raise ValueError(f"{record.filename} is marked as a folder")
        if broken := archive.testzip():
            raise ValueError(f"the checksum of {broken} is wrong")
        if lacking := {"state_dict", "pytorch-lightning_version"} - _plain(archive).keys():
            raise ValueError(f"it has no {', no '.join(sorted(lacking))}")


def _plain(archive: zipfile.ZipFile) -> dict[str, Any]:
    name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
    data = archive.read(name)
    for opcode, argument, _ in pickletools.genops(data):
        # torch writes protocol 2, and numbers what it refers back to; a huge number would take as much memory.
        if opcode.proto > 2 or (opcode.name == "LONG_BINPUT" and (argument or 0) > len(data)):
            raise ValueError(f"{name} holds what torch does not write: {opcode.name}")
    found = _PlainUnpickler(io.BytesIO(data)).load()
    return found if isinstance(found, dict) else {}


def fault_in(path: Path) -> str | None:
    """Why no run can resume from this file; None if one can."""
    if not path.is_file():
        return "a link to nothing, or no regular file"
    try:
        verify(path)
        lacking = {"state_dict", "optimizer_states", "loops"} - read_plain(path).keys()
    except UserError as error:
        return str(error.__cause__)
    return f"it has no {', no '.join(sorted(lacking))}" if lacking else None


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                if record.file_size != record.compress_size:  # torch stores; this could be a bomb
                    raise ValueError(f"{record.filename} is compressed")
            yield archive
    except Exception as error:  # damaged files raise nearly anything
        what = f"{type(error).__name__}: {error}"
        raise UserError(f"ckpt_path={path}: no checkpoint, or a damaged one ({what})") from error


def config_in(path: Path) -> dict[str, Any]:
    """The configuration of the run that wrote a checkpoint; empty if dbp did not write it."""
    header = read_plain(path).get(KEY, {})
    config = header.get("config", {}) if isinstance(header, dict) else {}
    return config if isinstance(config, dict) else {}


def check_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Checks that the configuration of a checkpoint may become `new` when it is resumed.

    Raises:
        UserError: another optimizer or schedule, or changed options of a schedule, which its state would undo.
    """
    for key in ("optimizer", "scheduler"):
        before, after = (config.get(key) or {} for config in (old, new))
        if before.get("name") != after.get("name"):
            state = f"{before.get('name')}, which {after.get('name')} cannot resume"
            raise UserError(f"{key}: the checkpoint holds the state of {state}\n  {ANEW}")
        if key == "scheduler" and (lines := changes(before, after, "scheduler.")):
            raise UserError(f"{lines[0]}: a schedule cannot change within a run\n  give the old value; {ANEW}")


def best_in(path: Path) -> Path | None:
    """The best checkpoint according to the one at `path`, in the folder that it now lies in.

    It is that one itself if the run ended within its first epoch, and None if the run keeps no best one.
    """
    states = [state for state in read_plain(path).get("callbacks", {}).values() if isinstance(state, dict)]
    names = [Path(state.get("best_model_path") or "").name for state in states if state.get("monitor")]
    return path.parent / next(filter(None, names), path.name) if names else None
