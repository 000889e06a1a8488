"""Arborescence: the kernel, its torch twin, networkx and enumeration agree; marginals are exact."""

import itertools

import networkx as nx
import pytest
import torch
from graphs import both, complete, integers, values
from torch import Tensor

from dbp.errors import UserError
from dbp.native import ops
from dbp.solvers import Arborescence
from dbp.solvers.arborescences import arborescence_torch, count_nodes
from dbp.testing import check_solver

needs_kernel = pytest.mark.skipif(not ops.serves(torch.zeros(1)), reason="no kernels")
GRAPHS = {
    "edge": ((0, 1),),
    "cycle": ((0, 1), (1, 2), (2, 0)),
    "parallel": ((0, 1), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1)),
    "chain": both(((0, 1), (1, 2), (2, 3))),
    "gap in the numbers": ((2, 5), (5, 2), (2, 7), (5, 7)),
    "complete": both(complete(4)),
}
SCORES = {
    "normal": lambda *s: torch.randn(*s),
    "negative": lambda *s: -torch.rand(*s),
    "tied": lambda *s: torch.randint(-1, 2, s).float(),
    "huge": lambda *s: 1e30 * torch.randn(*s),
    "tiny": lambda *s: 1e-40 * torch.randn(*s),
    "of all sizes": lambda *s: torch.randn(*s) * 2.0 ** torch.randint(-10, 30, s),
}


def twin(theta: Tensor, edges: Tensor, root: Tensor) -> Tensor:
    y, lost = arborescence_torch(theta, edges, root, count_nodes(edges, root))
    assert not lost.any()
    return y


def roots(graph):
    return [-1, *sorted({node for edge in GRAPHS[graph] for node in edge})]


@pytest.mark.parametrize("root", [-1, 0, 2])
@pytest.mark.parametrize("graph", ["complete", "parallel", "chain"])
@pytest.mark.parametrize("scores", SCORES)
def test_best_of_all_trees(graph, root, scores):
    torch.manual_seed(0)
    solver, n = Arborescence(GRAPHS[graph], root), len(GRAPHS[graph])
    if (graph, root) == ("parallel", 2):
        solver = Arborescence((*GRAPHS[graph], (2, 0)), root)
        n += 1
    theta = SCORES[scores](60, n).double()
    every = solver.vertices((n,)).double()
    y = solver(theta)
    assert (y[:, None] == every).all(-1).any(-1).all()
    torch.testing.assert_close(values(y, theta), (theta @ every.T).amax(-1), rtol=1e-14, atol=0)


@pytest.mark.parametrize("root", [-1, 3])
def test_value_of_networkx_on_random_graphs(root):
    rng = torch.Generator().manual_seed(0)
    for nodes in (2, 5, 9, 14):
        ring = [(i, (i + 1) % nodes) for i in range(nodes)]  # every node can be the root
        for _ in range(30):
            more = torch.randint(0, nodes, (3 * nodes, 2), generator=rng).tolist()
            edges = [*ring, *((a, b) for a, b in more if a != b)]
            theta = torch.randint(-20, 20, (len(edges),), generator=rng).double()
            start = min(root, nodes - 1)
            graph = nx.DiGraph()
            for (a, b), score in zip(edges, theta.tolist(), strict=True):
                if b != start and score > graph.get_edge_data(a, b, {"weight": -99})["weight"]:
                    graph.add_edge(a, b, weight=score)
            best = nx.maximum_spanning_arborescence(graph).size("weight")
            assert values(Arborescence(tuple(edges), start)(theta), theta) == best


@needs_kernel
@pytest.mark.parametrize("scores", SCORES)
def test_kernel_equals_its_twin(scores):
    torch.manual_seed(0)
    for nodes, count in ((2, 3), (6, 20), (25, 120)):
        ring = torch.arange(nodes)[:, None] + torch.arange(2)
        edges = torch.cat([torch.randint(0, nodes, (40, count, 2)), ring.expand(40, -1, -1) % nodes], 1)
        edges[:, :2][torch.rand(40, 2) < 0.3] = -1
        root = torch.randint(-1, nodes, (40,))
        for theta in (SCORES[scores](*edges.shape[:2]), SCORES[scores](*edges.shape[:2]).double()):
            y = Arborescence()(theta, {"edges": edges, "root": root})
            assert torch.equal(y, twin(theta, edges, root))


def test_nested_cycles():
    """Each round makes one cycle of two nodes, as many rounds as nodes."""
    nodes = 40
    edges = [(0, 1), (1, 0), *((i, j) for k in range(2, nodes) for i, j in ((k, 0), (0, k)))]
    scores = [1000.0, 1000.0, *(s for k in range(2, nodes) for s in (900.0 - 10 * k, 999.0))]
    theta, ends = torch.tensor(scores), torch.tensor(edges)
    graph = nx.DiGraph()
    graph.add_weighted_edges_from((a, b, w) for (a, b), w in zip(edges, scores, strict=True))
    y = Arborescence(tuple(edges))(theta)
    assert values(y, theta) == nx.maximum_spanning_arborescence(graph).size("weight")
    assert torch.equal(twin(theta[None], ends[None], torch.tensor([-1]))[0], y)


def test_ties_go_to_the_lowest_index():
    solver = Arborescence(((0, 1), (2, 1), (0, 2), (1, 2), (0, 1)), root=0)
    assert solver(torch.zeros(5)).tolist() == [1, 0, 1, 0, 0]
    assert solver(torch.tensor([1.0, 2, 1, 2, 1])).tolist() == [1, 0, 0, 1, 0]


