"""All registries: completes nested mappings of names and options, and builds the objects that they describe.

An option is itself a component if its annotation is a kind's base class: `noise: Noise | None` takes a name, a
mapping `{name: ..., options}` or null.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from dbp.errors import UserError
from dbp.registry.names import BUILTIN, Registry, did_you_mean
from dbp.registry.signature import NONE, Option, Signature, Type, signature
from dbp.registry.source import Definition, absolute, aliases, definition, dotted, lineage

UNSAID = object()  # a default that a configuration cannot express; the constructor fills it in
PYTHON: dict[str, type | tuple[type, ...]] = {"bool": bool, "int": int, "float": float, "str": str, "path": str}
CONTAINERS: dict[str, type | tuple[type, ...]] = {"list": (list, tuple), "tuple": (list, tuple), "dict": Mapping}


def merge(old: Any, new: Any) -> Any:
    """`new` over `old`, key by key; a component that is given a different name loses its old options."""
    if isinstance(old, Mapping) and "name" in old and isinstance(new, str):
        new = {"name": new}
    if isinstance(old, str) and isinstance(new, Mapping) and "name" not in new:
        old = {"name": old}
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new
    if "name" in old and "name" in new and old["name"] != new["name"]:
        return dict(new)
    return {**old, **{key: merge(old.get(key), value) for key, value in new.items()}}


class Catalog(dict[str, Registry]):
    """Registries by kind."""

    def __init__(self, *registries: Registry) -> None:
        super().__init__({registry.kind: registry for registry in registries})

    def kind_of(self, path: str) -> str | None:
        """The kind of the class at a dotted path: that of its nearest ancestor that is the base of a kind."""
        kinds = {alias: r.kind for r in self.values() if r.base for alias in _aliases_of(r.base.replace(":", "."))}
        return next((kinds[name] for name in lineage(path) if name in kinds), None)

    def complete(self, kind: str, spec: Any, where: str | None = None) -> dict[str, Any]:
        """Checks `"imle"` or `{"name": "imle", "lam": 3}` and returns a mapping of the name and every option.

        Text that holds an interpolation (`${...}`) passes unchecked: complete it again once it is resolved.

        Raises:
            UserError: an unknown name or option, a value of the wrong type, or a required option not given.
        """
        registry, where = self[kind], where or kind
        if isinstance(spec, str):
            spec = {"name": spec}
        if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
            some = next(iter(registry.claims()), "module:Class")
            raise UserError(f"{where}: expected a name ({some}) or a mapping ({{name: {some}, ...}}), got {spec!r}")
        name = spec["name"]
        if "${" in name:
            return dict(spec)
        claim = registry.claim(name)
        if registry.base and claim.source != BUILTIN and self.kind_of(claim.path) != kind:
            registry.get(name)  # its source does not show its base class: import it to decide
        given = {key: value for key, value in spec.items() if key != "name"}
        full = self.check(registry.signature(name), given, where, f"{kind} {name!r}", registry.sparse)
        return {"name": name, **full}

    def check(
        self, signature: Signature, given: Mapping[str, Any], where: str, what: str, sparse: bool = False
    ) -> dict[str, Any]:
        """The options of one class: the given ones, converted to their types, and the defaults unless `sparse`."""
        options, full = signature.options, dict[str, Any]()
        for key in given:
            if key not in options and not signature.open:
                listing = ", ".join(map(str, options.values())) or "none"
                hint = did_you_mean(key, options) + (f"\n  options: {listing}" if len(options) <= 12 else "")
                raise UserError(f"{where}: {what} has no option {key!r}.{hint}")
        for key, option in options.items():
            default = self.default(option)
            if key in given:
                value = merge(default, given[key]) if isinstance(default, Mapping) else given[key]
                full[key] = self.convert(value, option.type, f"{where}.{key}")
            elif option.default is None:
                raise UserError(f"{where}: {what} needs {key}")
            elif not sparse and default is not UNSAID:
                full[key] = self.convert(default, option.type, f"{where}.{key}")
        return full | {key: value for key, value in given.items() if key not in options}

    def build(self, kind: str, spec: Any, **extra: Any) -> Any:
        """Builds the object that a name or a mapping describes, with nested components; an object is returned as it is.

        Args:
            kind: "solver", "estimator", "noise", "network", "task", "data", "optimizer", "scheduler", ...
            spec: a name, a mapping of "name" and options, or an object of the kind.
            extra: further arguments of the constructor, passed on unchanged.

        Raises:
            UserError: as for `complete`, or if the class cannot be imported or refuses its options.
        """
        registry = self[kind]
        if not isinstance(spec, str | Mapping):
            return spec
        spec = self.complete(kind, spec)
        cls, options = registry.get(spec["name"]), registry.signature(spec["name"]).options
        arguments = {k: self._build(v, options[k].type) if k in options else v for k, v in spec.items() if k != "name"}
        if registry.factory:
            return registry.factory.load()(cls, **arguments, **extra)
        try:
            return cls(**arguments, **extra)
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"{kind} {spec['name']!r}: {error}") from error

    def _build(self, value: Any, type_: Type) -> Any:
        """A checked value in the form that the constructor takes: components built, tuples as tuples."""
        parts = type_.args if type_.form == "union" else (type_,)
        kinds = [kind for part in parts if part.form == "class" and (kind := self.kind_of(part.args[0]))]
        if kinds and isinstance(value, Mapping):
            return self.build(kinds[0], value)
        part = next((part for part in parts if part.form in CONTAINERS and _fits(value, part)), None)
        if part is None:
            return value
        if part.form == "dict":
            return {key: self._build(item, _item(part)) for key, item in value.items()}
        items = [self._build(item, _item(part, i)) for i, item in enumerate(value)]
        return tuple(items) if part.form == "tuple" else items

    def default(self, option: Option) -> Any:
        """Plain data for an option's default; UNSAID if there is none that a configuration can express."""
        return self._said(option.default, option.type) if option.default else UNSAID

    def _said(self, default: Definition, type_: Type) -> Any:
        """Plain data for a default's source code: a literal, a constant of its module, or a registered component."""
        node = default.node
        try:
            value = ast.literal_eval(node)
            return list(value) if isinstance(value, tuple) else value
        except (ValueError, TypeError):
            pass
        if isinstance(node, ast.Call) and (name := dotted(node.func)):
            return self._component(absolute(default.module, name), node, type_)
        found = definition(absolute(default.module, name)) if (name := dotted(node)) else None
        return self._said(found, type_) if found and isinstance(found.node, ast.expr) else UNSAID

    def _component(self, path: str, call: ast.Call, type_: Type) -> Any:
        kind, parameters = self.kind_of(path), signature(path)
        if kind is None or parameters is None or (name := self.name_of(kind, path)) is None:
            return UNSAID
        keywords = [*zip(parameters.options, call.args, strict=False), *((k.arg, k.value) for k in call.keywords)]
        try:
            return {"name": name, **{key: ast.literal_eval(value) for key, value in keywords if key}}
        except ValueError:
            return UNSAID

    def name_of(self, kind: str, path: str) -> str | None:
        """The registered name of the class at a dotted path, if it has one."""
        where = set(aliases(path))
        claims = (claims[0] for claims in self[kind].claims().values())
        return next((c.name for c in claims if where & set(aliases(c.path))), None)

    def convert(self, value: Any, type_: Type, where: str) -> Any:
        """Converts `value` to a type; leaves text that holds an interpolation, and values without a type, unchanged."""
        if isinstance(value, str) and "${" in value:
            return value
        parts = [part for part in (type_.args if type_.form == "union" else (type_,)) if self._expressible(part)]
        if not parts or any(part.form == "any" for part in parts):
            return value
        for part in sorted(parts, key=lambda part: not _fits(value, part)):  # an exact type before a conversion
            if (converted := self._as(value, part, where)) is not UNSAID:
                return converted
        hint = did_you_mean(value, [w for p in parts if p.form == "literal" for w in p.args if isinstance(w, str)])
        raise UserError(f"{where}: expected {Type('union', tuple(parts))}, got {value!r}.{hint}".removesuffix("."))

    def _expressible(self, type_: Type) -> bool:
        return type_.form != "class" or self.kind_of(type_.args[0]) is not None

    def _as(self, value: Any, type_: Type, where: str) -> Any:
        """`value` converted to the type, or UNSAID if it does not fit."""
        match type_.form, value:
            case "class", str() | Mapping():
                return self.complete(self.kind_of(type_.args[0]) or "", value, where)
            case "literal", _:
                return next((w for w in type_.args if w == value and type(w) is type(value)), UNSAID)
            case "int", float() if value.is_integer():
                return int(value)
            case "float", int() if not isinstance(value, bool):
                return float(value)
            case "str" | "path", int() | float() if not isinstance(value, bool):
                return str(value)
            case "dict", Mapping():
                return {key: self.convert(item, _item(type_), f"{where}.{key}") for key, item in value.items()}
            case "list" | "tuple", list() | tuple():
                return [self.convert(item, _item(type_, i), f"{where}[{i}]") for i, item in enumerate(value)]
        return value if _fits(value, type_) else UNSAID


def _fits(value: Any, type_: Type) -> bool:
    if type_ == NONE:
        return value is None
    if isinstance(value, bool):
        return type_.form == "bool"
    return isinstance(value, {**PYTHON, **CONTAINERS}.get(type_.form, ()))


def _item(type_: Type, index: int = 0) -> Type:
    """The type of a container's item: of a dict's values, of a tuple's position, of a list's every item."""
    if not type_.args:
        return Type("any")
    if type_.form == "tuple" and len(type_.args) > index:
        return type_.args[index]
    return type_.args[-1]


def _aliases_of(path: str) -> list[str]:
    return [path] if path.startswith("torch.") else list(aliases(path))
