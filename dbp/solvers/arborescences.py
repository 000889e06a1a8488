"""Spanning trees of a directed graph, from a root to every node."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.shapes import standardise, unexpanded
from dbp.solvers.gibbs import sequential
from dbp.solvers.graphs import Edges, edge_tensor, require_scores
from dbp.solvers.instances import MOST_NODES, count_nodes, fields, naming, per_row, require_whole, whole
from dbp.solvers.listing import listed
from dbp.solvers.parts import in_parts
from dbp.solvers.subsets import logaddexp
from dbp.solvers.trees import absent, log_weights


@dataclass(frozen=True)
class Arborescence(Solver):
    """The maximum spanning arborescence: `argmax <theta, y>` over the 0/1 vectors of the edges of directed trees that
    lead from a root to every node (edges point away from it), whatever the signs of the scores.

    theta is `[*leading, edges]`. By the algorithm of Chu, Liu and Edmonds, in float64: each node takes the best edge
    that enters it, of equals the one of lowest index, and cycles are contracted until there is none. The nodes are
    those that the edges name.

    The log-partition is the log of a determinant by Tutte's matrix-tree theorem, eliminated in logarithms as that of
    `SpanningTree`; it takes nodes^3 memory. The relaxation are the marginals of theta / temperature. Source: Koo et
    al., "Structured prediction models via the matrix-tree theorem", EMNLP 2007.

    An `instance` is a mapping of any of these names to tensors, which take the place of the solver's own: `edges` of
    `[edges, 2]` for all rows, or of `[*batch, edges, 2]` with a graph for each, where a pair of -1 is padding; `root`
    of `[*batch]`.

    Args:
        edges: pairs (tail, head) of nodes numbered from 0.
        root: the node that no edge enters; -1 for whichever gives the best tree.

    Raises:
        UserError: not every node can be reached from the root, or from any one node; it names the row.

    Source: Edmonds, "Optimum branchings", Journal of Research of the National Bureau of Standards 71B, 1967.
    """

    binary = True
    instance_keys = ("edges", "root")
    edges: Edges = ()
    root: int = -1
    _edges: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_whole(self, -1, "root", most=MOST_NODES - 1)
        edges = edge_tensor(self.edges, (), "cpu")
        object.__setattr__(self, "edges", tuple(map(tuple, edges.tolist())))  # a configuration has lists
        object.__setattr__(self, "_edges", edges)

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        return arborescence(ops.widen(theta), *self._graph(theta, instance)).to(theta)

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return standardise(theta, 1)

    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0, instance: Instance = None) -> Tensor:
        return self.marginals(theta / temperature, instance)

    def log_partition(self, theta: Tensor, instance: Instance = None) -> Tensor:
        self(theta.detach(), instance)  # raises where there is no tree
        if not theta.numel():
            return theta.sum(-1)
        return _log_partition(theta.double(), *self._graph(theta, instance)).to(theta)

    def sample_gibbs(
        self, theta: Tensor, generator: torch.Generator | None = None, instance: Instance = None
    ) -> Tensor:
        return sequential(self, theta, generator, instance)

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        # With a tree's own marks as scores no other tree has as many.
        return (self.solve(y.nan_to_num(), instance) == y).all(-1)

    def vertices(self, shape: Sequence[int], instance: Instance = None) -> Tensor:
        empty = torch.zeros(tuple(shape))
        size = int(self(empty, instance).sum())
        heads = self._graph(empty, instance)[0][:, 1].tolist()
        entering = [[-1, *(i for i, head in enumerate(heads) if head == node)] for node in sorted({*heads} - {-1})]
        chosen = torch.tensor([c for c in listed(itertools.product(*entering)) if len(c) - c.count(-1) == size])
        marks = torch.zeros(len(chosen), 1 + shape[0]).scatter(1, 1 + chosen.reshape(-1, len(entering)), 1)[:, 1:]
        return marks[self.is_feasible(marks, instance)]

    def _graph(self, theta: Tensor, instance: Any) -> tuple[Tensor, Tensor]:
        """Edges of `[*leading, edges, 2]` and roots of `[*leading]`, views where all rows share them."""
        leading, n = theta.shape[:-1], theta.shape[-1]
        given = fields(self, instance, "edges", "root")
        own = given["edges"] is self.edges
        edges = self._edges.to(theta.device) if own else edge_tensor(given["edges"], leading, theta.device)
        require_scores(edges, n)
        root = whole(given["root"], "Arborescence: root", theta.device)
        wide = edges.expand(*leading, n, 2) if edges.ndim == 2 else edges.reshape(*leading, n, 2)
        return wide, per_row(root, 0, leading, "root").reshape(leading)


@ops.operator
def arborescence(theta: Tensor, edges: Tensor, root: Tensor) -> Tensor:
    """`Arborescence` of `[*leading, edges]`, by the kernel where there is one for theta."""
    theta, n, root = theta.contiguous(), theta.shape[-1], root.contiguous()
    y = ops.empty_like(theta)
    if not theta.numel():
        return y
    graphs = unexpanded(edges, 2)
    nodes = count_nodes(graphs, root)
    if ops.serves(theta):
        status = ops.call("arborescence", (theta, graphs, root, y), root.numel(), n, nodes, len(graphs))
        lost = [status // 8] if status else []
    else:
        flat = theta.reshape(-1, n), edges.reshape(-1, n, 2), root.reshape(-1)
        rows, failed = in_parts(arborescence_torch, 96 * (n + nodes), *flat, nodes)
        y, lost = rows.reshape(theta.shape), failed.nonzero().flatten().tolist()
    if lost:
        start = int(root.flatten()[lost[0]])
        origin = f"node {start}" if start >= 0 else "any one node"
        row = naming("Arborescence", theta.shape[:-1])(lost[0])
        raise UserError(f"{row}: the edges do not lead from {origin} to every other")
    return y


def arborescence_torch(theta: Tensor, edges: Tensor, root: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """`Arborescence` of `[rows, edges]` on any device, all rows at once; and which rows have no tree.

    An edge more leads to each node that may be the root, from outside; it is taken only where there is no other.
    """
    rows, n = theta.shape
    every, edge = (torch.arange(size, device=theta.device) for size in (nodes + 1, n + nodes))
    here = _nodes_of(edges, root, nodes)
    label = every.expand(rows, -1)  # of the nodes that are contracted into one the least; `nodes` is outside
    start, outside = label[:, :nodes], label[:, nodes:].expand(-1, nodes)
    tail, head = torch.cat([edges[..., 0], outside], 1), torch.cat([edges[..., 1], start], 1)
    anchor = root.unsqueeze(1)
    usable = torch.cat([(edges >= 0).all(-1) & (head[:, :n] != anchor), here & ((anchor < 0) | (start == anchor))], 1)
    tail, head = tail.clamp_min(0), head.clamp_min(0)
    weight = torch.cat([theta.double(), theta.new_zeros(rows, nodes, dtype=torch.float64)], 1)
    levels, lost = [], torch.zeros_like(here[:, 0])
    while True:
        a, b = label.gather(1, tail), label.gather(1, head)
        inner = usable & (a != b)
        entered = torch.zeros_like(label, dtype=torch.int32).scatter_reduce(1, b[:, :n], inner[:, :n].int(), "amax")
        inner[:, n:] &= entered.gather(1, b[:, n:]) == 0
        low = torch.full_like(label, -torch.inf, dtype=torch.float64)
        best = low.scatter_reduce(1, b, weight.masked_fill(~inner, -torch.inf), "amax")
        tight = inner & (weight == best.gather(1, b))
        into = torch.full_like(label, n + nodes).scatter_reduce(1, b, torch.where(tight, edge, n + nodes), "amin")
        top = here & (label[:, :nodes] == start)
        lost = lost | (top & (into[:, :nodes] == n + nodes)).any(1)
        levels.append((label, into))
        weight = weight - torch.where(best.isinf(), 0, best).gather(1, b)
        before = torch.where(into < n, a.gather(1, into.clamp_max(n - 1)), nodes)
        least = _least_of_cycle(before)
        if not (least < every).any():
            break
        label = least.gather(1, label)
    y = torch.zeros(rows, n + nodes + 1, dtype=theta.dtype, device=theta.device)
    y.scatter_(1, _expand(levels, head)[:, :nodes], 1)
    return y[:, :n].contiguous(), lost | (y[:, n:-1].sum(1) > 1)


def _least_of_cycle(before: Tensor) -> Tensor:
    """For each node on a cycle of `v -> before[v]` the least on it, for another node itself."""
    every = torch.arange(before.shape[1], device=before.device).expand_as(before)
    least = torch.minimum(every, before)
    for _ in range(before.shape[1].bit_length()):  # twice as many steps each time: all end on a cycle
        least = torch.minimum(least, least.gather(1, before))
        before = before.gather(1, before)
    return torch.where(torch.zeros_like(before).scatter(1, before, 1) == 1, least, every)


def _expand(levels: list[tuple[Tensor, Tensor]], head: Tensor) -> Tensor:
    """The edge into each node, from the nodes' labels and the edges into these, round by round."""
    label, chosen = levels[-1]
    for below, into in reversed(levels[:-1]):  # the edge into a cycle takes the place of the one that its head had
        outer = chosen.gather(1, label)
        at = below.gather(1, head.gather(1, outer.clamp_max(head.shape[1] - 1)))
        every = torch.arange(at.shape[1], device=at.device)
        label, chosen = below, torch.where(at == every, outer, into)
    return chosen


