"""Solvers against what people use for the same work: `python -m benchmarks.solvers [WORK ...]` writes results.md.

To add a work: a function that yields a `Case` for each size, listed in WORKS. Ours comes first among its candidates; a
slow peer is given a slice of the batch; one that is not installed is left out (`report.NEEDS`). With `--check` it
writes nothing and fails where ours is not ahead by half of the target.
"""

import platform
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks import combinatorial, graphs, memory, peers, pyepo_models, threads
from benchmarks.report import Case, Work, run
from benchmarks.timing import Candidates
from dbp.native import ops
from dbp.solvers import Arborescence, GraphPath, GridPath, Knapsack, Matching, Rank, SpanningTree, TopK, Tour
from dbp.solvers.choices import top_k_torch
from dbp.solvers.orders import rank_torch
from dbp.solvers.packing import knapsack_torch
from dbp.solvers.paths import grid_path
from dbp.solvers.tours import tour_highs
from dbp.solvers.trees import spanning_tree_torch


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


def graph_paths() -> Iterator[Case]:
    """Right and down through a grid, costs on the edges, which PyEPO lists as pairs of nodes."""
    for size, batch in ((5, 700), (12, 70), (12, 700), (30, 70)):
        edges = combinatorial.right_and_down(size)
        cost = torch.rand(batch, len(edges))
        few = cost[:4].numpy()
        candidates: Candidates = {
            "ours": partial(GraphPath(edges), -cost),
            "PyEPO": pyepo_models.loop(partial(pyepo_models.shortest_path, size), few),
            "networkx": partial(peers.each, combinatorial.networkx_path, few, edges),
        }
        slices, targets = {"PyEPO": 4, "networkx": 4}, {"PyEPO": 1000.0} if batch > 70 else {}
        yield Case(f"{size} x {size}, batch {batch}", batch, candidates, slices, targets)


def top_k() -> Iterator[Case]:
    sizes = [(128, 10, 100), (128, 10, 10_000), (128, 32, 10_000), (1000, 10, 700), (1000, 250, 700)]
    for n, k, batch in [*sizes, (10_000, 10, 100), (10_000, 2500, 100), (10_000, 2500, 1000)]:
        x = torch.randn(batch, n)
        candidates: Candidates = {
            "ours": partial(TopK(k), x),
            "our torch": partial(top_k_torch, x, k),
            "topk + scatter": partial(peers.topk_scatter, x, k),
            "PyEPO": pyepo_models.loop(partial(pyepo_models.top_k, n, k), x[:100].numpy()),
            "memcpy": x.clone,
        }
        targets = {"topk + scatter": 4 if 4 * k >= n else 1.3, "PyEPO": 20}
        yield Case(f"n {n}, k {k}, batch {batch}", batch, candidates, {"PyEPO": 100}, targets, limit="memcpy")


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


def matching() -> Iterator[Case]:
    for n, batch in ((10, 700), (50, 100), (100, 70)):
        points = torch.rand(2, batch, n, 2)
        kinds = {
            "uniform": torch.rand(batch, n, n),
            "integer": torch.randint(0, 100, (batch, n, n)).float(),
            "geometric": torch.cdist(points[0], points[1]),
        }
        for kind, cost in kinds.items():
            few = cost.numpy()[:70]
            loops: Candidates = {
                "scipy": partial(peers.each, combinatorial.scipy_matching, few),
                "lapx": partial(peers.each, combinatorial.lapx_matching, few),
                "OR-Tools": partial(peers.each, combinatorial.ortools_matching, few),
                "torch-linear-assignment": partial(combinatorial.torch_matching, few),
            }
            candidates: Candidates = {"ours": partial(Matching(), -cost)}
            slices, targets = dict.fromkeys(loops, len(few)), dict.fromkeys(loops, 2.5)
            yield Case(f"n {n}, {kind}, batch {batch}", batch, candidates | loops, slices, targets)


def spanning_trees() -> Iterator[Case]:
    for n in (12, 30):
        batch, edges = 70, combinatorial.grid_edges(n)
        cost, ends = torch.rand(batch, len(edges)), torch.tensor(edges)
        candidates: Candidates = {
            "ours": partial(SpanningTree(edges=tuple(edges)), -cost),
            "our torch": partial(spanning_tree_torch, -cost, ends.expand(*cost.shape, 2), n * n),
        }
        few = cost.numpy()[:7]
        loops: Candidates = {
            "scipy": partial(peers.each, combinatorial.scipy_tree, few, ends.numpy()),
            "rustworkx": partial(peers.each, combinatorial.rustworkx_tree, few, edges),
            "networkx": partial(peers.each, combinatorial.networkx_tree, few, edges),
        }
        slices, targets = dict.fromkeys(loops, len(few)), dict.fromkeys(("scipy", "rustworkx"), 7.0)
        yield Case(f"grid {n} x {n}, batch {batch}", batch, candidates | loops, slices, targets)


