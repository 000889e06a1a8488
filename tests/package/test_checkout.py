"""A checkout without kernels, run in its folder, hides an installed dbp that has them: it says so, and the cure."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dbp.native import loader

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(loader.load()[0] is None, reason=loader.status())
def test_a_checkout_that_hides_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed, ours = tmp_path / "site-packages", tmp_path / "checkout" / "dbp"
    shutil.copytree(ROOT / "dbp", installed / "dbp")
    shutil.copytree(ROOT / "dbp", ours, ignore=shutil.ignore_patterns("*.so"))
    monkeypatch.setenv("PYTHONPATH", str(installed))
    monkeypatch.delenv("DBP_NATIVE", raising=False)

    def status(folder: Path) -> str:
        command = [sys.executable, "-m", "dbp", "list", "solver", "top_k"]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()[-1]

    assert status(tmp_path) == f"kernels: {loader.status()}"
    assert status(ours.parent) == (
        f"kernels: torch ({ours} without kernels hides {installed / 'dbp'} with kernels: "
        "leave this folder, or build them with `pip install -e .`)"
    )
    shutil.rmtree(installed / "dbp" / "native")
    assert status(ours.parent) == "kernels: torch (installed without kernels, as where there is no C++ compiler)"
