"""Constructor signatures read from source code (AST): names, types that a config can express, defaults."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from dbp.registry.source import OPAQUE, Definition, absolute, bases, definition, dotted

PLAIN = {"bool", "int", "float", "str", "list", "tuple", "dict"}
FORMS = {"List": "list", "Sequence": "list", "Iterable": "list", "Tuple": "tuple", "Dict": "dict", "Mapping": "dict"}


@dataclass(frozen=True)
class Type:
    """An annotation.

    `form` is bool, int, float, str, path, none, any, list, tuple, dict, literal, union, or class (`args` has its name).
    """

    form: str
    args: tuple[Any, ...] = ()

    def __str__(self) -> str:
        match self.form:
            case "union":
                return " or ".join(map(str, self.args))
            case "literal":
                return f"one of {', '.join(map(repr, self.args))}"
            case "class":
                return self.args[0].rpartition(".")[2]
            case "none":
                return "null"
        return self.form + (f"[{', '.join(map(str, self.args))}]" if self.args else "")


ANY, NONE = Type("any"), Type("none")


@dataclass(frozen=True)
class Option:
    """A parameter of a constructor. `default` is source code and the module to read it in, or None if required."""

    name: str
    type: Type
    default: Definition | None = None

    def narrowed(self, type_: Type) -> Option:
        """The same option with a stricter type."""
        return replace(self, type=type_)

    def __str__(self) -> str:
        default = ast.unparse(self.default.node) if self.default else None
        return f"{self.name}: {self.type}" + (f" = {default}" if default else " (required)")


@dataclass(frozen=True)
class Signature:
    """The options of a class; `open` if it takes more than it names (`**kwargs`)."""

    options: dict[str, Option] = field(default_factory=dict)
    open: bool = False
    doc: str = ""


@cache
def signature(path: str) -> Signature | None:
    """The signature of the class at a dotted path; None if its class statement cannot be found."""
    found = definition(path)
    if found is None or not isinstance(found.node, ast.ClassDef):
        return None
    doc = ast.get_docstring(found.node) or ""
    body = {s.name: s for s in found.node.body if isinstance(s, ast.FunctionDef)}
    if "__init__" in body:
        return _of_function(body["__init__"].args, found, doc)
    inherited = _inherited(found)
    if _is_dataclass(found.node):
        return Signature(inherited.options | _fields(found), inherited.open, doc)
    return Signature(inherited.options, inherited.open, doc)


def signature_of_class(cls: type) -> Signature:
    """The signature of a class in memory, for classes without a source file."""
    options = {}
    for p in list(inspect.signature(cls).parameters.values()):
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            default = None if p.default is p.empty else Definition(type(p.default).__module__, _parse(repr(p.default)))
            options[p.name] = Option(p.name, _of_object(p.annotation, cls.__module__), default)
    has_more = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(cls).parameters.values())
    return Signature(options, has_more, inspect.getdoc(cls) or "")


def _of_object(annotation: Any, module: str) -> Type:
    if annotation is inspect.Parameter.empty:
        return ANY
    return read_type(
        _parse(annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)), module
    )


def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:  # "<function f at 0x...>": a value that a config cannot express
        return ast.Name("object")


def _inherited(cls: Definition) -> Signature:
    return next(filter(None, map(signature, bases(cls))), Signature())


def _of_function(args: ast.arguments, cls: Definition, doc: str) -> Signature:
    positional = [*args.posonlyargs, *args.args][1:]
    defaults = [None] * (len(positional) - len(args.defaults)) + args.defaults[-len(positional) or None :]
    rows = [*zip(positional, defaults, strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    options = {arg.arg: _option(arg.arg, arg.annotation, default, cls.module) for arg, default in rows}
    if args.kwarg is None:
        return Signature(options, False, doc)
    inherited = _inherited(cls)  # **options are handed on to the base class
    return Signature(inherited.options | options, inherited.open or not inherited.options, doc)


def _option(name: str, annotation: ast.expr | None, default: ast.expr | None, module: str) -> Option:
    type_ = read_type(annotation, module) if annotation else ANY
    if isinstance(default, ast.Constant) and default.value is None:
        type_ = _union([type_, NONE])  # "x: float = None" means it too
    return Option(name, type_, Definition(module, default) if default else None)


def _is_dataclass(node: ast.ClassDef) -> bool:
    names = (dotted(d.func if isinstance(d, ast.Call) else d) or "" for d in node.decorator_list)
    return any(name.rpartition(".")[2] == "dataclass" for name in names)


def _fields(cls: Definition) -> dict[str, Option]:
    assert isinstance(cls.node, ast.ClassDef)
    found = {}
    for statement in cls.node.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value):
                keywords = _field_keywords(value)
                if "ClassVar" not in ast.unparse(annotation) and not _is(keywords.get("init"), False):
                    found[name] = _option(name, annotation, _field_default(value, keywords), cls.module)
    return found


def _field_keywords(value: ast.expr | None) -> dict[str, ast.expr]:
    if isinstance(value, ast.Call) and (dotted(value.func) or "").rpartition(".")[2] == "field":
        return {k.arg: k.value for k in value.keywords if k.arg}
    return {}


def _field_default(value: ast.expr | None, keywords: dict[str, ast.expr]) -> ast.expr | None:
    if not keywords:
        return value
    factory = keywords.get("default_factory")
    if isinstance(factory, ast.Lambda):
        return factory.body
    return ast.Call(factory, [], []) if factory else keywords.get("default")


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def read_type(node: ast.expr, module: str) -> Type:
    """The type of an annotation in `module`; a type that a config cannot express is a class, or any."""
    match node:
        case ast.Constant(value=None):
            return NONE
        case ast.Constant(value=str(text)):
            return read_type(_parse(text), module)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _union([read_type(left, module), read_type(right, module)])
        case ast.Subscript(value=value, slice=inner):
            return _generic((dotted(value) or "").rpartition(".")[2], inner, module)
        case ast.Name() | ast.Attribute():
            return _named(dotted(node) or "", module)
    return ANY


def _generic(name: str, inner: ast.expr, module: str) -> Type:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    name = FORMS.get(name, name)
    match name:
        case "Literal":
            return Type("literal", tuple(ast.literal_eval(p) for p in parts))
        case "Optional":
            return _union([read_type(inner, module), NONE])
        case "Union":
            return _union(read_type(p, module) for p in parts)
        case "Annotated" | "Final":
            return read_type(parts[0], module)
        case "PathLike":
            return Type("path")
        case "list" | "tuple" | "dict":
            return Type(name, tuple(read_type(p, module) for p in parts if not _is(p, ...)))
    return ANY


def _named(name: str, module: str) -> Type:
    tail = name.rpartition(".")[2]
    if name in PLAIN or tail in FORMS:
        return Type(FORMS.get(tail, name))
    path = absolute(module, name)
    if path in ("pathlib.Path", "os.PathLike"):
        return Type("path")
    if path in ("typing.Any", "object"):
        return ANY
    found = None if path.partition(".")[0] in OPAQUE else definition(path)
    if found and isinstance(found.node, ast.expr):
        return read_type(found.node, found.module)
    return Type("class", (path,))


def _union(types: Iterable[Type]) -> Type:
    flat = [part for t in types for part in (t.args if t.form == "union" else (t,))]
    words = tuple(word for t in flat if t.form == "literal" for word in t.args)
    rest = [t for t in flat if t.form not in ("literal", "none")]
    if Type("path") in rest:  # `str | Path` is a path that may be written as text
        rest = [t for t in rest if t != Type("str")]
    unique = dict.fromkeys([*rest, *([Type("literal", words)] if words else []), *([NONE] if NONE in flat else [])])
    return next(iter(unique)) if len(unique) == 1 else Type("union", tuple(unique))
