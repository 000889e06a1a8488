"""Solvers against what people use for the same work: `python -m benchmarks.solvers [WORK ...]` writes results.md.

To add a work: a function that yields a `Case` for each size, listed in WORKS. Ours comes first among its candidates; a
slow peer is given a slice of the batch; one that is not installed is left out (NEEDS).
"""

import importlib.util
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from benchmarks import graphs, peers
from benchmarks.timing import Candidates, Timing, interleave
from dbp.solvers import GridPath, Rank, TopK, native
from dbp.solvers.choices import top_k_torch
from dbp.solvers.orders import rank_torch
from dbp.solvers.paths import grid_path

RESULTS = Path(__file__).with_name("results.md")


@dataclass(frozen=True)
class Case:
    """One row of a table: candidates that solve `batch` instances in a call, ours first.

    Args:
        slices: for peers that get only a slice of the batch, how many instances that is.
        targets: for peers, the ratio that ours is to reach.
    """

    name: str
    batch: int
    candidates: Candidates
    slices: Mapping[str, int] = field(default_factory=dict)
    targets: Mapping[str, float] = field(default_factory=dict)


Work = Callable[[], Iterator[Case]]


def grid_paths() -> Iterator[Case]:
    for size in (12, 18, 24, 30):
        for batch in (70, 700):
            theta = -torch.rand(batch, size, size)
            costs, few = -theta.numpy(), -theta[:4].numpy()
            edges = graphs.grid(size, size)
            loops: Candidates = {
                "scipy loop": partial(peers.each, peers.scipy_one, few, edges),
                "rustworkx": partial(peers.each, peers.rustworkx_one, few, edges),
                "networkx": partial(peers.each, peers.networkx_one, few),
                "heapq": partial(peers.each, peers.heapq_dijkstra, few),
            }
            candidates: Candidates = {
                "ours": partial(GridPath(), theta),
                "our Dijkstra": partial(grid_path, theta, None, None, None, 8, False),
                "our torch": partial(peers.grid_path_torch, theta),
                "scipy, one graph": partial(peers.scipy_block, costs, edges),
            }
            targets = {"our Dijkstra": 6, "scipy, one graph": 50, "scipy loop": 50, "heapq": 1500}
            slices = dict.fromkeys(loops, len(few))
            yield Case(f"{size} x {size}, batch {batch}", batch, candidates | loops, slices, targets)


def top_k() -> Iterator[Case]:
    sizes = [(128, 10, 100), (128, 10, 10_000), (128, 32, 10_000), (1000, 10, 700), (1000, 250, 700)]
    for n, k, batch in [*sizes, (10_000, 10, 100), (10_000, 2500, 100), (10_000, 2500, 1000)]:
        x = torch.randn(batch, n)
        candidates: Candidates = {
            "ours": partial(TopK(k), x),
            "our torch": partial(top_k_torch, x, k),
            "topk + scatter": partial(peers.topk_scatter, x, k),
            "memcpy": x.clone,
        }
        targets = {"topk + scatter": 4 if 4 * k >= n else 1.3}
        yield Case(f"n {n}, k {k}, batch {batch}", batch, candidates, targets=targets)


def rank() -> Iterator[Case]:
    for n, batch in ((16, 1000), (128, 1000), (1000, 100), (10_000, 10)):
        x = torch.randn(batch, n)
        candidates: Candidates = {
            "ours": partial(Rank(), x),
            "our torch": partial(rank_torch, x),
            "argsort twice": partial(peers.argsort_twice, x),
            "numpy": partial(peers.numpy_rank, x.numpy()),
        }
        yield Case(f"n {n}, batch {batch}", batch, candidates, targets={"argsort twice": 8, "numpy": 1.8})


WORKS: dict[str, Work] = {"grid_path": grid_paths, "top_k": top_k, "rank": rank}
NEEDS = {"rustworkx": "rustworkx", "networkx": "networkx"}


def measure(work: Work) -> list[tuple[Case, dict[str, Timing]]]:
    return [(case, interleave({n: c for n, c in case.candidates.items() if _is_here(n)})) for case in work()]


def table(name: str, rows: list[tuple[Case, dict[str, Timing]]]) -> str:
    """A Markdown table: ours in microseconds for an instance, the peers as multiples of it."""
    names = [n for n in rows[0][0].candidates if n in rows[0][1]]
    lines = [f"## {name}", "", "| | " + " | ".join([f"{names[0]} (us)", *names[1:]]) + " |"]
    lines.append("| --- " * (len(names) + 1) + "|")
    for case, timings in rows:
        ours = timings[names[0]].seconds / case.batch * 1e6
        ratios = [f"{ratio(case, timings, peer):.3g} x" for peer in names[1:]]
        lines.append(f"| {case.name} | " + " | ".join([f"{ours:.3g}", *ratios]) + " |")
    return "\n".join([*lines, ""])


def ratio(case: Case, timings: dict[str, Timing], peer: str) -> float:
    """How many times as long as ours a peer takes for an instance."""
    return timings[peer].ratio * case.batch / case.slices.get(peer, case.batch)


def _is_here(name: str) -> bool:
    return name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    head = (
        "# Solvers, side by side\n\nMicroseconds for one instance on one thread, float32; the others as multiples of "
        f"it.\nWritten by `python -m benchmarks.solvers`. {platform.machine()}, torch {torch.__version__}, "
        f"{native.status()}.\n"
    )
    tables = [table(name, measure(WORKS[name])) for name in names or WORKS]
    text = "\n".join([head, *tables])
    sys.stdout.write(text)
    if not names:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
