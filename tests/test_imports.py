"""Imports point one way, and the command line starts without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dbp

PACKAGE = Path(dbp.__file__).parent

# A room may import from the rooms listed for it. Whatever is not named here may import anything.
MAY_IMPORT = {
    "errors": set(),
    "shapes": {"errors", "native"},
    "core": {"errors", "shapes"},
    "gradients": {"errors", "shapes", "core", "native"},
    "native": {"errors"},
    "noises": {"errors", "shapes", "core", "native"},
    "solvers": {"errors", "shapes", "core", "noises", "native"},
    "estimators": {"errors", "shapes", "core", "noises", "gradients", "solvers"},
    "networks": {"errors", "shapes"},
    "layer": {"errors", "shapes", "core", "noises", "gradients", "solvers", "estimators"},
    "data": {"errors", "shapes", "core", "solvers"},
    "tasks": {"errors", "shapes", "core", "networks"},
    "bugs": {"errors"},
}


def rooms_imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names += [f"dbp.{alias.name}" for alias in node.names] if node.module == "dbp" else [node.module or ""]
    return {name.split(".")[1] for name in names if name.startswith("dbp.")}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_rooms_before_its_own(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room in MAY_IMPORT:
        assert rooms_imported(path) <= MAY_IMPORT[room] | {room}


def test_the_package_imports_no_torch_before_it_is_needed():
    code = "import sys, dbp; dbp.__version__, dir(dbp); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    assert all(getattr(dbp, name) is not None for name in dbp.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Layr'"):
        _ = dbp.Layr
