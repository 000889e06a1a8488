"""Hyperparameters: a task as the names and options that build it again, plain data for loggers and checkpoints."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from dbp.components import catalog
from dbp.config import over
from dbp.core import Estimator, Noise, Solver
from dbp.errors import UserError
from dbp.tasks.factories import OptimizerFactory, SchedulerFactory

PARTS = ("solver", "estimator", "optimizer", "scheduler")
FACTORIES = {"optimizer": OptimizerFactory, "scheduler": SchedulerFactory}
_BASES = {**FACTORIES, "solver": Solver, "estimator": Estimator, "noise": Noise, "network": nn.Module}


class Unsayable(Exception):
    """Raised for an object that no name and options describe: a function, a tensor, a class inside a function."""


def described(task: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a task made with these arguments, without the parts that no configuration can express."""
    given = inspect.signature(type(task).__init__).bind_partial(task, *arguments, **keywords).arguments
    given |= given.pop("training", {})
    said = {}
    for kind in ("task", *(kind for kind in PARTS if given.get(kind) is not None)):
        try:
            said[kind] = _spec(kind, type(task), given.get) if kind == "task" else component(kind, given[kind])
        except (Unsayable, UserError):  # `build` names the missing parts
            continue
    return said


def build(hparams: Mapping[str, Any], cls: Any, changes: Mapping[str, Any] = {}, trust: Iterable[str] = ()) -> Any:
    """The task that hyperparameters describe, with `changes`: parts as objects, or options of the task.

    Raises:
        UserError: they do not describe a task of this class, or name code that is no registered component.
    """
    given = {key: value for key, value in hparams.items() if key in ("task", *PARTS) and key not in changes}
    own = f"{cls.__module__}:{cls.__qualname__}"
    lacking = [kind for kind in ("task", "solver", "estimator") if kind not in given and kind not in changes]
    if lacking:
        raise UserError(
            f"the checkpoint does not say its {', '.join(lacking)}: give load_from_checkpoint(path, "
            f"{', '.join(f'{kind}=...' for kind in lacking if kind != 'task') or 'and its arguments'})"
        )
    config = over({}, given, [own, *trust])
    parts = {kind: catalog.build(kind, changes.get(kind, config[kind])) for kind in PARTS}
    options = {key: value for key, value in changes.items() if key not in PARTS}
    built = catalog.build("task", {**config["task"], **options}, **parts)
    if not isinstance(built, cls):
        raise UserError(f"the checkpoint is of a {type(built).__name__}, not of a {cls.__name__}")
    built.save_hyperparameters({kind: config[kind] for kind in given})
    return built


def component(kind: str, value: Any) -> Any:
    """Describes a component by the attributes named like its options, a factory by its arguments."""
    if kind in FACTORIES:
        cls, options = value.described_by()
        return {"name": _name(kind, cls), **{key: _plain(option) for key, option in options.items()}}
    return _spec(kind, type(value), lambda option, default: getattr(value, option, default))


def _spec(kind: str, cls: type, value_of: Callable[[str, Any], Any]) -> dict[str, Any]:
    name, spec = _name(kind, cls), dict[str, Any]()
    for option, declared in catalog[kind].signature(name).options.items():
        value = value_of(option, Unsayable)
        if value is Unsayable and (kind != "task" or declared.default is None):
            raise Unsayable(option)
        if value is not Unsayable:
            spec[option] = _plain(value)
    return catalog.complete(kind, {"name": name, **spec})


def _name(kind: str, cls: Any) -> str:
    path = f"{cls.__module__}.{cls.__qualname__}"
    return catalog.name_of(kind, path) or f"{cls.__module__}:{cls.__qualname__}"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Tensor) and not value.ndim:  # an option that is state, as a buffer
        return float(str(value.detach().cpu().numpy()))  # the shortest text of its precision: 0.7
    kind = next((kind for kind, cls in _BASES.items() if isinstance(value, cls)), None)
    if kind is None:
        raise Unsayable(type(value).__name__)
    return component(kind, value)
