"""A run that is killed at any moment, in one process or two, ends as one that was left alone."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "torture.py"


def test_twenty_kills_and_a_process_that_fails():
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    command = [sys.executable, str(SCRIPT), "--kills", "20", "--runs", "adaptive", "accumulated"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "20 killed, 20 resumed, 20 bit-identical, 0 corrupt"