def arborescences() -> Iterator[Case]:
    for nodes, batch in ((10, 70), (50, 70)):
        ring = [(node, (node + 1) % nodes) for node in range(nodes)]
        more = torch.randint(0, nodes, (8 * nodes, 2)).tolist()
        edges = tuple(dict.fromkeys([*ring, *((a, b) for a, b in more if a != b)]))
        theta = torch.randn(batch, len(edges))
        candidates: Candidates = {
            "ours": partial(Arborescence(edges), theta),
            "networkx": partial(peers.each, combinatorial.networkx_arborescence, theta[:2].numpy(), edges),
        }
        yield Case(f"{nodes} nodes, {len(edges)} edges, batch {batch}", batch, candidates, {"networkx": 2})


def knapsacks() -> Iterator[Case]:
    for n, capacity in ((32, 100), (100, 1000)):
        batch = 100
        weights, theta = torch.randint(1, 4 * capacity // n, (n,)), torch.rand(batch, n)
        candidates: Candidates = {
            "ours": partial(Knapsack(tuple(weights.tolist()), capacity), theta),
            "our torch": partial(knapsack_torch, theta, weights.expand(batch, n), torch.tensor(capacity).expand(batch)),
            "OR-Tools": partial(peers.each, combinatorial.ortools_knapsack, theta.numpy(), weights.numpy(), capacity),
            "PyEPO": pyepo_models.loop(partial(pyepo_models.knapsack, weights.numpy(), capacity), theta[:10].numpy()),
        }
        targets = {"our torch": 15, "OR-Tools": 10, "PyEPO": 100}
        yield Case(f"n {n}, C {capacity}, batch {batch}", batch, candidates, {"PyEPO": 10}, targets)


def tours() -> Iterator[Case]:
    for n in (8, 10, 12, 20, 50):
        batch = 70
        points = torch.rand(batch, n, 2)
        cost = torch.cdist(points, points)
        candidates: Candidates = {"ours": partial(Tour(), -cost)}
        loops: Candidates = {
            "OR-Tools": partial(peers.each, combinatorial.ortools_tour, cost.numpy()[:7]),
            "HiGHS": partial(tour_highs, -cost[:2], False),
        }
        name = f"n {n}, batch {batch}" + ("" if n <= 13 else f", {_gap(n):.4f} % above the optimum")
        yield Case(
            name, batch, candidates | loops, {"OR-Tools": 7, "HiGHS": 2}, {"OR-Tools": 100.0 if n <= 13 else 10.0}
        )


def _gap(n: int) -> float:
    """By how many per cent tours of 30 instances are too long, on average."""
    points = torch.rand(30, n, 2, dtype=torch.float64)
    cost = torch.cdist(points, points)
    ours, best = ((cost * y).sum((-1, -2)) for y in (Tour()(-cost), tour_highs(-cost, False)))
    return 100 * (ours / best - 1).mean().item()


WORKS: dict[str, Work] = {
    "grid_path": grid_paths,
    "graph_path": graph_paths,
    "top_k": top_k,
    "rank": rank,
    "matching": matching,
    "spanning_tree": spanning_trees,
    "arborescence": arborescences,
    "knapsack": knapsacks,
    "tour": tours,
}


WHY = """\
To be called takes a solver some 30 us, nearly as long as 70 grids of 12 x 12. What marks many of a long row writes
the whole row anew, as memcpy does; `argpartition` of numpy, which PyEPO's model calls, reads it once or twice.
"""


def tail() -> str:
    return "\n".join([WHY, threads.table(), memory.table(memory.measured())])


if __name__ == "__main__":
    head = (
        "# Solvers, side by side\n\nMicroseconds for one instance on one thread, float32; the others as multiples of "
        f"it.\nWritten by `python -m benchmarks.solvers`. {platform.machine()}, torch {torch.__version__}, "
        f"{ops.status()}.\n"
    )
    sys.exit(run(WORKS, head, Path(__file__).with_name("results.md"), sys.argv[1:], tail))
