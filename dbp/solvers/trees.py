"""Spanning trees of a graph whose edges are scored."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.shapes import standardise, unexpanded
from dbp.solvers.gibbs import sequential
from dbp.solvers.graphs import edge_tensor
from dbp.solvers.instances import MOST_NODES, count_nodes, naming, require_whole, whole
from dbp.solvers.listing import listed
from dbp.solvers.parts import in_parts
from dbp.solvers.subsets import logaddexp


@dataclass(frozen=True)
class SpanningTree(Solver):
    """The maximum spanning tree: `argmax <theta, y>` over the 0/1 vectors of the edges of spanning trees of a graph.

    theta is `[*leading, edges]`. A graph in several parts gets a tree for each (a spanning forest), whatever the signs
    of the scores. Among equal scores the edge of the lower index is preferred. Loops are never chosen.

    The log-partition is the log of a determinant (Kirchhoff's matrix-tree theorem). It is found by eliminating one node
    after the other on log-weights, `w_ij + w_ik w_kj / sum_l w_kl`: only sums of positive numbers, so that it and the
    marginals are exact for scores of any range. Takes nodes^3 memory. The relaxation are the marginals of
    theta / temperature.

    Args:
        edges: pairs of nodes, counted from 0: one undirected graph for all inputs. An instance may have others: a
            tensor of integers `[edges, 2]` for all, or `[*leading, edges, 2]` with a graph for each.
        nodes: how many there are; by default as many as the edges name.
    """

    binary = True
    instance_keys = ("edges",)
    edges: tuple[tuple[int, int], ...] | None = None
    nodes: int | None = None
    _ends: Tensor | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_whole(self, 0, "nodes", most=MOST_NODES)
        if self.edges is None:
            return
        ends = edge_tensor(self.edges, (), "cpu")
        object.__setattr__(self, "edges", tuple(map(tuple, ends.tolist())))  # a configuration has lists
        object.__setattr__(self, "_ends", ends)
        nodes = self.nodes or count_nodes(ends)
        for pair in self.edges:
            if min(pair) < 0 or max(pair) >= nodes:
                raise UserError(f"SpanningTree: edge {list(pair)} is not a pair of nodes in 0..{nodes - 1}")

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        wide, ends = ops.widen(theta), self._graph(theta, instance)
        return (spanning_tree if ops.serves(wide) else spanning_tree_torch)(wide, ends, self.nodes or 0).to(theta)

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return standardise(theta, 1)

    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0, instance: Instance = None) -> Tensor:
        return self.marginals(theta / temperature, instance)

    def log_partition(self, theta: Tensor, instance: Instance = None) -> Tensor:
        ends = self._graph(theta, instance)
        nodes = self.nodes or count_nodes(ends)
        return _log_partition(theta.double(), ends, nodes).to(theta) if theta.numel() else theta.sum(-1)

    def sample_gibbs(
        self, theta: Tensor, generator: torch.Generator | None = None, instance: Instance = None
    ) -> Tensor:
        return sequential(self, theta, generator, instance)

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        size = self.solve(torch.zeros_like(y), instance).sum(-1)
        acyclic = (self.solve(y, instance) * y).sum(-1)  # how many edges of y a forest can have
        return ((y == 0) | (y == 1)).all(-1) & (y.sum(-1) == size) & (acyclic == size)

    def vertices(self, shape: Sequence[int], instance: Instance = None) -> Tensor:
        empty = torch.zeros(tuple(shape))
        size = int(self.solve(empty, instance).sum())
        chosen = torch.tensor(listed(itertools.combinations(range(*shape), size)), dtype=torch.int64)
        chosen = chosen.reshape(math.comb(shape[0], size), size)
        subsets = torch.zeros(len(chosen), *shape).scatter(1, chosen, 1)
        return subsets[self.is_feasible(subsets, instance)]

    def _graph(self, theta: Tensor, instance: Any) -> Tensor:
        """The ends of the edges, `[*leading, edges, 2]`; without a copy if all inputs have one graph."""
        ends: Any = (instance or {}).get("edges", self._ends)
        if ends is None:
            raise UserError("SpanningTree has no graph: give edges, as an option or in the instance")
        wrong = not isinstance(ends, Tensor) or ends.is_floating_point() or ends.ndim < 2
        if wrong or ends.shape[-2:] != (theta.shape[-1], 2):
            got = list(ends.shape) if isinstance(ends, Tensor) else type(ends).__name__
            raise UserError(
                f"SpanningTree: {theta.shape[-1]} scores need edges of integers, [{theta.shape[-1]}, 2], got {got}"
            )
        if instance is not None:
            ends = whole(ends, "SpanningTree: nodes", theta.device, bounds=None)  # the kernel names the row
        return ends.to(theta.device).expand(*theta.shape, 2)


@ops.operator
def spanning_tree(theta: Tensor, ends: Tensor, nodes: int) -> Tensor:
    """`SpanningTree` by the kernel: Kruskal's method with a radix sort. Zero nodes: as many as `ends` names."""
    theta = theta.contiguous()
    y = ops.empty_like(theta)
    if theta.numel():
        edges = theta.shape[-1]
        ends = unexpanded(ends, 2)
        nodes = nodes or count_nodes(ends)
        status = ops.call("spanning_tree", (theta, ends, y), theta.numel() // edges, edges, nodes, len(ends))
        if status:
            raise _outside(status // 8, theta.shape[:-1], nodes)
    return y


@ops.operator
def spanning_tree_torch(theta: Tensor, ends: Tensor, nodes: int) -> Tensor:
    """`SpanningTree` on any device: Boruvka's method, all parts of all graphs at once."""
    if not theta.numel():
        return torch.empty_like(theta)
    nodes = nodes or count_nodes(ends)
    if (outside := ((ends < 0) | (ends >= nodes)).flatten(-2).any(-1)).any():
        raise _outside(int(outside.flatten().nonzero()[0]), theta.shape[:-1], nodes)
    edges = theta.shape[-1]
    (y,) = in_parts(_boruvka, 80 * (edges + nodes), theta.reshape(-1, edges), ends.reshape(-1, edges, 2), nodes)
    return y.reshape(theta.shape)


def _boruvka(theta: Tensor, ends: Tensor, nodes: int) -> tuple[Tensor]:
    """The trees of `[rows, edges]`, as all tensors here are."""
    edges = theta.shape[-1]
    order = theta.argsort(descending=True, stable=True)
    rank = order.argsort()
    a, b = ends.unbind(-1)
    label = torch.arange(nodes, device=theta.device).expand(len(order), nodes)
    part, y = label, torch.zeros(len(order), edges + 1, dtype=theta.dtype, device=theta.device)
    rounds = max(nodes - 1, 1).bit_length()
    for _ in range(rounds):  # each leaves at most half of the parts
        left, right = part.gather(1, a), part.gather(1, b)
        key = torch.where(left == right, edges, rank)
        best = torch.full_like(label, edges).scatter_reduce(1, left, key, "amin").scatter_reduce(1, right, key, "amin")
        found = best < edges
        edge = order.gather(1, best.clamp_max(edges - 1))
        y.scatter_(1, torch.where(found, edge, edges), 1)
        parent = torch.where(found, left.gather(1, edge) + right.gather(1, edge) - label, label)
        mutual = parent.gather(1, parent) == label
        parent = torch.where(mutual & (label < parent), label, parent)
        for _ in range(rounds):
            parent = parent.gather(1, parent)
        part = parent.gather(1, part)
    return (y[:, :edges].contiguous(),)


def gradient(log_partition: Callable[..., Tensor], theta: Tensor, instance: Instance) -> Tensor:
    """The marginals, differentiable: the gradient of the log-partition, taken in float64."""
    if not theta.numel():
        return theta.clone()
    total = torch.func.grad(lambda scores: log_partition(scores, instance).sum())
    return total(theta.double()).to(theta)


def _log_partition(theta: Tensor, ends: Tensor, nodes: int) -> Tensor:
    """`log sum_trees exp <theta, y>` of `[*leading, edges]`.

    Pairs without an edge get a weight so small that a tree has as few of them as it can. What these few add is known.
    """
    pair = ends.amin(-1) * nodes + ends.amax(-1)  # loops are on the diagonal, which is never read
    missing = absent(theta, nodes)
    weights = log_weights(theta, pair, nodes, missing)
    weights = torch.maximum(weights, weights.mT)
    result = -_joints(ends, missing[..., 0], nodes)
    for k in range(nodes - 1, 0, -1):
        row = weights[..., k, :k]
        total = row.logsumexp(-1)
        through = row.unsqueeze(-1) + row.unsqueeze(-2) - total[..., None, None]
        weights = logaddexp(weights[..., :k, :k], through)
        result = result + total
    return result


def _joints(ends: Tensor, missing: Tensor, nodes: int) -> Tensor:
    """The log-weight of all ways to join the parts of a graph to one, by pairs without an edge.

    Parts of n_1, ..., n_c nodes, n in all, can be joined in `n^(c - 2) n_1 ... n_c` ways, by c - 1 pairs each.
    """
    near = torch.eye(nodes, device=ends.device).expand(*ends.shape[:-2], nodes, nodes).flatten(-2)
    tail, head = ends.unbind(-1)
    for pair in (tail * nodes + head, head * nodes + tail):
        near = near.scatter(-1, pair, 1)
    near = near.unflatten(-1, (nodes, nodes))
    for _ in range(nodes.bit_length()):
        near = (near @ near).clamp_max(1)
    size = near.sum(-1).to(missing)  # of the part of each node
    parts = (1 / size).sum(-1).round()
    return (parts - 1) * missing + (parts - 2) * math.log(max(nodes, 1)) + (size.log() / size).sum(-1)


def absent(theta: Tensor, nodes: int) -> Tensor:
    """A log-weight so small that no tree which can do without it has a share worth counting, `[*leading, 1]`."""
    low, high = theta.detach().amin(-1, keepdim=True), theta.detach().amax(-1, keepdim=True)
    return low - nodes * (high - low + math.log(nodes) + 1) - 50


def log_weights(theta: Tensor, pair: Tensor, nodes: int, absent: Tensor) -> Tensor:
    """The log of the summed weights of the edges of each pair `a * nodes + b`, `[*leading, nodes, nodes]`."""
    top = absent.expand(*theta.shape[:-1], nodes * nodes).scatter_reduce(-1, pair, theta.detach(), "amax")
    total = (absent - top).exp().scatter_add(-1, pair, (theta - top.gather(-1, pair)).exp())
    return (top + total.log()).unflatten(-1, (nodes, nodes))


def _outside(row: int, leading: torch.Size, nodes: int) -> UserError:
    return UserError(f"{naming('SpanningTree', leading)(row)}: an edge leads to a node that is not in 0..{nodes - 1}")
