"""Finds definitions in source code (AST) by dotted path, without importing: checking an option needs no torch."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

Node = ast.ClassDef | ast.FunctionDef | ast.expr
LAZY: dict[str, dict[str, str]] = {}  # package to the names that it imports when they are asked for, with their paths
OPAQUE = {
    "torch",
    "numpy",
    *sys.stdlib_module_names,
}  # large, and not needed: no annotation refers to a type alias there


@dataclass(frozen=True)
class Definition:
    """The definition of a name, and its module, in which names inside the definition are looked up."""

    module: str
    node: Node


@cache
def file_of(module: str) -> Path | None:
    """The source file of a module; unlike importlib.util.find_spec this does not import its parents."""
    parent, _, _ = module.rpartition(".")
    if parent and ((package := file_of(parent)) is None or package.name != "__init__.py"):
        return None
    path = [str(file_of(parent).parent)] if parent else None  # type: ignore[union-attr]
    for finder in sys.meta_path:
        spec = finder.find_spec(module, path) if hasattr(finder, "find_spec") else None
        if spec and spec.origin and spec.origin.endswith(".py"):
            return Path(spec.origin)
    return None


@cache
def names_in(module: str) -> dict[str, Node | str]:
    """Top-level names of a module: a definition, or the dotted path that it is imported from."""
    file = file_of(module)
    if file is None:
        return {}
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    found: dict[str, Node | str] = {**LAZY.get(module, {})}
    for statement in _top_level(ast.parse(file.read_bytes()).body):
        found.update(_bound(statement, package))
    return found


def _top_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try):
            for branch in (statement.orelse, getattr(statement, "finalbody", []), statement.body):
                yield from _top_level(branch)


def _bound(statement: ast.stmt, package: str) -> Mapping[str, Node | str]:
    match statement:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return {name: statement}
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return {name: value}
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return {name: value}
        case ast.Import(names=imported):
            whole = {a.name.partition(".")[0]: a.name.partition(".")[0] for a in imported if not a.asname}
            return whole | {a.asname: a.name for a in imported if a.asname}
        case ast.ImportFrom(module=origin, names=imported, level=level):
            parents = package.split(".")[: package.count(".") + 2 - level] if level else []
            start = ".".join([*parents, *filter(None, [origin])])
            return {a.asname or a.name: f"{start}.{a.name}" for a in imported}
    return {}


def absolute(module: str, name: str) -> str:
    """The dotted path of `name` (dots allowed) as code in `module` means it."""
    first, dot, rest = name.partition(".")
    bound = names_in(module).get(first)
    start = bound if isinstance(bound, str) else f"{module}.{first}" if bound is not None else first
    return start + dot + rest


def aliases(path: str) -> Iterator[str]:
    """`path`, then where it is imported from, and so on to the definition."""
    seen: set[str] = set()
    while path not in seen:
        seen.add(path)
        yield path
        module, _, name = path.rpartition(".")
        if not module:
            return
        bound = names_in(module).get(name)
        path = bound if isinstance(bound, str) else path


def definition(path: str) -> Definition | None:
    """The class, function or assigned expression at a dotted path, through any number of re-imports."""
    *_, last = aliases(path)
    module, _, name = last.rpartition(".")
    node = names_in(module).get(name) if module else None
    return None if node is None or isinstance(node, str) else Definition(module, node)


def dotted(node: ast.AST | None) -> str | None:
    """`a.b.c` for the expression a.b.c."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{start}.{attr}" if (start := dotted(value)) else None
    return None


def bases(cls: Definition) -> list[str]:
    """Dotted paths of the base classes (`Generic[T]` counts as `Generic`)."""
    assert isinstance(cls.node, ast.ClassDef)
    plain = (dotted(b.value if isinstance(b, ast.Subscript) else b) for b in cls.node.bases)
    return [absolute(cls.module, name) for name in plain if name]


def lineage(path: str) -> Iterator[str]:
    """Every name of a class and of its ancestors, nearest first; it ends where torch's own code begins."""
    if path.partition(".")[0] in OPAQUE:
        yield path
        return
    yield from aliases(path)
    found = definition(path)
    if found and isinstance(found.node, ast.ClassDef):
        for base in bases(found):
            yield from lineage(base)
