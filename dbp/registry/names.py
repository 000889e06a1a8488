"""The registry of one kind of component: names for classes, imported lazily; ambiguous names are errors.

A *name* is a registered one (`imle`) or an import path (`package.module:Class`). Registered names come from

1. the built-ins, a table of "module:Class" strings in `components.py`; these names are reserved,
2. `Registry.register`, a decorator for notebooks, scripts and tests,
3. entry points of installed distributions, in the registry's group.
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

from dbp.errors import UserError
from dbp.registry.signature import Signature, signature, signature_of_class
from dbp.registry.source import LAZY

C = TypeVar("C", bound=type)
BUILTIN = "built in"
IMPORT_PATH = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """ " Did you mean 'imle'?", or nothing."""
    close = difflib.get_close_matches(str(word), list(known), n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


@dataclass(frozen=True)
class Claim:
    """A claim of a name: its "module:Class", and the source that registers it."""

    name: str
    value: str
    source: str
    cls: type | None = None

    @property
    def path(self) -> str:
        return self.value.replace(":", ".")

    def load(self) -> Any:
        if self.cls is not None:
            return self.cls
        module, _, names = self.value.partition(":")
        found = import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
        return found


class Registry:
    """Classes of one kind, by name.

    Args:
        kind: the word for one of them.
        plural: its plural; the entry-point group is `dbp.<plural>`.
        base: "module:Class" of their common base class, or None.
        builtins: name to "module:Class".
        hidden: parameters of their constructors that are not options.
        sparse: if true, a complete configuration has only the options that are set (for classes of other projects).
        factory: "module:Class" of the factory that is built, `factory(cls, **options)`; its own options join them.
        packages: the optional package that a built-in needs, by the built-in's name.
        former: names that built-ins once had, each with a sentence that says what to write instead.
    """

    def __init__(
        self,
        kind: str,
        plural: str,
        base: str | None,
        builtins: Mapping[str, str],
        hidden: Iterable[str] = (),
        sparse: bool = False,
        factory: str | None = None,
        packages: Mapping[str, str] | None = None,
        former: Mapping[str, str] | None = None,
    ) -> None:
        self.kind, self.plural, self.base, self.group = kind, plural, base, f"dbp.{plural}"
        self.hidden, self.sparse = frozenset(hidden), sparse
        self.factory = Claim("", factory, BUILTIN) if factory else None
        self._builtins, self._local = dict(builtins), dict[str, Claim]()
        self._packages, self.former = dict(packages or {}), dict(former or {})
        inside = [value for value in builtins.values() if value.startswith(f"{self.group}.")]
        self._classes = {value.partition(":")[2]: Claim("", value, BUILTIN) for value in inside}
        LAZY.setdefault(self.group, {}).update({name: claim.path for name, claim in self._classes.items()})

    @cached_property
    def _plugins(self) -> list[Claim]:
        from importlib.metadata import entry_points  # an eighth of the time that a command takes to start

        points = entry_points(group=self.group)
        owners = [f"{p.dist.name} {p.dist.version}" if p.dist else "an unknown distribution" for p in points]
        return list(dict.fromkeys(Claim(p.name, p.value, o) for p, o in zip(points, owners, strict=True)))

    def claims(self) -> dict[str, list[Claim]]:
        """Every claim of every name, the effective one first; imports nothing."""
        table = {name: [Claim(name, value, BUILTIN)] for name, value in self._builtins.items()}
        for claim in [*self._local.values(), *self._plugins]:
            table.setdefault(claim.name, []).append(claim)
        return dict(sorted(table.items()))

    def claim(self, name: str) -> Claim:
        """Finds the claim of `name`; imports nothing.

        Raises:
            UserError: the name is unknown, former, or claimed by two plugins.
        """
        if ":" in name:
            if not IMPORT_PATH.fullmatch(name):
                raise UserError(f"{self.kind} {name!r}: write a class of your own as 'module:Class'")
            return Claim(name, name, "import path")
        if name in self._builtins:  # a reserved name
            return Claim(name, self._builtins[name], BUILTIN)
        claims = self.claims().get(name, [])
        if not claims and name in self.former:
            raise UserError(f"the {self.kind} {name!r} is gone: {self.former[name]}")
        if not claims:
            raise UserError(
                f"unknown {self.kind} {name!r}.{did_you_mean(name, self.claims())}\n"
                f"  known: {', '.join(self.claims())}\n"
                f"  packages add names by entry points in {self.group!r}; write a class of your own as 'module:Class'"
            )
        if len(claims) > 1:
            raise UserError(
                f"the {self.kind} name {name!r} is claimed {len(claims)} times:\n"
                + "".join(f"  {c.value} from {c.source}\n" for c in claims)
                + f"  uninstall all but one, or choose one: {self.kind}: {{name: '{claims[-1].value}'}}"
            )
        return claims[0]

    def lacks(self, name: str) -> str | None:
        """The optional package that a built-in needs and that is not installed; imports nothing."""
        package = self._packages.get(name)
        return package if package and find_spec(package) is None else None

    def require(self, name: str) -> Claim:
        """Finds the claim of `name` and checks that the package it needs is installed; imports nothing.

        Raises:
            UserError: the package is missing, or as for `claim`.
        """
        claim = self.claim(name)
        if package := self.lacks(name):
            raise UserError(f"the {self.kind} {name!r} needs the package {package}: pip install {package}")
        return claim

    def get(self, name: str) -> type:
        """The class; imports the module that defines it.

        Raises:
            UserError: it cannot be imported, or is not a class of this kind.
        """
        claim = self.require(name)
        what = self._describe(claim)
        try:
            cls = claim.load()
        except Exception as error:  # a plugin may raise anything when it is imported
            raise UserError(f"{what} cannot be imported:\n  {type(error).__name__}: {error}") from error
        base = Claim("", self.base, "").load() if self.base else object
        if not (inspect.isclass(cls) and issubclass(cls, base)):
            raise UserError(f"{what} is {cls!r}, not a subclass of {base.__module__}.{base.__qualname__}")
        return cls

    def signature(self, name: str) -> Signature:
        """The options of a name, read from source code where there is any, else from the imported class."""
        claim = self.claim(name)
        found = signature(claim.path) if claim.cls is None else None
        found = found or signature_of_class(self.get(name))
        own = (self.factory and signature(self.factory.path)) or Signature()
        options = {**found.options, **{key: option for key, option in own.options.items() if key != "cls"}}
        shown = {key: option for key, option in options.items() if key not in self.hidden}
        return Signature(shown, found.open, found.doc)

    def register(self, name: str) -> Callable[[C], C]:
        """A decorator, `@estimators.register("mine")`, for classes that no installed distribution provides."""

        def add(cls: C) -> C:
            claim = Claim(name, f"{cls.__module__}:{cls.__qualname__}", "register()", cls)
            taken = [
                c for c in self.claims().get(name, []) if c.value != claim.value
            ]  # a notebook's cell may run again
            if taken:
                raise UserError(f"the {self.kind} name {name!r} is taken by {taken[0].value} ({taken[0].source})")
            self._local[name] = claim
            return cls

        return add

    def lazy(self, *own: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
        """`__getattr__, __dir__, __all__` of the package `dbp.<plural>`: it imports a built-in class on first use.

        Args:
            own: the names that the package defines or imports itself.
        """
        names = sorted({*own, *self._classes})

        def load(name: str) -> Any:
            if name not in self._classes:
                raise AttributeError(f"module {self.group!r} has no attribute {name!r}.{did_you_mean(name, names)}")
            cls = self._classes[name].load()
            setattr(sys.modules[self.group], name, cls)  # so that it is found without this function
            return cls

        return load, lambda: list(names), names

    def _describe(self, claim: Claim) -> str:
        whence = "" if ":" in claim.name else f" ({claim.value}, {claim.source})"
        return f"{self.kind} {claim.name!r}{whence}"
