"""Graphs: shortest paths along the edges of a directed graph."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.shapes import normalise, unexpanded
from dbp.solvers.bellman import Graphs, paths
from dbp.solvers.instances import MOST_NODES, count_nodes, fields, naming, per_row, require_whole, whole
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
        clip: takes positive scores as zero, as `GridPath` does: costs that noise or a step of blackbox made negative
            make every undirected edge a cycle of negative cost.

    Raises:
        UserError: the target cannot be reached, or the source reaches a cycle of negative cost; it names the row.

    Source: Bellman, "On a routing problem", Quarterly of Applied Mathematics 16, 1958.
    """

    binary = True
    instance_keys = ("edges", "source", "target")
    edges: Edges = ()
    source: int = 0
    target: int = -1
    clip: bool = False

    def __post_init__(self) -> None:
        require_whole(self, -1, "source", "target", most=MOST_NODES - 1)

    @property
    def nonpositive(self) -> bool:  # type: ignore[override]
        return not self.clip

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        scores = ops.widen(theta)
        if self.clip:
            scores = scores.clamp_max(0)
        # The graph of the options is looked at once, which takes as long as a small batch.
        y = _by_kernel(self._own, scores) if instance is None and not ops.traced(theta) else None
        return (graph_path(scores, *self._problem(theta, instance)) if y is None else y).to(theta)

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return normalise(theta, 1)

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        leading, n = y.shape[:-1], y.shape[-1]
        edges, source, target, nodes = _numbered(*self._problem(y, instance))
        tail, head = edges.expand(len(source), n, 2).unbind(-1)
        chosen, at, steps = y.reshape(len(source), n) == 1, source, torch.zeros_like(source)
        for _ in range(nodes):
            leaving = chosen & (tail == at.unsqueeze(1))
            going = leaving.any(1) & (at != target)
            along = (leaving * head).sum(1)
            at, steps = torch.where(going, along, at), steps + going
        binary = ((y == 0) | (y == 1)).all(-1)
        return binary & ((at == target) & (steps == chosen.sum(1))).reshape(leading)

    def vertices(self, shape: Sequence[int], instance: Instance = None) -> Tensor:
        """All simple paths from the source to the target: `[count, edges]`."""
        edges, source, target, _ = _numbered(*self._problem(torch.empty(tuple(shape)), instance))
        pairs, start, end = edges.tolist(), int(source), int(target)
        tried = listed(_simple_paths(pairs, start, end, ()))
        found = [path for path in tried if (pairs[path[-1]][1] if path else start) == end]
        y = torch.zeros(len(found), shape[0])
        for row, path in zip(y, found, strict=True):
            row[list(path)] = 1
        return y

    def _problem(self, theta: Tensor, instance: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Edges of `[*leading, edges, 2]` and ends of `[*leading]`, views where all rows share them."""
        leading, n = theta.shape[:-1], theta.shape[-1]
        given = fields(self, instance, "edges", "source", "target")
        edges = edge_tensor(given["edges"], leading, theta.device, n)
        source, target = (
            per_row(whole(given[name], f"GraphPath: {name}", theta.device), 0, leading, name)
            for name in ("source", "target")
        )
        wide = edges.expand(*leading, n, 2) if edges.ndim == 2 else edges.reshape(*leading, n, 2)
        return wide, source.reshape(leading), target.reshape(leading)

    @cached_property
    def _own(self) -> Graphs:
        """The graph of the options, for one row."""
        return _numbered(
            edge_tensor(self.edges, (), "cpu"), torch.tensor(int(self.source)), torch.tensor(int(self.target))
        )


@ops.operator
def graph_path(theta: Tensor, edges: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """`GraphPath` of `[*leading, edges]`, by the kernel where all rows share a graph."""
    leading, n = theta.shape[:-1], theta.shape[-1]
    if not leading.numel():
        return torch.zeros_like(theta)
    graphs = _numbered(edges, source, target)
    if (y := _by_kernel(graphs, theta)) is not None:
        return y
    y, endless, lost = paths(graphs, -theta.reshape(leading.numel(), n))
    if endless.any():
        row = naming("GraphPath", leading)(int(endless.int().argmax()))
        raise UserError(
            f"{row}: the source reaches a cycle of negative cost: scores are minus costs, theta <= 0 (softplus on the "
            "costs; less noise, or log_normal); or take clip=True; without cycles any theta will do"
        )
    if lost.any():
        row = naming("GraphPath", leading)(int(lost.int().argmax()))
        raise UserError(f"{row}: {_why_lost(graphs, theta, lost)}")
    return y.reshape(theta.shape).to(theta)


def _why_lost(graphs: Graphs, theta: Tensor, lost: Tensor) -> str:
    """Why the first of the lost rows has no path: there is none, or its costs overflow."""
    cut_off = paths(graphs, theta.new_zeros(len(lost), theta.shape[-1]))[2]
    if cut_off[lost.int().argmax()]:
        return "no path leads from the source to the target"
    most = torch.finfo(theta.dtype).max
    return (
        f"the costs of the paths to the target add up to more than {theta.dtype} holds, {most:.2g}: scale the scores "
        "down, or make them float64"
    )


def _numbered(edges: Tensor, source: Tensor, target: Tensor) -> Graphs:
    """The graph that all rows share, or one for each, and the ends of each; -1 as a target becomes the last node."""
    edges, source, target = unexpanded(edges, 2), source.reshape(-1), target.reshape(-1)
    edges = edges[0] if len(edges) == 1 else edges
    last = edges.amax((-2, -1)) if edges.numel() else torch.zeros_like(target)
    target = torch.where(target == -1, last, target)
    ends = torch.stack([source, target])
    nodes = max(count_nodes(edges, ends), 1)
    if ends.numel() and ends.min() < 0:
        raise UserError("GraphPath: source and target are nodes, numbered from 0 (or -1: the last node, as a target)")
    return Graphs(edges, source, target, nodes)


def _by_kernel(graphs: Graphs, scores: Tensor) -> Tensor | None:
    """The paths of `[*leading, edges]` scores; none where there is no kernel, or some row has no path."""
    rows, n = scores.shape[:-1].numel(), scores.shape[-1]
    if not (graphs.shared and scores.numel() and n == len(graphs.edges) and ops.serves(scores)):
        return None
    scores = scores.contiguous()
    y = ops.empty_like(scores)
    tensors = (scores, graphs.edges, graphs.source.expand(rows), graphs.target.expand(rows), y)
    return None if ops.call("graph_path", tensors, rows, n, graphs.nodes) else y


def edge_tensor(edges: Any, leading: Sequence[int], device: torch.device | str, scores: int | None = None) -> Tensor:
    """`[edges, 2]` for a graph that all rows share, `[rows, edges, 2]` for one each.

    Raises:
        UserError: these are no pairs of nodes, or not as many as there are scores.
    """
    tensor = whole(edges, "edges are pairs of nodes, numbered from 0", device)
    if isinstance(edges, Tensor) and edges.is_floating_point() and edges.numel():
        raise UserError(f"edges are pairs of nodes, integers [edges, 2]; got {edges.dtype}")
    if not tensor.numel():  # no edges, or graphs for no rows
        tensor = tensor if tensor.ndim > 2 and tensor.shape[-2] else tensor.reshape(0, 2)
    if tensor.ndim < 2 or tensor.shape[-1] != 2:
        raise UserError(f"edges are pairs of nodes, integers [edges, 2]; got shape {list(tensor.shape)}")
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
