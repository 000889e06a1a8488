"""SpanningTree: Kruskal's kernel, Boruvka in torch, networkx, scipy and enumeration agree; marginals are exact."""

import itertools

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import minimum_spanning_tree
from torch import Tensor

from dbp.errors import UserError
from dbp.native import ops
from dbp.solvers.trees import SpanningTree, spanning_tree, spanning_tree_torch

needs_kernel = pytest.mark.skipif(not ops.serves(torch.zeros(1)), reason="no kernels")
IMPLEMENTATIONS = [pytest.param(spanning_tree, marks=needs_kernel), spanning_tree_torch]


def grid(n: int) -> list[tuple[int, int]]:
    across = [(i * n + j, i * n + j + 1) for i in range(n) for j in range(n - 1)]
    return across + [(i * n + j, i * n + n + j) for i in range(n - 1) for j in range(n)]


GRAPHS = {
    "edge": [(0, 1)],
    "loop": [(0, 0)],
    "triangle": [(0, 1), (1, 2), (2, 0)],
    "parallel": [(0, 1), (1, 0), (1, 2), (1, 2), (2, 2)],
    "parts": [(0, 1), (1, 2), (0, 2), (4, 5), (5, 6), (4, 6), (4, 5)],
    "complete": list(itertools.combinations(range(6), 2)),
    "grid": grid(3),
    "large grid": grid(12),
    "larger grid": grid(30),
}
SCORES = {
    "normal": lambda *s: torch.randn(*s),
    "negative": lambda *s: -torch.rand(*s),
    "tied": lambda *s: torch.randint(-1, 2, s).float(),
    "signed zeros": lambda *s: torch.zeros(*s).copysign(torch.randn(*s)),
    "huge": lambda *s: 1e30 * torch.randn(*s),
    "tiny": lambda *s: 1e-40 * torch.randn(*s),
}


def tensor(edges) -> Tensor:
    return torch.tensor(edges, dtype=torch.int64).reshape(-1, 2)


def kruskal(theta: Tensor, edges) -> Tensor:
    """By networkx's union-find, plainly."""
    parts, y = nx.utils.UnionFind(), torch.zeros_like(theta)
    for i in sorted(range(len(edges)), key=lambda i: -theta[i].item()):
        a, b = edges[i]
        if parts[a] != parts[b]:
            parts.union(a, b)
            y[i] = 1
    return y


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_kruskal(function, graph, dtype):
    torch.manual_seed(0)
    edges = GRAPHS[graph]
    for kind in SCORES.values():
        theta = kind(1 if len(edges) > 1000 else 8, len(edges)).to(dtype)
        ys = function(theta, tensor(edges).expand(*theta.shape, 2), 0)
        for t, y in zip(theta, ys, strict=True):
            assert torch.equal(y, kruskal(t, edges))


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_value_of_scipy_on_random_graphs(function):
    rng = np.random.default_rng(0)
    for _ in range(200):
        nodes, edges = rng.integers(2, 12), rng.integers(1, 30)
        ends = rng.integers(0, nodes, (edges, 2))
        theta = torch.from_numpy(rng.permutation(edges) + 1.0)
        y = function(theta, torch.from_numpy(ends), int(nodes))
        matrix = np.zeros((nodes, nodes))
        for score, (a, b) in sorted(zip(theta.tolist(), ends, strict=True)):  # of parallel edges the best counts
            if a != b:
                matrix[min(a, b), max(a, b)] = edges + 1 - score
        tree = minimum_spanning_tree(csr_matrix(matrix))
        assert y.sum() == tree.nnz
        assert (y * theta).sum() == (edges + 1) * tree.nnz - tree.sum()


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_a_graph_for_each_row(function):
    theta = torch.randn(2, 5, 9)
    ends = torch.randint(0, 6, (2, 5, 9, 2))
    ys = function(theta, ends, 0)
    for index in itertools.product(range(2), range(5)):
        assert torch.equal(ys[index], kruskal(theta[index], ends[index].tolist()))
    by_batch = SpanningTree()(theta, {"edges": ends[0]})  # [5, 9, 2] broadcasts over the first dim
    assert torch.equal(by_batch[1], function(theta[1], ends[0], 0))
    ends[1, 3, 0, 0] = 7
    with pytest.raises(UserError, match=r"row \[1, 3\].*0..5"):
        function(theta, ends, 6)
    ends[1, 3, 0, 0] = -1
    with pytest.raises(UserError, match=r"row \[1, 3\]"):
        function(theta, ends, 0)


def test_says_what_is_wrong_with_a_graph():
    with pytest.raises(UserError, match=r"edge \[0, 5\].*0..2"):
        SpanningTree(edges=((0, 1), (0, 5)), nodes=3)
    with pytest.raises(UserError, match=r"edge \[-1, 0\]"):
        SpanningTree(edges=((-1, 0),))
    with pytest.raises(UserError, match="has no graph: give edges"):
        SpanningTree()(torch.zeros(3))
    with pytest.raises(UserError, match=r"\[3, 2\], got \[2, 2\]"):
        SpanningTree(edges=((0, 1), (1, 2)))(torch.zeros(3))
    with pytest.raises(UserError, match="integers"):
        SpanningTree()(torch.zeros(3), {"edges": torch.zeros(3, 2)})
    with pytest.raises(UserError, match="got list"):
        SpanningTree()(torch.zeros(1), {"edges": [[0, 1]]})


