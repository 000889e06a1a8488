"""How much memory each solver takes, as a multiple of its input and output: `python -m benchmarks.memory`.

Each solver has a process of its own: scores are made, Linux forgets the peak of the resident memory, the solver
decides, and what the peak has grown by is compared, work space of kernels included. One thread. Once with the kernels
and once without.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.combinatorial import grid_edges, right_and_down
from dbp.solvers import (  # fmt: skip
    Arborescence,
    Binary,
    GraphPath,
    GridPath,
    KMeans,
    Knapsack,
    Matching,
    OneHot,
    Or,
    PerfectMatching,
    Permutation,
    Rank,
    Signum,
    Sort,
    SpanningTree,
    Threshold,
    TopK,
    Tour,
)

MOST = 4.0  # what is aimed at
MEGABYTES = 32  # of scores, so that what is not for them does not count

SOLVERS: dict[str, Callable[[], tuple[Callable[[Tensor], Tensor], tuple[int, ...]]]] = {
    "one_hot": lambda: (OneHot(), (1000,)),
    "top_k": lambda: (TopK(100), (1000,)),
    "threshold": lambda: (Threshold(), (1000,)),
    "binary": lambda: (Binary(), (1000,)),
    "signum": lambda: (Signum(), (1000,)),
    "any": lambda: (Or(), (1000,)),
    "rank, n 128": lambda: (Rank(), (128,)),
    "rank, n 1000": lambda: (Rank(), (1000,)),
    "sort": lambda: (Sort(), (1000,)),
    "sort, k 100": lambda: (Sort(k=100), (1000,)),
    "permutation": lambda: (Permutation(), (32,)),
    "k_means": lambda: (KMeans(10), (100, 8)),
    "k_means, members": lambda: (KMeans(10, assign=True), (100, 8)),
    "grid_path": lambda: (GridPath(), (30, 30)),
    "graph_path": lambda: (GraphPath(right_and_down(12)), (264,)),
    "spanning_tree": lambda: (SpanningTree(tuple(grid_edges(12))), (264,)),
    "arborescence": lambda: (Arborescence(right_and_down(12)), (264,)),
    "matching": lambda: (Matching(), (50, 50)),
    "perfect_matching": lambda: (PerfectMatching(tuple(grid_edges(12))), (264,)),
    "knapsack": lambda: (Knapsack(tuple(range(1, 33)), 100), (32,)),
    "tour": lambda: (Tour(), (10, 10)),
    "tour, 50 cities": lambda: (Tour(kicks=10), (50, 50)),
}
LEFT_OUT = {("tour, 50 cities", "0")}  # an integer program for each tour: it takes hours


def measure(name: str) -> float:
    """What solving takes beside the scores, as a multiple of scores and decision."""
    torch.set_num_threads(1)
    solver, shape = SOLVERS[name]()
    rows = MEGABYTES * 2**18 // torch.Size(shape).numel()
    theta = -torch.rand(rows, *shape)
    solver(theta[:2])  # imports
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    y = solver(theta)
    both = theta.nbytes + y.nbytes
    return (_peak() - before + theta.nbytes) / both


def _peak() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def measured() -> dict[str, list[float]]:
    """The multiples of each solver, from processes of their own: with kernels, and by torch."""
    return {
        name: [_of_a_process(name, native) for native in ("1", "0") if (name, native) not in LEFT_OUT]
        for name in SOLVERS
    }


def _of_a_process(name: str, native: str) -> float:
    command, environment = [sys.executable, "-m", "benchmarks.memory", name], {**os.environ, "DBP_NATIVE": native}
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def table(multiples: dict[str, list[float]]) -> str:
    """A section of Markdown."""
    head = (
        "## memory\n\nWhat a call takes beside its scores, with them, as a multiple of scores and decision "
        f"({MEGABYTES} MB of scores);\n{MOST:g} at most is aimed at.\n"
    )
    rows = [f"| {name} | {' | '.join(f'{multiple:.2f}' for multiple in each)} |" for name, each in multiples.items()]
    return "\n".join(
        [head, "| memory / (input + output) | with kernels | by torch |", "| --- | --- | --- |", *rows, ""]
    )


if __name__ == "__main__":
    sys.stdout.write(f"{measure(sys.argv[1])}\n" if sys.argv[1:] else table(measured()))
