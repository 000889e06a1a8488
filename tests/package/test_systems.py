"""A system without POSIX file locks, as Windows, is told so before a run begins; what needs none works."""

import subprocess
import sys
from pathlib import Path

CODE = "import sys; sys.modules['fcntl'] = None; from dbp.cli import main; sys.exit(main())"


def test_a_run_needs_posix(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", CODE, "fit", "--config", "dvae/digits"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "dbp: error: fit needs Linux, macOS or WSL (Windows Subsystem for Linux): this system has no POSIX file locks"
    ]
    assert not list(tmp_path.iterdir())
