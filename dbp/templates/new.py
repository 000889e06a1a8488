"""The command `dbp new plugin NAME`: writes a package with one working component, to be edited."""

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from string import Template

from dbp.components import catalog
from dbp.errors import UserError
from dbp.registry import did_you_mean

_TEMPLATES = Path(__file__).parent


@dataclass(frozen=True)
class Kind:
    """The words of a package's texts that depend on the kind of its component."""

    article: str
    usage: str


KINDS = {
    "estimator": Kind("An", "python -m dbp audit estimator=$entry\n"
                            "python -m dbp fit task=slots solver=one_hot estimator=$entry data=slots"),
    "solver": Kind("A", "python -m dbp audit solver=$entry\n"
                        "python -m dbp fit task=slots solver=$entry estimator=identity data=slots"),
    "noise": Kind("A", "python -m dbp fit task=slots solver=one_hot estimator=imle estimator.noise=$entry data=slots"),
    "task": Kind("A", "python -m dbp fit task=$entry solver=one_hot estimator=identity data=slots"),
    "data": Kind("A", "python -m dbp fit task=slots solver=one_hot estimator=identity data=$entry"),
}  # fmt: skip


def new_plugin(name: str, kind: str, folder: str | Path | None = None) -> Path:
    """Writes a package with a component of a kind, and returns its folder.

    It holds pyproject.toml with the entry point, the module, its tests, README.md and a workflow for continuous
    integration. The tests pass as they are.

    Args:
        name: of the distribution, lower-case words joined by dashes, as dbp-mine; its module is dbp_mine, and the
            component's name is mine.
        kind: estimator, solver, noise, task or data.
        folder: the folder to write to, new or empty; by default the name, in the current folder.

    Raises:
        UserError: the name is malformed or taken, the kind is unknown, or the folder is not empty.
    """
    if kind not in KINDS:
        raise UserError(f"new: unknown kind {kind!r}.{did_you_mean(kind, KINDS)}\n  kinds: {', '.join(KINDS)}")
    words = _words(name, kind)
    texts = {path: _fill(template, words) for path, template in _files(kind, words["module"]).items()}
    root = Path(folder) if folder is not None else Path(words["distribution"])
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"new: {root} exists, and nothing is overwritten: choose a different name or folder")
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return root


def _files(kind: str, module: str) -> dict[str, str]:
    """The template of each file."""
    return {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        ".gitignore": "gitignore",
        ".github/workflows/test.yml": "test.yml",
        f"src/{module}.py": f"{kind}.py",
        f"tests/test_{module}.py": f"test_{kind}.py",
    }


def _fill(template: str, words: Mapping[str, str]) -> str:
    text = (_TEMPLATES / f"{template}.in").read_text(encoding="utf-8")
    if template.endswith(".py") and re.search(rf"\b{words['Class']}\b", text):
        raise UserError(f"new: {words['Class']} has a different meaning in the module: choose a different name")
    return Template(text).substitute(words)


def _words(name: str, kind: str) -> dict[str, str]:
    """The values of the placeholders."""
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name):
        raise UserError(f"new: {name!r} is not a valid name: use lower-case words joined by dashes, as dbp-mine")
    module = name.replace("-", "_")
    entry = module.removeprefix("dbp_")
    if not entry.isidentifier() or keyword.iskeyword(entry) or keyword.iskeyword(module):
        raise UserError(f"new: {name!r}: {entry!r} cannot be a name in Python: choose a different one")
    if find_spec(module) is not None:
        raise UserError(f"new: there is a module {module!r} already: choose a different name, as dbp-{entry}")
    if entry in catalog[kind].claims():
        source = catalog[kind].claims()[entry][0].source
        raise UserError(
            f"new: the {kind} name {entry!r} is taken ({source}): choose a different one, as dbp-my-{entry}"
        )
    words = {
        "distribution": module.replace("_", "-"),
        "module": module,
        "entry": entry,
        "Class": "".join(word.capitalize() for word in entry.split("_")),
        "kind": kind,
        "group": catalog[kind].group,
        "what": f"{KINDS[kind].article} {'data set' if kind == 'data' else kind}",
    }
    return words | {"usage": Template(KINDS[kind].usage).substitute(words)}
