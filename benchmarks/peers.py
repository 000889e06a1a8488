"""The same work by other libraries, as they are used: for a loop over instances, the function of one instance."""

import heapq
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from benchmarks.graphs import Edges
from dbp.solvers.grid import shortest_path

Array = NDArray[Any]


def each(function: Callable[..., object], batch: Array, *arguments: object) -> list[object]:
    return [function(instance, *arguments) for instance in batch]


def heapq_dijkstra(cost: Array) -> Array:
    """Dijkstra in plain Python on a matrix of vertex costs, eight neighbours, corner to corner."""
    height, width = cost.shape
    distance = np.full(cost.shape, np.inf)
    distance[0, 0] = cost[0, 0]
    before: dict[tuple[int, int], tuple[int, int]] = {}
    done = set()
    queue = [(cost[0, 0], (0, 0))]
    while queue:
        d, (r, c) = heapq.heappop(queue)
        if (r, c) in done:
            continue
        done.add((r, c))
        if (r, c) == (height - 1, width - 1):
            break
        for x in range(max(r - 1, 0), min(r + 2, height)):
            for y in range(max(c - 1, 0), min(c + 2, width)):
                if (x, y) not in done and d + cost[x, y] < distance[x, y]:
                    distance[x, y] = d + cost[x, y]
                    before[x, y] = (r, c)
                    heapq.heappush(queue, (distance[x, y], (x, y)))
    path = np.zeros_like(cost)
    at = (height - 1, width - 1)
    while at in before:
        path[at] = 1
        at = before[at]
    path[at] = 1
    return path


def _mark(before: Array, shape: tuple[int, ...], end: int, path: Array) -> Array:
    while end >= 0:
        path[end] = 1
        end = before[end]
    return path.reshape(shape)


def scipy_one(cost: Array, edges: Edges) -> Array:
    graph = csr_matrix((cost.ravel()[edges.end], (edges.start, edges.end)), shape=(edges.size, edges.size))
    _, before = dijkstra(graph, indices=0, return_predecessors=True)
    return _mark(before, cost.shape, edges.size - 1, np.zeros(edges.size))


def scipy_block(costs: Array, edges: Edges) -> Array:
    """All instances as parts of one graph, in one call."""
    batch, n = len(costs), edges.size
    shift = n * np.arange(batch)[:, None]
    flat = costs.reshape(batch, -1)
    counts = np.bincount(edges.start, minlength=n)
    rows = np.concatenate([[0], np.cumsum(np.tile(counts, batch))])
    graph = csr_matrix((flat[:, edges.end].ravel(), (edges.end + shift).ravel(), rows), shape=(batch * n, batch * n))
    result = dijkstra(graph, indices=shift.ravel(), return_predecessors=True, min_only=True)
    path = np.zeros(batch * n)
    for end in (shift.ravel() + n - 1).tolist():
        _mark(result[1], (batch * n,), end, path)
    return path.reshape(costs.shape)


def rustworkx_one(cost: Array, edges: Edges) -> list[int]:
    import rustworkx

    graph = rustworkx.PyDiGraph(multigraph=False)
    graph.add_nodes_from(range(edges.size))
    weights = cost.ravel()[edges.end].tolist()
    graph.add_edges_from(list(zip(edges.start.tolist(), edges.end.tolist(), weights, strict=True)))
    paths = rustworkx.dijkstra_shortest_paths(graph, 0, target=edges.size - 1, weight_fn=float)
    return list(paths[edges.size - 1])


def networkx_one(cost: Array) -> list[tuple[int, int]]:
    import networkx

    height, width = cost.shape
    graph = networkx.grid_2d_graph(height, width)
    graph.add_edges_from(((r, c), (r + 1, c + 1)) for r in range(height - 1) for c in range(width - 1))
    graph.add_edges_from(((r, c + 1), (r + 1, c)) for r in range(height - 1) for c in range(width - 1))
    return networkx.dijkstra_path(graph, (0, 0), (height - 1, width - 1), lambda u, v, edge: cost[v])


def grid_path_torch(theta: Tensor) -> Tensor:
    first = torch.zeros(len(theta), dtype=torch.int64)
    return shortest_path(theta, None, first, first + theta[0].numel() - 1, 8)[0]


def topk_scatter(x: Tensor, k: int) -> Tensor:
    return torch.zeros_like(x).scatter(-1, x.topk(k, -1, sorted=False).indices, 1)


def argsort_twice(x: Tensor) -> Tensor:
    return 1 + x.argsort(-1).argsort(-1)


def numpy_rank(x: Array) -> Array:
    rank = np.empty(x.shape, dtype=x.dtype)
    np.put_along_axis(rank, x.argsort(-1), np.arange(1, x.shape[-1] + 1, dtype=x.dtype)[None], -1)
    return rank