def _log_partition(theta: Tensor, edges: Tensor, root: Tensor) -> Tensor:
    """`log sum_trees exp <theta, y>` of `[*leading, edges]`.

    Node 0 is outside, and leads to the root and to nodes that the row's graph does not have. A pair without an edge
    gets a weight so small that a tree has as few of them as it can: none, or one way in if any node may be the root.
    """
    nodes = count_nodes(edges, root)
    size, leading = nodes + 1, theta.shape[:-1]
    tail, head = edges.unbind(-1)
    pair = torch.where((edges >= 0).all(-1), (tail + 1) * size + head + 1, 0)  # padding is a loop, never read
    missing, low = absent(theta, size), theta.detach().amin(-1, keepdim=True)
    here = _nodes_of(edges.reshape(-1, *edges.shape[-2:]), root.reshape(-1), nodes).reshape(*leading, nodes)
    every = torch.arange(nodes, device=theta.device)
    ways_in = ~here | (every == root.unsqueeze(-1))
    first = F.pad(torch.where(ways_in, low, missing), (1, 0))
    weights = torch.cat([first.unsqueeze(-2), log_weights(theta, pair, size, missing)[..., 1:, :]], -2)
    anywhere = torch.where(root < 0, missing[..., 0] + (1 + (~here).sum(-1)).to(theta).log(), 0)
    result = -(ways_in.sum(-1) * low[..., 0] + anywhere)
    for k in range(size - 1, 0, -1):
        total = weights[..., :k, k].logsumexp(-1)
        through = weights[..., :k, k, None] + weights[..., k, None, :k] - total[..., None, None]
        weights = logaddexp(weights[..., :k, :k], through)
        result = result + total
    return result


def _nodes_of(edges: Tensor, root: Tensor, nodes: int) -> Tensor:
    """True for the nodes that each row's graph has, `[rows, nodes]`."""
    ends = torch.where((edges >= 0).all(-1, keepdim=True), edges, nodes).flatten(1)
    ends = torch.cat([ends, torch.where(root < 0, nodes, root).unsqueeze(1)], 1)
    return torch.zeros(len(ends), nodes + 1, dtype=torch.bool, device=ends.device).scatter_(1, ends, True)[:, :nodes]
