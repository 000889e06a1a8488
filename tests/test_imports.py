"""Imports point one way, and the command line starts without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dbp

PACKAGE = Path(dbp.__file__).parent

# Every room, from the ground up, with the rooms that it imports: all of them stand above it in this list.
ROOMS = {
    "dbp": [],
    "errors": [],
    "files": ["errors"],
    "native": ["errors"],
    "registry": ["errors"],
    "components": ["registry"],
    "shapes": ["native"],
    "config": ["components", "errors", "registry"],
    "data": ["components", "errors", "files"],
    "networks": ["components", "errors"],
    "scores": ["components", "errors", "native", "shapes"],
    "templates": ["components", "errors", "registry"],
    "core": ["errors", "native", "registry", "scores", "shapes"],
    "gradients": ["core", "errors", "native", "scores", "shapes"],
    "layer": ["components", "core", "errors"],
    "tasks": ["components", "config", "core", "errors", "networks", "registry", "scores", "shapes"],
    "noises": ["core", "errors", "gradients", "native"],
    "estimators": ["components", "core", "errors", "gradients", "native", "networks", "noises", "scores", "shapes"],
    "solvers": ["components", "core", "errors", "native", "noises", "scores", "shapes"],
    "audit": ["components", "core", "errors", "noises", "registry", "shapes", "solvers"],
    "compat": ["core", "errors", "estimators", "gradients", "noises", "scores", "solvers"],
    "gallery": ["components", "errors", "registry", "solvers"],
    "runs": [
        "components",
        "config",
        "core",
        "data",
        "dbp",
        "errors",
        "files",
        "native",
        "registry",
        "solvers",
        "tasks",
    ],
    "testing": ["components", "core", "data", "errors", "scores", "shapes", "solvers", "tasks"],
    "cli": ["audit", "components", "config", "dbp", "errors", "gallery", "native", "registry", "runs", "templates"],
    "__main__": ["cli"],
}


def room_of(path: Path) -> str:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "dbp" if room == "__init__" else room


def rooms_imported(path: Path) -> set[str]:
    """The rooms of dbp that a module names in its imports; `import dbp` and `from dbp import __version__` are "dbp"."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "dbp":
            names += [f"dbp.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    inner = [name.split(".")[1] if "." in name else "dbp" for name in names if name.split(".")[0] == "dbp"]
    return {name if name in ROOMS else "dbp" for name in inner}


def test_every_room_is_listed_and_stands_above_what_it_imports():
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        found.setdefault(room_of(path), set()).update(rooms_imported(path) - {room_of(path)})
    assert found == {room: set(imports) for room, imports in ROOMS.items()}  # no room, no permission too many
    above: list[str] = []
    for room, imports in ROOMS.items():
        assert set(imports) <= set(above), f"{room} imports from below itself"
        above.append(room)


def test_the_top_level_has_few_modules():
    assert len(list(PACKAGE.glob("*.py"))) <= 11


def test_the_package_imports_no_torch_before_it_is_needed():
    code = "import sys, dbp; dbp.__version__, dir(dbp); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    assert all(getattr(dbp, name) is not None for name in dbp.__all__)
    with pytest.raises(AttributeError, match="Layr"):
        _ = dbp.Layr
