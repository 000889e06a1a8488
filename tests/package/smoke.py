"""The README's first commands with an installed dbp, in an empty folder: `python smoke.py native|torch`.

Needs nothing but dbp, and neither pytest nor a clone, so that wheels are tested by it where they are built.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

PYTHON = [sys.executable, "-m", "dbp"]
COMMAND = [str(Path(sys.executable).with_name("dbp"))]
FIT = ["fit", "--config", "dvae/digits", "trainer.max_epochs=1", "trainer.accelerator=cpu", "run=first"]


def said(command: list[str], folder: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def main(kernels: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        where = said([sys.executable, "-c", "import dbp; print(dbp.__file__)"], folder).strip()
        assert Path(where).is_relative_to(sys.prefix), f"{where} is not installed in {sys.prefix}"
        assert f"kernels: {kernels} (" in said([*PYTHON, "list"], folder)
        assert "dvae/digits " in said([*COMMAND, "list", "config"], folder)
        trained = said([*COMMAND, *FIT], folder)
        assert f"kernels: {kernels} (" in trained, trained
        assert "val/loss" in trained, trained
        assert Path(folder, "lightning_logs/first/checkpoints/last.ckpt").is_file()


if __name__ == "__main__":
    main(*sys.argv[1:])
