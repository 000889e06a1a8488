"""Initial weights from another run's checkpoint: `init_from=FILE`, or a part of them, `init_from=FILE#encoder`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from dbp.errors import UserError
from dbp.registry import did_you_mean
from dbp.runs.checkpoints import verify
from dbp.runs.saving import AtomicCheckpointIO

log = logging.getLogger(__name__)
ESTIMATOR = "estimator."  # its state is of one kind of estimator, and a new run may have a different one


def initialise(task: nn.Module, init_from: str) -> None:
    """Loads weights into a task; optimizer, schedule, epoch and randomness are those of a new run.

    Without a prefix all weights must fit. The state of the estimator is loaded if it fits as a whole, and is left as it
    is otherwise. With prefixes (names of modules or of single tensors), only what they name is loaded.

    Raises:
        UserError: no such file, or names or shapes do not fit.
    """
    path, prefixes = _parsed(init_from)
    if not path.is_file():
        raise UserError(f"init_from={path}: no such file")
    try:
        verify(path)
    except UserError as error:
        raise UserError(str(error).replace("ckpt_path=", "init_from=", 1)) from error
    given, own = AtomicCheckpointIO().load_checkpoint(path)["state_dict"], task.state_dict()
    if prefixes:
        chosen = _of(prefixes, given, f"init_from={init_from}")
        _check({name: own[name] for name in _of(prefixes, own, "the task")}, chosen, path)
    else:
        chosen = _without_estimator(given, own, path)
    task.load_state_dict({**own, **chosen})
    log.info("weights from %s: %d of %d tensors", path, len(chosen), len(own))


def _parsed(init_from: str) -> tuple[Path, list[str]]:
    name, hash_, prefixes = init_from.rpartition("#")
    if not hash_ or Path(init_from).is_file():
        return Path(init_from), []
    return Path(name), [prefix for prefix in prefixes.split(",") if prefix]


def _of(prefixes: list[str], state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    for prefix in prefixes:
        if not any(_below(name, [prefix]) for name in state):
            modules = sorted({name.split(".")[0] for name in state})
            hint = did_you_mean(prefix, modules) or f" There are: {', '.join(modules)}."
            raise UserError(f"{where}: no weights are called {prefix!r}.{hint}".removesuffix("."))
    return {name: value for name, value in state.items() if _below(name, prefixes)}


def _below(name: str, prefixes: list[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix.removesuffix('.')}.") for prefix in prefixes)


def _without_estimator(given: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """All that is given; the estimator's part only where it fits."""
    theirs, ours = ({k: v.shape for k, v in state.items() if k.startswith(ESTIMATOR)} for state in (given, own))
    fits = theirs == ours
    rest = {name: value for name, value in given.items() if fits or not name.startswith(ESTIMATOR)}
    _check({name: value for name, value in own.items() if fits or not name.startswith(ESTIMATOR)}, rest, path)
    return rest


def _check(own: Mapping[str, Tensor], given: Mapping[str, Tensor], path: Path) -> None:
    names = [name for name in sorted({*own, *given}) if _shape(own, name) != _shape(given, name)]
    if names:
        said = [f"{name} is {_shape(given, name)} there and {_shape(own, name)} here" for name in names[:2]]
        more = [f"and {len(names) - 2} more"] if len(names) > 2 else []
        parts = ", ".join(sorted({name.split(".")[0] for name in own}))
        raise UserError(
            f"init_from={path}: its weights do not fit: {'; '.join([*said, *more])}\n"
            f"  give the options of its task, or choose a part: init_from={path}#PREFIX (of {parts})"
        )


def _shape(state: Mapping[str, Tensor], name: str) -> str:
    return str(list(state[name].shape)) if name in state else "missing"
