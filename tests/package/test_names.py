"""The distribution is called discrete-backprop: on PyPI, `dbp` is another project. The module is dbp all the same."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbp.templates.new import KINDS, new_plugin

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
NAME = "discrete-backprop"
TEXTS = {".py", ".pyi", ".md", ".in", ".toml", ".yml", ".yaml", ".txt", ".cfg", ""}
PLACES = [".ci", ".github", "benchmarks", "configs", "dbp", "docs", "plugins", "tests"]
INSTALLS = re.compile(r"\b(?:pip|pipx|uv|conda|mamba|poetry)[^\n`#]*\b(?:install|add|download|run)\b([^\n`#]*)")
METADATA = re.compile(r"(?:\bversion|\bdistribution|\bmetadata|\brequires|\bfiles)\(\s*[\"']dbp[\"']")


def texts() -> Iterator[Path]:
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXTS)
    for place in PLACES:
        for path in (ROOT / place).rglob("*"):
            if path.is_file() and path.suffix in TEXTS and "__pycache__" not in path.parts and path != Path(__file__):
                yield path


def distributions(line: str) -> set[str]:
    """The names of what a command line installs, without options, extras, versions and paths."""
    words = re.findall(r"[^\s\"'()\\]+", line)
    names = (re.fullmatch(r"(\w[\w.-]*\w)(\[[\w,.-]*\])?([<>=!~].*)?[.,:;]?", word) for word in words)
    return {name[1] for name in names if name}


@pytest.mark.parametrize(
    "line", ["pip install 'dbp[sparse]'", "pip install -U dbp", "uv add dbp>=1", "pip install dbp."]
)
def test_a_wrong_line_is_found(line: str) -> None:
    assert "dbp" in {name for found in INSTALLS.findall(line) for name in distributions(found)}


def test_no_install_line_names_the_other_project() -> None:
    wrong = []
    for path in texts():
        text = path.read_text(encoding="utf-8")
        lines = [line for line in INSTALLS.findall(text) if "dbp" in distributions(line)]
        wrong += [f"{path.relative_to(ROOT)}: {line}" for line in [*lines, *METADATA.findall(text)]]
    assert not wrong


def requirements(path: Path) -> list[str]:
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    optional = project.get("optional-dependencies", {})
    return [*project.get("dependencies", []), *(one for extra in optional.values() for one in extra)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_generated_plugin_needs_this_distribution(kind: str, tmp_path: Path) -> None:
    root = new_plugin(f"dbp-made-{kind}", kind, tmp_path / "plugin")
    assert NAME in distributions(" ".join(requirements(root / "pyproject.toml")))


def test_no_requirement_is_the_other_project() -> None:
    projects = [ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml"), *ROOT.glob("tests/plugins/*/*.toml")]
    assert len(projects) >= 4
    for path in projects:
        assert "dbp" not in distributions(" ".join(requirements(path))), path
    assert NAME in distributions(" ".join(requirements(ROOT / "plugins" / "dbp-reinmax" / "pyproject.toml")))
