"""Odd options, scores and instances of every solver, in processes that may crash. `make fuzz` tries more."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from dbp.components import catalog
from dbp.registry.names import BUILTIN

MANY = 10 * int(os.environ.get("DBP_FUZZ", 0)) or 300  # trials
SEED = int.from_bytes(os.urandom(4), "big") if "DBP_FUZZ" in os.environ else 0  # the same ones, if they are few
EACH = 500  # trials in a process


def test_solvers_end_in_a_decision_or_an_error():
    script, tried = Path(__file__).with_name("solvers.py"), set()
    for begin in range(0, MANY, EACH):
        command = [sys.executable, str(script), *map(str, (SEED, begin, min(begin + EACH, MANY)))]
        run = subprocess.run(command, capture_output=True, text=True)
        lines = run.stdout.splitlines()
        failed = [f"{trial}\n{line}" for trial, line in pairwise(lines) if line.startswith("FAILED")]
        said = "\n".join([f"seed {SEED}", *failed, "the last:", *lines[-1:], run.stderr[-2000:]])
        assert run.returncode == 0, said  # a crash or a hang is that of the last trial
        tried |= {line.split()[1] for line in lines}
    assert tried == {name for name, claims in catalog["solver"].claims().items() if claims[0].source == BUILTIN}
