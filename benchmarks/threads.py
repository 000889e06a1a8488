"""What a second thread is worth to each kernel, at batch 700: `python -m benchmarks.threads`."""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.combinatorial import grid_edges, right_and_down
from benchmarks.timing import Candidates, interleave
from dbp.core import Solver
from dbp.solvers import Arborescence, GraphPath, GridPath, Knapsack, Matching, OneHot, Rank, SpanningTree, TopK, Tour

BATCH = 700
LEAST = 1.6  # what is aimed at


class Work(NamedTuple):
    make: Callable[[], Solver]
    shape: tuple[int, ...]
    greatest: float = -1.0  # of scores in size: minus costs, if not said otherwise


SOLVERS = {
    "one_hot, n 1000": Work(OneHot, (1000,)),
    "top_k, n 1000, k 10": Work(lambda: TopK(10), (1000,)),
    "top_k, n 1000, k 250": Work(lambda: TopK(250), (1000,)),
    "rank, n 128": Work(Rank, (128,)),
    "rank, n 1000": Work(Rank, (1000,)),
    "grid_path, 12 x 12": Work(GridPath, (12, 12)),
    "grid_path, 18 x 18": Work(GridPath, (18, 18)),
    "grid_path, 30 x 30": Work(GridPath, (30, 30)),
    "graph_path, 12 x 12": Work(lambda: GraphPath(right_and_down(12)), (264,)),
    "spanning_tree, 12 x 12": Work(lambda: SpanningTree(tuple(grid_edges(12))), (264,)),
    "arborescence, 12 x 12": Work(lambda: Arborescence(right_and_down(12)), (264,)),
    "matching, n 10": Work(Matching, (10, 10)),
    "matching, n 50": Work(Matching, (50, 50)),
    "knapsack, n 32": Work(lambda: Knapsack(tuple(range(1, 33)), 100), (32,), greatest=1.0),
    "tour, n 8": Work(Tour, (8, 8)),
    "tour, n 12": Work(Tour, (12, 12)),
}


def table() -> str:
    """A section of Markdown."""
    head = (
        f"## two threads\n\nHow many times as fast two threads are as one, by the clock on the wall, batch {BATCH}; "
        f"{LEAST:g} at least is aimed at.\n"
    )
    rows = []
    for name, work in SOLVERS.items():
        solver, theta = work.make(), work.greatest * torch.rand(BATCH, *work.shape)
        candidates: Candidates = {str(threads): partial(_solve, solver, theta, threads) for threads in (2, 1)}
        rows.append(f"| {name} | {interleave(candidates, rounds=21, clock=time.perf_counter)['1'].ratio:.2f} x |")
    torch.set_num_threads(1)
    return "\n".join([head, "| | two threads |", "| --- | --- |", *rows, ""])


def _solve(solver: Solver, theta: Tensor, threads: int) -> Tensor:
    torch.set_num_threads(threads)
    return solver(theta)


if __name__ == "__main__":
    sys.stdout.write(table())
