"""Options that are paths: declared by the type `Path` or, where a class declares nothing, by a value that is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from dbp.errors import UserError
from dbp.registry.catalog import Catalog
from dbp.registry.signature import ANY, Signature, Type

PLACES = ("tracking_uri", "artifact_location", "space_id")  # of trackers: texts that say where a run writes
INSIDE = ("filename", "sub_dir")  # relative to the run's folder, and so no place of its own
PATH = Type("path")
Found = tuple[tuple[str, ...], str]  # the keys down to an option, and its value


def paths_in(catalog: Catalog, kind: str, spec: Any) -> Iterator[Found]:
    """The options of a component that say where to read or write, nested ones too, but for those at their default."""
    if not (isinstance(spec, Mapping) and isinstance(spec.get("name"), str)):
        return
    try:
        signature = catalog[kind].signature(spec["name"])
    except UserError:  # an unknown component, which is refused where it is built, if nothing replaces it
        return
    yield from paths_of(catalog, signature, spec)


def paths_of(catalog: Catalog, signature: Signature, given: Mapping[str, Any]) -> Iterator[Found]:
    """The same for options of one class."""
    for key, value in given.items():
        option = signature.options.get(key)
        if option is None or value != catalog.default(option):
            type_ = PATH if key in PLACES and isinstance(value, str) else option.type if option else ANY
            for keys, path in _within(catalog, value, type_, key in INSIDE):
                yield (key, *keys), path


def _within(catalog: Catalog, value: Any, type_: Type, inside: bool = False) -> Iterator[Found]:
    parts = type_.args if type_.form == "union" else (type_,)
    if isinstance(value, str) and ((any(part.form == "path" for part in parts) and not inside) or _leads_away(value)):
        yield (), value
    elif isinstance(value, Mapping):
        kinds = [kind for part in parts if part.form == "class" and (kind := catalog.kind_of(part.args[0]))]
        yield from paths_in(catalog, kinds[0], value) if kinds else paths_of(catalog, Signature(), value)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from (((str(index), *keys), path) for keys, path in _within(catalog, item, ANY))


def _leads_away(text: str) -> bool:
    """True if text is a path that leads out of the current folder, or an address."""
    return text.startswith(("/", "~")) or "://" in text or ".." in PurePath(text).parts