@pytest.mark.parametrize("graph", GRAPHS)
def test_vertices_are_what_is_feasible(graph):
    edges = GRAPHS[graph]
    subsets = torch.tensor(list(itertools.product((0.0, 1.0), repeat=len(edges))))
    for root in roots(graph):
        solver = Arborescence(edges, root)
        trees = torch.stack([torch.tensor(is_tree(y, edges, root)) for y in subsets])
        if not trees.any():
            with pytest.raises(UserError, match="do not lead from"):
                solver(torch.zeros(len(edges)))
            continue
        assert torch.equal(solver.is_feasible(subsets), trees)
        assert torch.equal(solver.vertices((len(edges),)).unique(dim=0), subsets[trees].unique(dim=0))
        assert not solver.is_feasible(
            torch.tensor([torch.nan, torch.inf, 0.5, -1.0])[:, None].expand(4, len(edges))
        ).any()


def is_tree(y, edges, root):
    """By networkx."""
    graph = nx.MultiDiGraph()
    graph.add_nodes_from(node for edge in edges for node in edge)
    graph.add_edges_from(edge for edge, taken in zip(edges, y, strict=True) if taken)
    return nx.is_arborescence(graph) and (root < 0 or graph.in_degree(root) == 0)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_marginals_are_those_of_all_trees(graph, scale):
    torch.manual_seed(1)
    for root in roots(graph):
        solver = Arborescence(GRAPHS[graph], root)
        theta = scale * torch.randn(3, len(GRAPHS[graph]), dtype=torch.float64) + 7
        try:
            ys = solver.vertices(theta.shape[1:]).double()
        except UserError:
            with pytest.raises(UserError, match=r"row \[0\].*do not lead from"):
                solver.relax(theta)
            continue
        exact = (theta @ ys.T).softmax(-1) @ ys
        torch.testing.assert_close(solver.relax(theta), exact, atol=1e-10, rtol=0)


def test_marginals_have_gradients_and_come_to_the_decision():
    solver = Arborescence(GRAPHS["complete"])
    theta = torch.randn(2, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(solver.relax, (theta,))
    torch.testing.assert_close(solver.relax(theta, 1e-3), solver(theta), atol=1e-6, rtol=0)


def test_padding_roots_and_graphs_of_each_row():
    edges = torch.tensor([[[0, 1], [1, 0], [1, 2]], [[-1, -1], [0, 1], [1, 0]]])
    theta = integers(4, 2, 3)
    solver, instance = Arborescence(), {"edges": edges, "root": torch.tensor([0, 1])}
    y = solver(theta, instance)
    assert y[0].tolist() == [[1, 0, 1], [0, 0, 1]]
    assert solver.is_feasible(y, instance).all()
    exact = solver.relax(theta.double(), 1.0, instance)
    torch.testing.assert_close(exact, y.double())  # there is but one tree


def test_says_which_row_has_no_tree():
    edges = torch.tensor([[[0, 1], [1, 2]], [[0, 1], [2, 1]]])
    for theta in (torch.zeros(3, 2, 2), torch.zeros(3, 2, 2).to("cpu", torch.float16)):
        with pytest.raises(UserError, match=r"Arborescence: row \[0, 1\]: .* from any one node to every other"):
            Arborescence()(theta, {"edges": edges})
        with pytest.raises(UserError, match=r"row \[0, 0\]: .* from node 2 to"):
            Arborescence(root=2)(theta, {"edges": edges})
        with pytest.raises(UserError, match="from node 9"):
            Arborescence(root=9)(theta, {"edges": edges})
    with pytest.raises(UserError, match="needs one for each"):
        Arborescence(((0, 1),))(torch.zeros(2))
    with pytest.raises(UserError, match="pairs of nodes"):
        Arborescence(((0, 1, 2),))
    with pytest.raises(UserError, match="of edges, root; got"):
        Arborescence()(torch.zeros(2), {"graph": edges})


def test_edges_into_the_root_and_no_edges():
    solver = Arborescence(((0, 1), (1, 0)), root=0)
    assert solver(torch.tensor([-5.0, 9.0])).tolist() == [1, 0]
    for root in (-1, 4):
        assert Arborescence(root=root)(torch.zeros(3, 0)).shape == (3, 0)
        assert Arborescence(root=root).is_feasible(torch.zeros(3, 0)).tolist() == [True] * 3
    assert Arborescence(((-1, -1),))(torch.ones(2, 1)).tolist() == [[0], [0]]


@pytest.mark.parametrize("leading", [(0,), (2, 0)])
def test_no_rows_or_no_edges_have_empty_marginals(leading):
    edges = torch.zeros(*leading, 3, 2, dtype=torch.int64)
    for shape, options in (((*leading, 12), GRAPHS["complete"]), ((*leading, 0), ()), ((2, 0), ())):
        theta = torch.zeros(shape, requires_grad=True)
        assert torch.autograd.grad(Arborescence(options).relax(theta).sum(), theta)[0].shape == shape
    assert Arborescence().relax(torch.zeros(*leading, 3), 1.0, {"edges": edges}).shape == (*leading, 3)


@pytest.mark.parametrize("root", [-1, 1])
def test_keeps_what_a_solver_promises(root):
    check_solver(Arborescence(GRAPHS["complete"], root), (12,))


def test_shapes_and_dtypes():
    solver, theta = Arborescence(GRAPHS["complete"]), integers(3, 2, 12)
    y = solver(theta)
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int64):
        assert torch.equal(solver(theta.to(dtype)), y.to(dtype))
    assert torch.equal(torch.vmap(solver)(theta), y)
    compiled = torch.compile(lambda t: 2 * solver.solve(t, None), fullgraph=True, backend="eager")
    assert torch.equal(compiled(theta), 2 * y)