def test_leading_dims_strides_and_dtypes():
    solver = SpanningTree(edges=grid(3))
    theta = torch.randint(-50, 50, (4, 5, 12)).float()
    y = solver(theta)
    assert torch.equal(solver(theta.permute(2, 0, 1).contiguous().permute(1, 2, 0)), y)
    assert torch.equal(solver(theta[0, 0]), y[0, 0])
    for dtype in (torch.float64, torch.bfloat16, torch.float16, torch.int64):
        assert torch.equal(solver(theta.to(dtype)), y.to(dtype))
    assert solver(theta[:0]).shape == (0, 5, 12)
    assert SpanningTree(edges=())(torch.zeros(3, 0)).shape == (3, 0)


def test_compiles_and_maps():
    solver = SpanningTree(edges=grid(3))
    theta = torch.randn(4, 5, 12)
    compiled = torch.compile(lambda t: 2 * solver.solve(t, None), fullgraph=True, backend="eager")
    assert torch.equal(compiled(theta), 2 * solver(theta))
    assert torch.equal(torch.vmap(solver)(theta), solver(theta))
    ends = torch.randint(0, 6, (4, 12, 2))
    mapped = torch.vmap(SpanningTree())(theta[:, 0], {"edges": ends})
    assert torch.equal(mapped, SpanningTree()(theta[:, 0], {"edges": ends}))


def test_project_drops_what_solve_ignores():
    solver = SpanningTree(edges=GRAPHS["parts"])
    theta = torch.randn(20, 7, dtype=torch.float64)
    assert torch.equal(solver(solver.project(theta)), solver(theta))
    assert torch.allclose(solver.project(3 * theta + 5), solver.project(theta))


@pytest.mark.parametrize("graph", ["edge", "loop", "triangle", "parallel", "parts", "complete", "grid"])
def test_vertices_are_what_is_feasible(graph):
    edges = GRAPHS[graph]
    solver = SpanningTree(edges=edges)
    subsets = torch.tensor(list(itertools.product((0.0, 1.0), repeat=min(len(edges), 12))))
    ys = solver.vertices([len(edges)])
    if len(edges) <= 12:
        assert torch.equal(ys.unique(dim=0), subsets[solver.is_feasible(subsets)].unique(dim=0))
    multigraph = nx.MultiGraph(edges)
    parts = nx.number_connected_components(multigraph)
    for y in ys:
        tree = nx.MultiGraph([edge for edge, taken in zip(edges, y, strict=True) if taken])
        tree.add_nodes_from(multigraph)
        assert nx.is_forest(tree)
        assert nx.number_connected_components(tree) == parts
    if graph in ("triangle", "complete", "grid"):
        assert len(ys) == {"triangle": 3, "complete": 6**4, "grid": 192}[graph]
    assert not solver.is_feasible(torch.full((len(edges),), 0.5)).item()


@pytest.mark.parametrize("graph", ["edge", "triangle", "parallel", "parts", "complete", "grid"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_marginals_are_those_of_all_trees(graph, scale):
    torch.manual_seed(1)
    solver = SpanningTree(edges=GRAPHS[graph])
    theta = scale * torch.randn(3, len(GRAPHS[graph]), dtype=torch.float64)
    ys = solver.vertices(theta.shape[1:]).double()
    exact = (theta @ ys.T).softmax(-1) @ ys
    assert torch.allclose(solver.relax(theta), exact, atol=1e-10)
    assert torch.allclose(solver.relax(theta.float()), exact.float(), atol=1e-4)


@pytest.mark.parametrize("leading", [(0,), (2, 0)])
def test_no_rows_or_no_edges_have_empty_marginals(leading):
    for shape, edges in (((*leading, 3), GRAPHS["triangle"]), ((*leading, 0), []), ((2, 0), [])):
        theta = torch.zeros(shape, requires_grad=True)
        assert torch.autograd.grad(SpanningTree(edges).relax(theta).sum(), theta)[0].shape == shape
    graphs = torch.zeros(*leading, 3, 2, dtype=torch.int64)
    assert SpanningTree().relax(torch.zeros(*leading, 3), 1.0, {"edges": graphs}).shape == (*leading, 3)


def test_marginals_have_gradients():
    solver = SpanningTree(edges=GRAPHS["parts"])
    theta = torch.randn(2, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(solver.relax, (theta,))
    assert torch.autograd.gradcheck(lambda t: solver.relax(t, 0.5), (theta,))
    assert torch.allclose(solver.relax(theta, 1e-3), solver(theta), atol=1e-6)
