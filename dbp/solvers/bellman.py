"""Bellman and Ford's shortest paths, for a batch of costs or of graphs."""

from typing import NamedTuple

import torch
from torch import Tensor

from dbp.solvers.parts import in_parts


class Graphs(NamedTuple):
    """The graph and the ends of each row's path; rows may share a graph.

    All rows of one graph are the columns of one table of distances, so that a step handles a node for all of them at
    once. Graphs of their own are one graph, their disjoint union, with one column.
    """

    edges: Tensor  # [edges, 2], or [rows, edges, 2]; -1 is padding
    source: Tensor  # [rows]
    target: Tensor  # [rows]
    nodes: int

    @property
    def shared(self) -> bool:
        return self.edges.ndim == 2

    def cells(self, node: Tensor) -> Tensor:
        """The index of each row's node in the flattened table."""
        row = torch.arange(len(node), device=node.device)
        return node * len(node) + row if self.shared else row * self.nodes + node

    def union(self) -> tuple[Tensor, Tensor]:
        """Tails and heads as rows of the table; padding becomes a loop."""
        edges = self.edges.clamp_min(0)
        if not self.shared:
            rows = torch.arange(len(edges), device=edges.device)
            edges = (edges + self.nodes * rows.reshape(-1, 1, 1)).flatten(0, 1)
        tail, head = edges.T.contiguous()
        return tail, head

    def by_edge(self, x: Tensor) -> Tensor:
        """`[rows, edges]` as the table has it, an edge a row."""
        return x.T.contiguous() if self.shared else x.reshape(-1, 1)

    def by_row(self, x: Tensor) -> Tensor:
        """The table as `[rows, nodes]`."""
        return x.T if self.shared else x.reshape(-1, self.nodes)


def paths(graphs: Graphs, cost: Tensor) -> tuple[Tensor, ...]:
    """Shortest paths for costs of `[rows, edges]`.

    Returns:
        0/1 edges, `[rows, edges]`; which rows have a cycle of negative cost; which have no path of finite cost.
    """

    def of_rows(cost: Tensor, source: Tensor, target: Tensor, edges: Tensor = graphs.edges) -> tuple[Tensor, ...]:
        return _paths(Graphs(edges, source, target, graphs.nodes), cost)

    each = 40 * (graphs.edges.shape[-2] + graphs.nodes)
    own = () if graphs.shared else (graphs.edges,)
    return in_parts(of_rows, each, cost, graphs.source, graphs.target, *own)


def _paths(graphs: Graphs, cost: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    padding = (graphs.edges < 0).any(-1)
    cost = graphs.by_edge(cost.masked_fill(padding, torch.inf) if padding.any() else cost)
    tail, head = graphs.union()
    distance, endless = _relax(graphs, tail, head, cost)
    y, arrived = _trace(graphs, _last_edges(graphs, tail, head, cost, distance))
    lost = ~distance.take(graphs.cells(graphs.target)).isfinite()
    return y, graphs.by_row(endless).any(1) | ~(arrived | lost), lost


def _from_source(graphs: Graphs, like: Tensor) -> Tensor:
    """A table that is zero at each row's source and infinite elsewhere."""
    columns = like.shape[1]
    table = like.new_full((len(graphs.source) * graphs.nodes // max(columns, 1), columns), torch.inf)
    return table.put_(graphs.cells(graphs.source), like.new_zeros(len(graphs.source)))


def _relax(graphs: Graphs, tail: Tensor, head: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """Each node's distance, after at most nodes - 1 steps; and where a cycle makes it fall for ever."""
    distance = _from_source(graphs, cost)
    falling = torch.zeros_like(distance, dtype=torch.bool)
    fell = (distance == 0).any(1)
    for _ in range(graphs.nodes):
        active = fell[tail].nonzero().squeeze(1)
        if not len(active):
            return distance, torch.zeros_like(falling)
        reached = torch.zeros_like(fell).index_fill(0, head[active], True)
        nodes, place = reached.nonzero().squeeze(1), reached.cumsum(0) - 1
        before, through = distance[nodes], distance[tail[active]] + cost[active]
        into = place[head[active]].unsqueeze(1).expand_as(through)
        distance[nodes] = best = before.scatter_reduce(0, into, through, "amin")
        falling = torch.zeros_like(falling).index_copy(0, nodes, best < before)
        fell = falling.any(1)
    return distance, falling


def _last_edges(graphs: Graphs, tail: Tensor, head: Tensor, cost: Tensor, distance: Tensor) -> Tensor:
    """The edge that ends the path to each node, as its row counts edges; their number where there is none.

    Of edges on shortest paths that of lowest index among those from nodes which fewest edges lead to: edges of cost
    zero, or of one lost to rounding, could lead round in a circle.
    """
    n, into = graphs.edges.shape[-2], head.unsqueeze(1).expand_as(cost)
    tight = (distance[tail] + cost == distance[head]) & distance[tail].isfinite()
    steps = _from_source(graphs, cost)
    while True:
        through = torch.where(tight, steps[tail] + 1, torch.inf)
        fewer = steps.scatter_reduce(0, into, through, "amin")
        if torch.equal(fewer, steps):
            break
        steps = fewer
    index = torch.arange(n, device=cost.device).repeat(len(tail) // max(n, 1)).unsqueeze(1)
    first = tight & (steps[tail] + 1 == steps[head])
    none = torch.full_like(distance, n, dtype=torch.long)
    return none.scatter_reduce(0, into, torch.where(first, index, n), "amin")


def _trace(graphs: Graphs, last: Tensor) -> tuple[Tensor, Tensor]:
    """From each target back to the source; and the rows where that ends there, which only rounding can prevent."""
    node, rows, n = graphs.target, len(graphs.target), graphs.edges.shape[-2]
    row = torch.arange(rows, device=node.device)
    y = torch.zeros(rows, n + 1, device=node.device)
    tails = graphs.edges[..., 0].expand(rows, n)
    for _ in range(graphs.nodes):
        edge = last.take(graphs.cells(node))
        y[row, edge] = 1
        if (edge == n).all():
            break
        node = torch.where(edge < n, tails[row, edge.clamp_max(n - 1)], node)
    return y[:, :n], node == graphs.source
