"""What a step of a layer takes beside its decisions: `python -m benchmarks.estimators_memory`.

Each step has a process of its own: Linux forgets the peak of the resident memory, the step is done, and what the peak
has grown by is compared with the decisions of all samples. The loss is their sum, which takes no memory.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.layers import perturbed_optimizer, torch_imle
from dbp.core import Estimator, Target
from dbp.estimators import IMLE, AdaptiveIMLE, FenchelYoung, Perturbed
from dbp.noises import SumOfGamma
from dbp.solvers import TopK

BATCH, N, K = 32, 1000, 10
SAMPLES = (10, 100, 400)


def ours(make: Callable[[int], Estimator]) -> Callable[[Tensor, int], None]:
    def step(theta: Tensor, samples: int) -> None:
        draw = make(samples)(TopK(K), theta, None, Target(torch.zeros(BATCH, N)))
        draw.surrogate(draw.y.sum(-1)).mean().backward()

    return step


LAYERS: dict[str, Callable[[Tensor, int], None]] = {
    "imle": ours(lambda s: IMLE(noise=SumOfGamma(k=K), samples=s)),
    "adaptive_imle": ours(lambda s: AdaptiveIMLE(noise=SumOfGamma(k=K), samples=s)),
    "perturbed": ours(lambda s: Perturbed(samples=s)),
    "fenchel_young": ours(lambda s: FenchelYoung(samples=s)),
    "torch-imle": lambda theta, s: torch_imle(TopK(K), K, 1.0, s)(theta).sum().backward(),
    "published perturbed": lambda theta, s: perturbed_optimizer(TopK(K), 1.0, s)(theta).sum().backward(),
}


def measure(name: str, samples: int) -> float:
    """The peak of a step, as a multiple of the decisions of all samples."""
    torch.set_num_threads(1)
    theta = torch.rand(BATCH, N, requires_grad=True)
    LAYERS[name](theta, 2)  # imports, tables
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    LAYERS[name](theta, samples)
    return (_peak() - before) / (samples * theta.nbytes)


def _peak() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def table() -> str:
    """A Markdown table, each of its cells measured by a process."""
    lines = [
        "## memory of a step, top 10 of 1000",
        "",
        "What the peak grows by, as a multiple of the decisions of all samples: 1 is they alone. Float32, batch 32.",
        "",
        "| | " + " | ".join(f"S = {s}" for s in SAMPLES) + " |",
        "| --- " * (len(SAMPLES) + 1) + "|",
    ]
    for name in LAYERS:
        cells = [_in_a_process(name, samples) for samples in SAMPLES]
        lines.append(f"| {name} | " + " | ".join(f"{cell:.2f} x" for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _in_a_process(name: str, samples: int) -> float:
    command = [sys.executable, "-m", "benchmarks.estimators_memory", name, str(samples)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    sys.stdout.write(f"{measure(sys.argv[1], int(sys.argv[2]))}\n" if sys.argv[1:] else table())
