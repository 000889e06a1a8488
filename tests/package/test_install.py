"""A wheel and an sdist, built from this clone, work in environments of their own, away from it."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from setuptools import Distribution

from dbp.native import loader

ROOT = Path(__file__).parents[2]
NATIVE = Path("dbp", "native")
CLONE_ONLY = (".github/", "lightning_logs/")
WITHOUT_COMPILER = {"CC": "false", "CXX": "false"}

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="not in a clone")


def files() -> list[str]:
    """All that a clone has but what git ignores, which a build would write to."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    return [name for name in names if (ROOT / name).is_file()]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in files():
        (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / "clone" / name)
    return tmp_path / "clone"


def lend_kernels(clone: Path) -> None:
    """Puts this clone's kernels where the build looks for those that are up to date: compiling takes minutes."""
    build = Distribution().get_command_obj("build")
    build.ensure_finalized()
    folder = clone / build.build_platlib / NATIVE
    folder.mkdir(parents=True)
    for path in (ROOT / NATIVE).glob("*.so"):
        shutil.copyfile(path, folder / path.name)


def build(what: str, clone: Path, **environment: str) -> Path:
    code = f"from setuptools.build_meta import build_{what}; build_{what}('dist')"
    command = [sys.executable, "-W", "ignore", "-c", code]
    subprocess.run(command, cwd=clone, env=without_path() | environment, check=True, capture_output=True)
    return next((clone / "dist").iterdir())


def without_path() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DBP_NATIVE")}


def install(wheel: Path, folder: Path) -> Path:
    """The Python of a new environment that has the wheel and, behind it, what this one has."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "-q"]
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True, env=without_path())
    site = sysconfig.get_path("purelib", vars={"base": str(folder)})
    Path(site, "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def smoke(python: Path, kernels: str) -> None:
    command = [python, ROOT / "tests" / "package" / "smoke.py", kernels]
    done = subprocess.run(command, capture_output=True, text=True, env=without_path() | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr


def contents(wheel: Path) -> tuple[set[str], Message]:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        return set(names), Parser().parsestr(archive.read(metadata).decode())


@pytest.mark.skipif(loader.load()[0] is None, reason=loader.status())
def test_a_wheel_with_kernels(clone: Path, tmp_path: Path) -> None:
    lend_kernels(clone)
    wheel = build("wheel", clone)
    assert re.fullmatch(r"discrete_backprop-[\d.]+-py3-none-(linux|macosx)_\w+\.whl", wheel.name)
    names, metadata = contents(wheel)
    assert {str(NATIVE / path.name) for path in (ROOT / NATIVE).glob("*.so")} <= names
    configs = {f"dbp/{name}" for name in files() if name.startswith("configs/")}
    assert configs == {name for name in names if name.startswith("dbp/configs/")}
    assert not [name for name in names if name.startswith(("dbp/native/src", "tests", "configs"))]
    assert metadata["Name"] == "discrete-backprop"
    readme = metadata.get_payload()
    assert "# dbp" in readme
    assert all(link.startswith("https://") for link in re.findall(r"\]\(([^)#]+)\)", readme))
    smoke(install(wheel, tmp_path / "environment"), "native")


def test_an_sdist_is_complete_and_installs_without_a_compiler(clone: Path, tmp_path: Path) -> None:
    sdist = build("sdist", clone)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    missing = [name for name in files() if not (unpacked / name).is_file() and not name.startswith(CLONE_ONLY)]
    assert not missing, "MANIFEST.in leaves these out"
    wheel = build("wheel", unpacked, **WITHOUT_COMPILER)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in contents(wheel)[0] if name.endswith(".so")]
    smoke(install(wheel, tmp_path / "environment"), "torch")


def test_a_wheel_without_kernels_is_for_any_machine(clone: Path) -> None:
    lend_kernels(clone)
    wheel = build("wheel", clone, DBP_NATIVE="0")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in contents(wheel)[0] if name.endswith(".so")]
