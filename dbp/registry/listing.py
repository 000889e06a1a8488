"""Text for terminals: listings of components, their docstrings, tables; lines have at most 80 characters."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator

from dbp.errors import UserError
from dbp.registry.names import BUILTIN, Claim, Registry

WIDTH = 80
SOURCE_WIDTH = 120  # of lines in docstrings


def wrap(text: str, indent: str = "", more: str | None = None) -> str:
    """`text` in lines of at most 80 characters, words whole; the first line after `indent`, others after `more`."""
    more = indent if more is None else more
    return textwrap.fill(
        text, WIDTH, initial_indent=indent, subsequent_indent=more, break_long_words=False, break_on_hyphens=False
    )


def rows(table: Iterable[tuple[str, str]], indent: str = "  ") -> str:
    """Two columns; the second is wrapped."""
    table = list(table)
    width = max(len(name) for name, _ in table) + 2
    return "\n".join(wrap(text, f"{indent}{name:<{width}}", " " * (len(indent) + width)) for name, text in table)


def reflow(doc: str) -> str:
    """A docstring in lines of at most 80 characters.

    Lines that end where the source has no more room are joined with the next; equations and lists keep their lines.
    """
    return "\n".join(line if len(line) <= WIDTH else _wrapped(line, more) for line, more in _joined(doc.splitlines()))


def _wrapped(line: str, more: str) -> str:
    indent = _indent(line)
    if len(equations := re.split(r"(?<=\S)\s{2,}(?=\S)", line.strip())) > 1:
        return "\n".join(wrap(equation, indent, indent + "    ") for equation in equations)
    return wrap(line.strip(), indent, indent + "    " if indent == more and re.match(r"\s+\w+: ", line) else more)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _joined(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Each line that the source broke, in one piece, with the indent of what continues it."""
    rest = list(lines)
    while rest:
        last = line = rest.pop(0)
        more = _indent(line)
        while rest and rest[0].strip() and _is_full(last, rest[0]):
            last = rest.pop(0)
            more = _indent(last)
            line += " " + last.strip()
        yield line, more


def _is_full(line: str, following: str) -> bool:
    """True if the next line's first word did not fit into this line of the source, which has four more spaces."""
    return bool(line.strip()) and 4 + len(line) + 1 + len(following.split()[0]) > SOURCE_WIDTH


def describe(registry: Registry, name: str) -> str:
    """A component's docstring and options."""
    claim, signature = registry.claim(name), registry.signature(name)
    options = [wrap(str(option), "  ", "      ") for option in signature.options.values()] or ["  none"]
    doc = reflow(signature.doc) or "(no docstring)"
    head = wrap(f"{registry.kind} {name}  ({claim.value}, {claim.source})", "", "  ")
    return "\n".join([head, "", doc, "", "options:", *options])


def show(registry: Registry, check: bool, more: str = "") -> tuple[str, int]:
    """The components of a kind, a line each, and how many of them fail to import, if that is to be checked."""
    claims = registry.claims()
    lines, failures = [f"{registry.plural}  (entry points: {registry.group}{more})"], 0
    name_width = max(map(len, claims), default=0)
    source_width = max((len(claim.source) for same in claims.values() for claim in same), default=0)
    for name, same in claims.items():
        for claim in same:
            lines.append(f"  {name:<{name_width}} {claim.source:<{source_width}} {claim.value}{_clash(claim, same)}")
        lacking = registry.lacks(name)
        if lacking:
            lines.append(f"    needs: pip install {lacking}")
        try:
            if check and not lacking:
                registry.get(name)
        except UserError as error:
            failures += 1
            lines.append(textwrap.indent(str(error), "    "))
    return "\n".join(lines), failures


def _clash(claim: Claim, claims: list[Claim]) -> str:
    if len(claims) == 1 or claim.source == BUILTIN:
        return ""
    return "  ignored: a built-in name" if claims[0].source == BUILTIN else f"  claimed {len(claims)} times"
