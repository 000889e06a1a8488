"""Pairings: every node of a graph matched with a neighbour."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.shapes import normalise
from dbp.solvers.graphs import Edges, edge_tensor
from dbp.solvers.highs import maximise
from dbp.solvers.instances import fields, host_rows, naming
from dbp.solvers.listing import listed
from dbp.solvers.workers import call_each

_NONE = "the graph has no perfect matching"


@dataclass(frozen=True)
class PerfectMatching(Solver):
    """The perfect matching of most score, on any undirected graph: theta and y of `[edges]`, y = 1 on matched edges.

        max <theta, y>   subject to   sum_{e at v} y_e = 1 for each node v,   y binary

    A bipartite graph (a grid) is solved as an assignment, any other as an integer program by HiGHS. Which of several
    optima is returned is theirs to say, the same in every call; of parallel edges of one score, the first.

    An `instance` is a mapping `{"edges": tensor}` instead of the solver's own: `[edges, 2]` for all rows, or
    `[*batch, edges, 2]` with a graph for each, where a pair of -1 is padding.

    Args:
        edges: pairs of nodes, numbered from 0 without gaps.
        workers: processes, at least two, to solve the rows in; 0 solves them here.

    Raises:
        UserError: a graph has an odd number of nodes or no perfect matching; it names the row.

    Source: Edmonds, "Maximum matching and a polyhedron with 0,1-vertices", 1965; as a layer: Vlastelica et al.,
    "Differentiation of blackbox combinatorial solvers", ICLR 2020, section 4.3.
    """

    binary = True
    instance_keys = ("edges",)
    edges: Edges = ()
    workers: int = 0

    @ops.eager  # SciPy takes NumPy's arrays
    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        leading, n = theta.shape[:-1], theta.shape[-1]
        edges = self._edges(instance, leading, n).numpy()
        scores = host_rows(self, theta)
        calls = [(row, edges if edges.ndim == 2 else edges[index]) for index, row in enumerate(scores)]
        y = call_each(_pair, calls, naming(self, leading), self.workers)
        return torch.from_numpy(np.reshape(y, theta.shape)).to(theta)

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return normalise(theta, 1)

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        leading, n = y.shape[:-1], y.shape[-1]
        flat = y.reshape(math.prod(leading), n)
        tail, head = self._edges(instance, leading, n).to(y.device).expand(len(flat), n, 2).unbind(-1)
        usable = (tail >= 0) & (tail != head)
        if not flat.numel():
            return torch.ones(leading, dtype=torch.bool, device=y.device)
        last = torch.maximum(tail, head).amax(1, keepdim=True)
        node = torch.arange(int(last.max()) + 1, device=y.device)
        degree = torch.zeros(len(flat), len(node), dtype=y.dtype, device=y.device)
        for end in (tail, head):
            degree.scatter_add_(1, end.clamp_min(0), flat * usable)
        whole = ((degree == 1) | (node > last)).all(1)
        return (whole & ((flat == 0) | (flat == 1) & usable).all(1)).reshape(leading)

    def vertices(self, shape: Sequence[int], instance: Instance = None) -> Tensor:
        """All perfect matchings: `[count, edges]`."""
        edges = self._edges(instance, (), shape[0]).tolist()
        found = listed(_matchings(edges, frozenset(range(1 + max(map(max, edges), default=-1)))))
        y = torch.zeros(len(found), shape[0])
        for row, matching in zip(y, found, strict=True):
            row[list(matching)] = 1
        return y

    def _edges(self, instance: Any, leading: Sequence[int], n: int) -> Tensor:
        return edge_tensor(fields(self, instance, "edges")["edges"], leading, "cpu", n)


def _pair(scores: np.ndarray, edges: np.ndarray) -> np.ndarray:
    nodes = int(edges.max(initial=-1)) + 1
    usable = np.flatnonzero((edges[:, 0] >= 0) & (edges[:, 0] != edges[:, 1]))
    if nodes % 2:
        raise UserError(f"{_NONE}: its nodes are odd in number, {nodes}")
    sides = _sides(edges[usable].tobytes(), nodes)
    y = np.zeros(len(edges), dtype=bool)  # an eighth of the memory of what the scores became
    solve = partial(_program, edges=edges[usable]) if sides is None else partial(_assign, sides=sides)
    y[usable] = solve(scores[usable], nodes)
    return y


def _assign(scores: np.ndarray, nodes: int, sides: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment

    edge = np.full((nodes // 2, nodes // 2), -1)
    order = np.lexsort((-np.arange(len(scores)), scores))  # of parallel edges the best comes last, and stays
    edge[sides[0][order], sides[1][order]] = order
    try:
        chosen = edge[linear_sum_assignment(np.where(edge < 0, np.inf, -scores[edge]))]
    except ValueError as error:  # scipy's word for infeasible
        raise UserError(_NONE) from error
    y = np.zeros(len(scores))
    y[chosen] = 1
    return y


def _program(scores: np.ndarray, nodes: int, edges: np.ndarray) -> np.ndarray:
    from scipy.sparse import csr_array

    n = len(scores)
    incidence = csr_array((np.ones(2 * n), (edges.T.ravel(), np.tile(np.arange(n), 2))), shape=(nodes, n))
    try:
        return maximise(
            scores, np.zeros((0, n)), np.zeros(0), incidence, np.ones(nodes), np.zeros(n), np.ones(n), np.ones(n)
        )
    except UserError as error:
        raise UserError(_NONE) from error


@lru_cache(maxsize=64)
def _sides(pairs: bytes, nodes: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The left and right ends of each edge of a bipartite graph; None for any other graph.

    Two copies of each node, an edge from either copy of one end to the other copy of the other: if a graph is
    bipartite, then no node is connected with its copy.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b = np.frombuffer(pairs, dtype=np.int64).reshape(-1, 2).T
    ends = (np.concatenate([a, a + nodes]), np.concatenate([b + nodes, b]))
    cover = coo_array((np.ones(2 * len(a)), ends), shape=(2 * nodes, 2 * nodes))
    part = connected_components(cover, directed=False)[1].reshape(2, nodes)
    if (part[0] == part[1]).any():
        return None
    on_right = part[0] > part[1]
    if 2 * on_right.sum() != nodes:
        raise UserError(_NONE)
    place = np.where(on_right, on_right.cumsum(), (~on_right).cumsum()) - 1
    return place[np.where(on_right[a], b, a)], place[np.where(on_right[a], a, b)]


def _matchings(edges: list[list[int]], free: frozenset[int]) -> Iterator[tuple[int, ...]]:
    if not free:
        yield ()
        return
    node = min(free)
    for index, (a, b) in enumerate(edges):
        if node in (a, b) and a != b and {a, b} <= free:
            yield from ((index, *rest) for rest in _matchings(edges, free - {a, b}))
