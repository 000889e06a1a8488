"""The configuration of a run: its keys, how layers merge, how it is validated. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dbp.components import catalog as shipped
from dbp.errors import UserError
from dbp.registry import experiments
from dbp.registry.catalog import Catalog, merge
from dbp.registry.names import IMPORT_PATH
from dbp.registry.paths import paths_in, paths_of
from dbp.registry.signature import NONE, Signature, Type, signature
from dbp.registry.words import Keys, resolve, unresolved


@dataclass(frozen=True)
class Key:
    """A top-level key: its help text, its default, and the kind of component that it names (one, or many by name)."""

    help: str
    kind: str | None = None
    many: bool = False
    default: Any = None
    required: bool = False
    form: str = "str"
    choices: tuple[str, ...] = ()


KEYS = {
    "task": Key("the model and its losses: a name, or {name: NAME, OPTION: VALUE, ...}", "task", required=True),
    "solver": Key("the discrete function inside; likewise", "solver", required=True),
    "estimator": Key("the stand-in for its derivative; likewise", "estimator", required=True),
    "data": Key("the data set; likewise; data.seed follows seed", "data", required=True),
    "optimizer": Key("likewise", "optimizer", default={"name": "adam", "lr": 1e-3}),
    "scheduler": Key("the schedule of the learning rate; likewise, or null", "scheduler"),
    "trainer": Key("arguments of pytorch_lightning.Trainer", default={}),
    "callbacks": Key("{NAME: options}; null removes one", "callback", True, {"best": {}, "last": {}, "pictures": {}}),
    "loggers": Key("{NAME: options}; null removes one", "logger", True, {"csv": {}, "tensorboard": {}}),
    "on_nonfinite": Key(
        "raise, or skip the step, when a score, loss or gradient is NaN or infinite",
        default="raise",
        choices=("raise", "skip"),
    ),
    "run": Key("folder under lightning_logs (default: job_<id> on a cluster, otherwise version_<n>)"),
    "seed": Key("of all randomness; null for runs that need not repeat", default=0, form="int"),
    "ckpt_path": Key("checkpoint to resume from or to evaluate: a file, or last or best of the run's folder"),
    "init_from": Key("weights that a new run starts from: FILE, or FILE#PREFIX[,PREFIX ...] for a part of them"),
    "output": Key("the .npz file that predict writes"),
}
TEXT = [name for name, key in KEYS.items() if key.form == "str" and not key.kind and name != "trainer"]
WORDS = Keys(KEYS, TEXT, flags=("--config", "--print_config"))
OWNED = {
    "callbacks": "a key of its own, next to trainer",
    "logger": "set by the key loggers, next to trainer",
    "enable_checkpointing": "set by callbacks.best and callbacks.last (null: none)",
    "use_distributed_sampler": "always false: the data divides itself among processes",
}
WHERE_TO = ("default_root_dir", "model_registry")  # options of the trainer
ACCELERATORS = Type("literal", ("auto", "cpu", "gpu", "cuda", "mps", "tpu", "hpu"))


def read_file(path: str) -> dict[str, Any]:
    """A YAML file, or an experiment by name, as plain data with interpolations (`${...}`) unresolved."""
    path = experiments.find(path)
    try:
        loaded = OmegaConf.load(path)
    except (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError, RecursionError) as error:
        raise UserError(f"--config {path}: {' '.join(str(error).split())}") from error
    layer: Any = OmegaConf.to_container(loaded)
    if not isinstance(layer, dict):
        raise UserError(f"--config {path}: expected a mapping at the top level, got a {type(layer).__name__}")
    for key in layer:
        WORDS.check(key, f"--config {path}")
    return layer


def read(files: Sequence[str], overrides: Sequence[str]) -> dict[str, Any]:
    """The files in order, then the overrides in order, merged: what the command line gives.

    Raises:
        UserError: a file or a word that cannot be read, or an unknown key.
    """
    given: dict[str, Any] = {}
    for layer in map(read_file, files):
        given = merge(given, layer)
    return WORDS.read(overrides, over=given)


def over(
    given: Mapping[str, Any], base: Mapping[str, Any] | None = None, trusted: Collection[str] = ()
) -> dict[str, Any]:
    """Defaults < `base` (a checkpoint's configuration) < what was given; not yet validated.

    Raises:
        UserError: an import path (`module:Class`) that only `base` names, and that is not among those `trusted`.
    """
    config = {name: key.default for name, key in KEYS.items()}
    if base:
        config = {**config, **carried(base)}
        for path in sorted(import_paths(config) - import_paths(given) - set(trusted)):
            _refuse(path, merge(config, given))
        _refuse_paths(paths(config), merge(config, given), given)
    return merge(config, given)


def compose(files: Sequence[str], overrides: Sequence[str], base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Defaults < `base` < files in order < overrides in order; not yet validated. See `read` and `over`."""
    return over(read(files, overrides), base)


def _refuse(path: str, config: Mapping[str, Any]) -> None:
    if path in import_paths(config):
        raise UserError(
            f"the checkpoint names {path!r}, which is no registered component: code that only a file names is not run\n"
            f"  if you trust it, name it on the command line, in a --config, or as dbp.load(path, trust=[{path!r}])"
        )


def _refuse_paths(found: Mapping[tuple[str, ...], str], config: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    for keys, path in found.items():
        if _at(config, keys) == path and _at(given, keys) is None:
            name = ".".join(keys)
            raise UserError(
                f"the checkpoint names the path {name}={path}: where a run reads and writes is for you to say\n"
                f"  give {name}=PATH yourself, on the command line or in a --config"
            )


def _at(config: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        config = config.get(key) if isinstance(config, Mapping) else config[int(key)] if _has(config, key) else None
    return config


def _has(config: Any, index: str) -> bool:
    return isinstance(config, list) and index.isdigit() and int(index) < len(config)


def paths(config: Mapping[str, Any], catalog: Catalog = shipped) -> dict[tuple[str, ...], str]:
    """The options of a complete configuration that say where a run reads or writes, by their keys."""
    found: dict[tuple[str, ...], str] = {}
    for name, key in KEYS.items():
        value = config.get(name)
        if name == "trainer" and isinstance(value, Mapping):
            found |= {(name, *keys): path for keys, path in paths_of(catalog, _trainer_options(), value)}
        elif key.many and isinstance(value, Mapping):
            for component, options in value.items():
                spec = {**(options if isinstance(options, Mapping) else {}), "name": component}
                found |= {(name, component, *keys): path for keys, path in paths_in(catalog, key.kind or "", spec)}
        elif key.kind:
            found |= {(name, *keys): path for keys, path in paths_in(catalog, key.kind, value)}
    return found


def import_paths(config: Any) -> set[str]:
    """Every string in a configuration, key or value, that is `module:Class` or that an interpolation may make one."""
    if isinstance(config, str):
        return {config} if IMPORT_PATH.fullmatch(config) or "${" in config else set()
    parts = [*config, *config.values()] if isinstance(config, Mapping) else config if isinstance(config, list) else []
    return set().union(*map(import_paths, parts))


def located(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that locate a run, resolved before the rest of the configuration is known."""
    root = "trainer.default_root_dir"
    try:
        loose = OmegaConf.create(dict(config))
        found = {name: OmegaConf.select(loose, name) for name in ("run", "ckpt_path", root)}
    except (OmegaConfBaseException, RecursionError) as error:
        raise unresolved(error) from error
    return {
        **{name: None if v is None else str(v) for name, v in found.items()},
        "trainer": {"default_root_dir": found[root]},
    }


def validate(config: Mapping[str, Any], catalog: Catalog = shipped) -> dict[str, Any]:
    """The complete configuration as plain data: components found, options converted, interpolations resolved.

    Raises:
        UserError: the first mistake.
    """
    missing = [name for name, key in KEYS.items() if key.required and config.get(name) in (None, "???")]
    if missing:
        raise UserError(f"no {', no '.join(missing)}: give a --config that has it, or {missing[0]}=NAME")
    complete = {name: _complete(name, key, config[name], catalog) for name, key in KEYS.items()}
    plain = resolve(complete)  # with the defaults, so that ${data.batch_size} finds one
    for name, key in KEYS.items():
        if plain[name] != complete[name]:  # an interpolation, which passed unchecked
            plain[name] = _complete(name, key, plain[name], catalog)
    if not _mentions_seed(config["data"]):
        plain["data"].pop("seed", None)  # it follows `seed`, in this run and in those made from its configuration
    return plain


def _mentions_seed(data: Any) -> bool:
    return isinstance(data, Mapping) and "seed" in data


def _complete(name: str, key: Key, value: Any, catalog: Catalog) -> Any:
    if name == "trainer":
        return _trainer(value, catalog)
    if key.kind and key.many:
        return _many(name, key.kind, value, catalog)
    if key.kind:
        return None if value is None and not key.required else catalog.complete(key.kind, value, name)
    form = Type("literal", key.choices) if key.choices else Type("union", (Type(key.form), NONE))
    return catalog.convert(value, form, name)


def _many(name: str, kind: str, value: Any, catalog: Catalog) -> dict[str, Any]:
    value = {} if value is None else value
    if not isinstance(value, Mapping) or isinstance(value.get("name"), str):
        raise UserError(
            f"{name}: expected a mapping of names to options ({{{next(iter(catalog[kind].claims()))}: {{}}}})"
        )
    found = {}
    for component, options in value.items():
        if options is not None and options is not False:
            given = {} if options is True else options
            if not isinstance(given, Mapping):
                raise UserError(f"{name}.{component}: expected a mapping of options, or null, got {options!r}")
            full = catalog.complete(kind, {**given, "name": component}, f"{name}.{component}")
            found[component] = {option: v for option, v in full.items() if option != "name"}
    return found


def _trainer(value: Any, catalog: Catalog) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"trainer: expected a mapping, got {value!r}")
    for option in value:
        if option in OWNED:
            raise UserError(f"trainer.{option}: {option} is {OWNED[option]}")
    return catalog.check(_trainer_options(), value, "trainer", "pytorch_lightning.Trainer", sparse=True)


def _trainer_options() -> Signature:
    arguments = signature("pytorch_lightning.trainer.trainer.Trainer")
    assert arguments is not None
    options = {k: o for k, o in arguments.options.items() if k not in OWNED}
    options["accelerator"] = options["accelerator"].narrowed(ACCELERATORS)
    return Signature(options)


def carried(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that a different run may inherit: all but its name, sources and destinations."""
    kept = {key: value for key, value in config.items() if key not in ("run", "ckpt_path", "output")}
    if isinstance(trainer := kept.get("trainer"), Mapping):
        kept["trainer"] = {key: value for key, value in trainer.items() if key not in WHERE_TO}
    return kept


def changes(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> list[str]:
    """The differences, a line each, as `optimizer.lr: 0.001 -> 0.25`. Ignores top-level keys that `old` lacks."""
    found = []
    for key in sorted({**old, **new}) if where else [key for key in KEYS if key in old and key in new]:
        before, after, name = old.get(key), new.get(key), f"{where}{key}"
        if isinstance(before, Mapping) and isinstance(after, Mapping) and before.get("name") == after.get("name"):
            found += changes(before, after, f"{name}.")
        elif before != after:
            found.append(f"{name}: {_said(before)} -> {_said(after)}")
    return found


def _said(value: Any) -> str:
    if isinstance(value, Mapping) and "name" in value:
        return value["name"]
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).splitlines()[0]


def to_yaml(config: Mapping[str, Any]) -> str:
    """The text of a configuration file that is read back as the same configuration."""
    removed = {
        name: {default: None for default in key.default if default not in config[name]} | config[name]
        for name, key in KEYS.items()
        if key.many and name in config
    }
    return OmegaConf.to_yaml(OmegaConf.create({**config, **removed}))
