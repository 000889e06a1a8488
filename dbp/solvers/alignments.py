"""Alignments: the nodes of one graph mapped to those of another."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.scores import dot
from dbp.shapes import normalise
from dbp.solvers.graphs import Edges, edge_tensor
from dbp.solvers.instances import fields, host_rows, naming
from dbp.solvers.listing import listed
from dbp.solvers.quadratic import align, bound, products
from dbp.solvers.workers import call_each


@dataclass(frozen=True)
class GraphMatching(Solver):
    """Graph matching: nodes i of a first graph go to different nodes k of a second one, with scores of nodes and edges.

        max  sum_ik c_ik v_ik  +  sum_{(i,j), (k,l)} d_{ij,kl} v_ik v_jl

    v matches all nodes of the smaller graph. theta is c of `[n, m]`, then d of `[edges, edges]`, both flattened:
    `torch.cat([c.flatten(-2), d.flatten(-2)], -1)`. y, of the same layout, is v, then the products v_ik v_jl. An
    integer program for HiGHS finds the optimum; for larger graphs its linear relaxation is rounded and improved by
    exchanges of two images, and `gap` says how far from the optimum that is at most. Which of several optima is
    returned is up to HiGHS, the same in every call.

    An `instance` is a mapping of any of `first` and `second` to tensors instead of the solver's own, of `[edges, 2]`
    for all rows, or of `[*batch, edges, 2]` with graphs for each, where a pair of -1 is padding.

    Args:
        nodes: the numbers of nodes n and m.
        first: the edges of the first graph, pairs of nodes numbered from 0; each has a direction.
        second: those of the second graph. For undirected graphs, list an edge once in `first`, and in both directions
            here.
        exact: the most nodes of a graph for which the optimum is found.
        workers: processes, at least two, to solve the rows in; 0 solves them here.
        time_limit: seconds for each program.

    Raises:
        UserError: malformed graphs, or a program is out of time; it names the row.

    Source: Rolinek et al., "Deep graph matching via blackbox differentiation of combinatorial solvers", ECCV 2020.
    """

    binary = True
    instance_keys = ("first", "second")
    nodes: tuple[int, int]
    first: Edges = ()
    second: Edges = ()
    exact: int = 12
    workers: int = 0
    time_limit: float | None = None

    def __post_init__(self) -> None:
        if len(self.nodes) != 2 or min(self.nodes) < 1:
            raise UserError(f"GraphMatching: nodes are two numbers, at least 1, got {self.nodes}")

    @ops.eager  # SciPy takes NumPy's arrays
    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        y = self._each(align, theta, instance, max(self.nodes) <= self.exact)
        return torch.from_numpy(np.reshape(y, theta.shape)).to(theta)

    def gap(self, theta: Tensor, y: Tensor, instance: Instance = None) -> Tensor:
        """An upper bound on what the best matching scores beyond <theta, y>, by the linear relaxation: `[*leading]`."""
        bounds = torch.tensor(self._each(bound, theta, instance), dtype=torch.float64, device=theta.device)
        return (bounds.reshape(theta.shape[:-1]) - dot(theta.double(), y.double(), 1)).to(theta)

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return normalise(theta, 1)

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        leading, n = y.shape[:-1], y.shape[-1]
        rows = y.double().reshape(math.prod(leading), n).cpu().resolve_neg().numpy()
        graphs = self._graphs(instance, leading, n)
        found = [self._is_one(row, *pair) for row, pair in zip(rows, graphs, strict=True)]
        return torch.tensor(found, dtype=torch.bool, device=y.device).reshape(leading)

    def vertices(self, shape: Sequence[int], instance: Instance = None) -> Tensor:
        n, m = self.nodes
        small, large = sorted(self.nodes)
        first, second = self._graphs(instance, (), shape[0])[0]
        y = []
        for goal in listed(itertools.permutations(range(large), small)):
            v = np.zeros((small, large))
            v[range(small), goal] = 1
            v = v if n <= m else v.T
            y.append(np.concatenate([v.ravel(), products(v.ravel(), m, first, second)]))
        return torch.tensor(np.stack(y), dtype=torch.get_default_dtype())

    def _each(self, function: Callable[..., Any], theta: Tensor, instance: Any, *options: Any) -> list[Any]:
        leading, n = theta.shape[:-1], theta.shape[-1]
        rows = zip(host_rows(self, theta), self._graphs(instance, leading, n), strict=True)
        calls = [(row, *self.nodes, *pair, *options, self.time_limit) for row, pair in rows]
        return call_each(function, calls, naming(self, leading), self.workers)

    def _is_one(self, y: np.ndarray, first: np.ndarray, second: np.ndarray) -> bool:
        n, m = self.nodes
        v, pairs = y[: n * m].reshape(n, m), y[n * m :]
        once = v.sum(0).max() <= 1 and v.sum(1).max() <= 1 and v.sum() == min(n, m)
        return bool(np.isin(v, (0, 1)).all() and once and (pairs == products(v.ravel(), m, first, second)).all())

    def _graphs(self, instance: Any, leading: Sequence[int], n: int) -> list[tuple[np.ndarray, np.ndarray]]:
        given = fields(self, instance, "first", "second")
        pair = [edge_tensor(given[name], leading, "cpu").numpy() for name in ("first", "second")]
        sizes = [edges.shape[-2] for edges in pair]
        if n != math.prod(self.nodes) + math.prod(sizes):
            raise UserError(
                f"theta has {n} scores; {self.nodes[0]} x {self.nodes[1]} pairs of nodes and {sizes[0]} x {sizes[1]} "
                f"pairs of edges need {math.prod(self.nodes) + math.prod(sizes)}"
            )
        first, second = (edges if edges.ndim == 3 else edges[None] for edges in pair)
        return [(first[row % len(first)], second[row % len(second)]) for row in range(math.prod(leading))]
