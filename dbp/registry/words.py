"""Command-line words: `KEY=VALUE` as layers of a configuration, by the same rules for every command."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dbp.errors import UserError
from dbp.registry.catalog import merge
from dbp.registry.names import did_you_mean

UNSET = re.compile(r"Environment variable '(\w+)' not found")


@dataclass(frozen=True)
class Keys:
    """The top-level keys of a command.

    Args:
        names: all of them.
        text: those whose values are plain text (paths, names of runs) instead of YAML.
        flags: options of the command's parser, offered when a misspelt word begins with two dashes.
    """

    names: Collection[str]
    text: Collection[str] = ()
    flags: Collection[str] = ()

    def check(self, key: object, where: str, flag: bool = False) -> None:
        """Raises a UserError that says `where` unless `key` is one of them."""
        if key not in self.names:
            hint = did_you_mean(key, self.names) or (did_you_mean(f"--{key}", self.flags) if flag else "")
            raise UserError(f"{where}: there is no key {key!r}.{hint}\n  keys (KEY=VALUE): {', '.join(self.names)}")

    def read(self, words: Sequence[str], over: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The words merged in order over a mapping; names of components come first (see `layers`)."""
        found = dict(over or {})
        for layer in self.layers(words):
            found = merge(found, layer)
        return found

    def layers(self, words: Sequence[str]) -> list[Any]:
        """One nested mapping a word; `a.b=1`, `--a.b=1` and `--a.b 1` mean the same.

        Names of components come first, the outer before the inner, wherever they were written: a name drops the
        options of a different one.

        Raises:
            UserError: an unknown key, or a word that cannot be read.
        """
        rest, found = list(words), []
        while rest:
            word = rest.pop(0)
            text = word.removeprefix("--")
            if word.startswith("--") and "=" not in word and rest and not rest[0].startswith("--"):
                text += f"={rest.pop(0)}"
            found.append(self._layer(word, *text.partition("=")))  # the first "=" only, as in epoch=0.ckpt
        return [layer for _, layer in sorted(found, key=lambda pair: pair[0])]

    def _layer(self, word: str, name: str, equals: str, text: str) -> tuple[float, Any]:
        """The mapping that a word stands for, and how deep the component lies that it names, if it names one."""
        keys = _split(name)
        self.check(keys[0], repr(word), word.startswith("--"))
        if not equals or "" in keys:
            raise UserError(f"{word!r}: an override is written {keys[0]}=VALUE or {keys[0]}.option=VALUE")
        value = text if name in self.text and text != "null" else _value(text, word)
        named = isinstance(value, str) or (isinstance(value, dict) and "name" in value)
        depth = len(keys) - (keys[-1] == "name") if named else math.inf  # a null after options still removes them
        for key in reversed(keys):
            value = {key: value}
        return depth, value


def _split(name: str) -> list[str]:
    """`callbacks.my.module:Class.option` is three keys: the dots before a colon belong to the module."""
    first, _, rest = name.partition(".")
    module, colon, inner = rest.partition(":")
    if not colon:
        return name.split(".")
    last, *options = inner.split(".")
    return [first, f"{module}:{last}", *options]


def _value(text: str, word: str) -> Any:
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]  # type: ignore[index, call-overload]
    except Exception as error:  # OmegaConf lets through what its YAML and interpolation grammars raise
        raise UserError(f"{word!r}: {' '.join(str(error).split())}") from error


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data, with every interpolation (`${...}`) replaced by its value.

    Raises:
        UserError: the key that one stands at, and why it has no value.
    """
    try:
        found: Any = OmegaConf.to_container(OmegaConf.create(dict(config)), resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        raise unresolved(error) from error
    return found


def unresolved(error: Exception) -> UserError:
    """OmegaConf's error in one line."""
    key, text = getattr(error, "full_key", None), str(error).splitlines()[0]
    if found := UNSET.search(text):
        where = " (a job of SLURM has it)" if found[1].startswith("SLURM") else ""
        text = f"the environment variable {found[1]} is not set{where}"
    return UserError(f"{key}: {text}" if key else text)
