"""Graphs: shortest paths along the edges of a directed graph."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dbp import native
from dbp.core import Solver
from dbp.errors import UserError
from dbp.shapes import normalise
from dbp.solvers.bellman import Graphs, paths
from dbp.solvers.instances import fields, naming, per_row
from dbp.solvers.listing import listed

Edges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class GraphPath(Solver):
    """The shortest path along the edges of a directed graph: theta = -costs, y = 1 on the path's edges, both `[edges]`.

    By the algorithm of Bellman and Ford, for all rows at once; on the CPU by a kernel if they share the graph. Costs
    may be negative (theta positive) where no cycle's is. Of paths of one cost it takes one with fewest edges, and of
    these, from the target back, the edges of lowest index.

    An `instance` is a mapping of any of these names to tensors, which take the place of the solver's own: `edges` of
    `[edges, 2]` for all rows, or of `[*batch, edges, 2]` with a graph for each, where a pair of -1 is padding; `source`
    and `target` of `[*batch]`.

    Args:
        edges: pairs (tail, head) of nodes numbered from 0; an undirected edge is two.
        source: where the path starts.
        target: where it ends; -1 for the last node.

    Raises:
        UserError: the target cannot be reached, or the source reaches a cycle of negative cost; it names the row.

    Source: Bellman, "On a routing problem", Quarterly of Applied Mathematics 16, 1958.
    """

    binary = True
    edges: Edges = ()
    source: int = 0
    target: int = -1

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        leading, n = theta.shape[:-1], theta.shape[-1]
        graphs = self._graphs(instance, leading, n, theta.device)
        if 0 in leading:
            return torch.zeros_like(theta)
        scores = native.widen(theta)
        if (y := _by_kernel(graphs, scores)) is not None:
            return y.to(theta)
        y, endless, lost = paths(graphs, -scores.reshape(math.prod(leading), n))
        name = naming(self, leading)
        if endless.any():
            raise UserError(f"{name(int(endless.int().argmax()))}: the source reaches a cycle of negative cost")
        if lost.any():
            raise UserError(f"{name(int(lost.int().argmax()))}: no path leads from the source to the target")
        return y.reshape(theta.shape).to(theta)

    def project(self, theta: Tensor) -> Tensor:
        return normalise(theta, 1)

    def is_feasible(self, y: Tensor, instance: Any = None) -> Tensor:
        leading, n = y.shape[:-1], y.shape[-1]
        edges, source, target, nodes = self._graphs(instance, leading, n, y.device)
        tail, head = edges.expand(len(source), n, 2).unbind(-1)
        chosen, at, steps = y.reshape(len(source), n) == 1, source, torch.zeros_like(source)
        for _ in range(nodes):
            leaving = chosen & (tail == at.unsqueeze(1))
            going = leaving.any(1) & (at != target)
            along = (leaving * head).sum(1)
            at, steps = torch.where(going, along, at), steps + going
        binary = ((y == 0) | (y == 1)).all(-1)
        return binary & ((at == target) & (steps == chosen.sum(1))).reshape(leading)

    def vertices(self, shape: Sequence[int], instance: Any = None) -> Tensor:
        """All simple paths from the source to the target: `[count, edges]`."""
        edges, source, target, _ = self._graphs(instance, (), shape[0], "cpu")
        pairs, start, end = edges.tolist(), int(source), int(target)
        tried = listed(_simple_paths(pairs, start, end, ()))
        found = [path for path in tried if (pairs[path[-1]][1] if path else start) == end]
        y = torch.zeros(len(found), shape[0])
        for row, path in zip(y, found, strict=True):
            row[list(path)] = 1
        return y

    def _graphs(self, instance: Any, leading: Sequence[int], n: int, device: torch.device | str) -> Graphs:
        if instance is None:
            edges, source, target, nodes = self._own
            require_scores(edges, n)
            source, target = (end.to(device).expand(math.prod(leading)) for end in (source, target))
            return Graphs(edges.to(device), source, target, nodes)
        given = fields(self, instance, "edges", "source", "target")
        own = given["edges"] is self.edges
        edges = self._own.edges.to(device) if own else edge_tensor(given["edges"], leading, device)
        require_scores(edges, n)
        return self._numbered(edges, given["source"], given["target"], leading)

    @cached_property
    def _own(self) -> Graphs:
        """The graph of the options, for one row."""
        return self._numbered(edge_tensor(self.edges, (), "cpu"), self.source, self.target, ())

    def _numbered(self, edges: Tensor, source: Any, target: Any, leading: Sequence[int]) -> Graphs:
        """The graph with an end for each row; -1 as a target becomes the last node."""
        source, target = (
            per_row(torch.as_tensor(end, dtype=torch.long, device=edges.device), 0, leading, name)
            for end, name in ((source, "source"), (target, "target"))
        )
        last = edges.amax((-2, -1)) if edges.numel() else torch.zeros_like(target)
        target = torch.where(target == -1, last, target)
        ends = torch.stack([source, target])
        if ends.numel() and ends.min() < 0:
            raise UserError(
                "GraphPath: source and target are nodes, numbered from 0 (or -1: the last node, as a target)"
            )
        nodes = 1 + max((int(x.max()) for x in (edges, ends) if x.numel()), default=0)
        return Graphs(edges, source, target, nodes)


def _by_kernel(graphs: Graphs, scores: Tensor) -> Tensor | None:
    """The paths of `[*leading, edges]` scores; none where there is no kernel, or some row has no path."""
    if not (graphs.shared and scores.numel() and native.serves(scores)):
        return None
    scores = scores.contiguous()
    y = torch.empty_like(scores)
    tensors = (scores, graphs.edges, graphs.source, graphs.target, y)
    return None if native.call("graph_path", tensors, len(graphs.source), scores.shape[-1], graphs.nodes) else y


def edge_tensor(edges: Any, leading: Sequence[int], device: torch.device | str, scores: int | None = None) -> Tensor:
    """`[edges, 2]` for a graph that all rows share, `[rows, edges, 2]` for one each.

    Raises:
        UserError: these are no pairs of nodes, or not as many as there are scores.
    """
    tensor = torch.as_tensor(edges, dtype=torch.long, device=device)
    if not tensor.numel():
        tensor = tensor.reshape(0, 2)
    if tensor.ndim < 2 or tensor.shape[-1] != 2 or (tensor.numel() and tensor.min() < -1):
        raise UserError(f"edges are pairs of nodes numbered from 0, [edges, 2]; got shape {list(tensor.shape)}")
    if scores is not None:
        require_scores(tensor, scores)
    return tensor if tensor.ndim == 2 else per_row(tensor, 2, leading, "edges")


def require_scores(edges: Tensor, scores: int) -> None:
    """Raises a `UserError` unless there are as many scores as edges."""
    if scores != edges.shape[-2]:
        raise UserError(f"theta has {scores} scores for a graph of {edges.shape[-2]} edges; it needs one for each")


def grid_edges(height: int, width: int) -> Edges:
    """The edges of a grid between 4-neighbours, right and down, node by node; its nodes are numbered row by row."""
    right = [(node, node + 1) for node in range(height * width) if (node + 1) % width]
    down = [(node, node + width) for node in range((height - 1) * width)]
    return tuple(sorted(right + down))


def _simple_paths(edges: list[list[int]], at: int, target: int, path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Simple paths from where `path` has come to, those that do not end at the target among them."""
    yield path
    if at == target:
        return
    seen = {edges[edge][0] for edge in path}
    for index, (tail, head) in enumerate(edges):
        if tail == at and head != at and head not in seen:
            yield from _simple_paths(edges, head, target, (*path, index))
