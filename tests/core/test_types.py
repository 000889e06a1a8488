"""Types: the Python of README.md and of docs/extend.md, and the calls below, pass `mypy --strict`."""

import os
import subprocess
import sys

from pages import ROOT, blocks

# Each `type: ignore` is an error that mypy must find: with `--strict`, one that is not needed is itself an error.
CALLS = """
from typing import Any
from torch import Tensor, nn, zeros
from typing_extensions import assert_type
import dbp
from dbp.compat.imle import imle
from dbp.compat.perturbations import FenchelYoungLoss, perturbed

@perturbed
def bare(x: Tensor, scale: float = 1.0) -> Tensor:
    return scale * x

@perturbed(num_samples=3)
def named(x: Tensor, scale: float = 1.0) -> Tensor:
    return scale * x

@imle
def plain(x: Tensor) -> Tensor:
    return x

@imle(nb_samples=2)
def sampled(x: Tensor, *, scale: float) -> Tensor:
    return scale * x

x = zeros(2, 3)
assert_type(bare(x, scale=2.0), Tensor)
assert_type(named(x), Tensor)
assert_type(plain(x), Tensor)
assert_type(sampled(x, scale=2.0), Tensor)
named(x, scale="2")  # type: ignore[arg-type]
sampled(x)  # type: ignore[call-arg]
perturbed(3)  # type: ignore[call-overload]
FenchelYoungLoss(bare, nois="gumbel")  # type: ignore[call-arg]

solver, estimator = dbp.build("solver", "top_k"), dbp.build("estimator", {"name": "imle", "lam": 3})
assert_type(solver, dbp.Solver)
assert_type(estimator, dbp.Estimator)
assert_type(dbp.build("noise", dbp.noises.Gumbel()), dbp.Noise)
assert_type(dbp.build("network", "mlp", sizes=(3, 3)), nn.Module)
assert_type(dbp.build("task", "dvae"), dbp.tasks.Task)
assert_type(dbp.build("data", "digits"), dbp.data.Data)
assert_type(dbp.build("optimizer", "adam"), Any)
dbp.build("solver", 3)  # falls back to any kind

def decide(layer: dbp.Layer) -> Tensor:
    return layer(x)
"""


def test_the_pages_and_all_public_calls_pass_mypy_strict(tmp_path):
    readme, extend = (blocks(ROOT / page, "python") for page in ("README.md", "docs/extend.md"))
    assert len(readme) >= 3
    files = {block.file: block.text for block in extend if block.file}
    assert len(files) >= 6
    sources = {"readme.py": "\n\n".join(block.text for block in readme), "calls.py": CALLS, **files}
    for name, source in sources.items():
        (tmp_path / name).write_text(source)
    untyped = "--untyped-calls-exclude=torch"  # Tensor.backward has no types
    options = [
        "--strict",
        untyped,
        "--follow-imports=silent",
        "--config-file=",
        f"--cache-dir={ROOT / '.mypy_cache' / 'strict'}",
    ]
    command = [sys.executable, "-m", "mypy", *options, *sources]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == (f"Success: no issues found in {len(sources)} source files", 0), (
        done.stderr
    )
