"""Shortest paths against enumeration, SciPy and networkx."""

import networkx as nx
import numpy as np
import pytest
import torch
from graphs import both, complete, integers, rng, values
from scipy.sparse import csr_array
from scipy.sparse.csgraph import bellman_ford

from dbp import UserError
from dbp.native import ops
from dbp.solvers import GraphPath
from dbp.solvers.bellman import Graphs, paths
from dbp.solvers.graphs import _by_kernel, grid_edges


def random_graphs(count, seed):
    generator = np.random.default_rng(seed)
    for _ in range(count):
        nodes, edges = generator.integers(1, 6), generator.integers(1, 14)
        pairs = torch.from_numpy(generator.integers(0, nodes, (edges, 2)))
        source, target = (torch.tensor(int(x)) for x in generator.integers(0, nodes, 2))
        yield {"edges": pairs, "source": source, "target": target}


def test_paths_are_shortest_then_of_fewest_edges_then_lowest_from_the_end():
    solver, lost = GraphPath(), 0
    for seed, graph in enumerate(random_graphs(300, 0)):
        n = len(graph["edges"])
        theta, paths = -integers(1, n, low=0, high=4, seed=seed).abs(), solver.vertices([n], graph)
        if not len(paths):
            lost += 1
            with pytest.raises(UserError, match=r"row \[0\]: no path"):
                solver(theta, graph)
            continue
        value = values(paths, theta)
        best = paths[value == value.max()]
        best = best[best.sum(-1) == best.sum(-1).min()].tolist()
        expected = min(best, key=lambda y: _from_the_end(y, graph["edges"].tolist(), int(graph["target"])))
        assert solver(theta, graph)[0].tolist() == expected
    assert 20 < lost < 200


def _from_the_end(y, edges, target):
    order = []
    while any(y):
        index = next(i for i, chosen in enumerate(y) if chosen and edges[i][1] == target)
        y = [0 if i == index else chosen for i, chosen in enumerate(y)]
        target = edges[index][0]
        order.append(index)
    return order


@pytest.mark.parametrize("shared", [True, False])
def test_paths_with_negative_costs(shared):
    """On random graphs where potentials make every cycle's cost positive, lengths are those of SciPy."""
    nodes, rows = 12, 25
    edges = torch.tensor(both(complete(nodes)))[:100]
    potential = 20 * torch.randn(rows, nodes, generator=rng(), dtype=torch.float64)
    cost = torch.rand(rows, 100, generator=rng(1), dtype=torch.float64)
    cost += potential[:, edges[:, 1]] - potential[:, edges[:, 0]]
    graph = {"edges": edges if shared else edges.expand(rows, -1, 2), "target": torch.tensor(7)}
    y = GraphPath()(-cost, graph)
    assert (cost < 0).double().mean() > 0.3
    assert GraphPath().is_feasible(y, graph).all()
    for row, mine in zip(cost.numpy(), values(y, cost), strict=True):
        matrix = csr_array((row, edges.T.int().numpy()), shape=(nodes, nodes))
        assert float(mine) == pytest.approx(bellman_ford(matrix, indices=0)[7])


def test_paths_between_ends_of_their_own():
    edges, theta = both(grid_edges(4, 4)), -torch.rand(3, 20, 48, generator=rng())
    ends = torch.randint(0, 16, (2, 20), generator=rng(1))
    y = GraphPath(edges)(theta, {"source": ends[0], "target": ends[1]})
    for row in range(20):
        alone = GraphPath(edges, *ends[:, row].tolist())
        assert torch.equal(alone(theta[:, row]), y[:, row])


@pytest.mark.parametrize("n", [5, 12])
def test_paths_on_a_large_grid(n):
    edges = grid_edges(n, n)
    theta = -torch.rand(20, len(edges), generator=rng(), dtype=torch.float64)
    y = GraphPath(edges)(theta)
    assert torch.equal(y.sum(-1), torch.full((20,), 2.0 * n - 2).double())
    for row, mine in zip(theta.tolist(), values(y, theta), strict=True):
        graph = nx.DiGraph()
        graph.add_weighted_edges_from([(*edge, -score) for edge, score in zip(edges, row, strict=True)])
        assert float(mine) == pytest.approx(-nx.dijkstra_path_length(graph, 0, n * n - 1))


CYCLE = ((0, 1), (1, 2), (2, 1), (2, 3))
PATH_ERRORS = {
    "negative cycle": (GraphPath(CYCLE), [[-1, -1, 0, -1], [-1, 2, -1, -1]], r"row \[1\].*negative cost.*clip=True"),
    "negative loop": (GraphPath(((0, 0),), target=0), [[-1], [1]], r"row \[1\].*negative cost"),
    "unreachable": (GraphPath(((0, 1), (2, 1))), [[-1, -1], [-1, -1]], r"row \[0\].*no path"),
    "no edges": (GraphPath(target=1), [[], []], r"row \[0\].*no path"),
    "scores": (GraphPath(CYCLE), [[1]], "1 scores for a graph of 4 edges"),
    "triples": (GraphPath(((0, 1, 2),)), [[1]], "pairs"),
    "nodes": (GraphPath(((0, -2),)), [[1]], "numbered from 0"),
    "source": (GraphPath(CYCLE, source=-1), [[0, 0, 0, 0]], "source and target"),
    "outside": (GraphPath(CYCLE, target=9), [[0, 0, 0, 0]], r"row \[0\].*no path"),
}


@pytest.mark.parametrize("name", PATH_ERRORS)
def test_path_errors(name):
    solver, theta, message = PATH_ERRORS[name]
    with pytest.raises(UserError, match=message):
        solver(torch.tensor(theta, dtype=torch.float32))


@pytest.mark.parametrize("kind", [torch.Tensor.int, torch.Tensor.byte, torch.Tensor.tolist, torch.Tensor.numpy])
def test_instances_of_any_kind(kind):
    """The kernel takes addresses: what it reads as 64-bit integers must be such."""
    edges = torch.tensor(both(complete(5)))
    source, target = torch.randint(0, 5, (2, 40), generator=rng())
    theta = -torch.rand(40, len(edges), generator=rng(1))
    y = GraphPath()(theta, {"edges": kind(edges), "source": kind(source), "target": kind(target)})
    assert torch.equal(y, GraphPath()(theta, {"edges": edges, "source": source, "target": target}))


@pytest.mark.parametrize("edges", ["roads", ((0, 1), (1,)), ((0.5, 1.0),), ((0, 5_000_000_000),)])
def test_edges_that_are_none(edges):
    with pytest.raises(UserError, match=r"edges are|nodes are numbered from 0"):
        GraphPath()(torch.zeros(2, len(edges)), {"edges": edges})


def test_negative_cycles_in_graphs_of_their_own():
    theta = torch.tensor([[-1.0, -1, 0, -1], [-1.0, 2, -1, -1]])
    with pytest.raises(UserError, match=r"row \[1\].*negative cost"):
        GraphPath()(theta, {"edges": torch.tensor(CYCLE).expand(2, 4, 2)})
    # out of the source's reach it does no harm
    assert GraphPath(CYCLE, source=3)(theta).sum() == 0


@pytest.mark.parametrize("shared", [True, False])
def test_clip_takes_positive_scores_as_zero(shared, monkeypatch):
    edges = torch.tensor(both(complete(6)))
    instance = {"edges": edges if shared else edges.repeat(20, 1, 1)}
    theta = torch.randn(20, len(edges), generator=rng())  # as noise makes them: half of the costs are negative
    expected = GraphPath()(theta.clamp_max(0), instance)
    assert torch.equal(GraphPath(clip=True)(theta, instance), expected)
    assert torch.equal(GraphPath(tuple(map(tuple, edges.tolist())), clip=True)(theta), expected)
    monkeypatch.setattr(ops, "serves", lambda theta: False)
    assert torch.equal(GraphPath(clip=True)(theta, instance), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_costs_lost_to_rounding_leave_the_path_whole(dtype):
    """The way to node 1 that is shorter is no shorter once the last edge's cost is added."""
    theta = -torch.tensor([1e8, 5e7, 4e7, 1e25], dtype=dtype)
    edges = torch.tensor(((0, 1), (0, 2), (2, 1), (1, 3)))
    for instance in ({"edges": edges}, {"edges": edges[None]}):
        assert GraphPath()(theta[None], instance).tolist() == [[0, 1, 1, 1]]


@pytest.mark.skipif(not ops.serves(torch.zeros(1)), reason="no kernels")
def test_kernel_equals_its_twin():
    rng = torch.Generator().manual_seed(0)
    compared = 0
    for case in range(300):
        nodes, count = int(torch.randint(2, 12, (), generator=rng)), int(torch.randint(1, 40, (), generator=rng))
        edges = torch.randint(0, nodes, (count, 2), generator=rng)
        if case % 3 == 0:
            edges = edges.sort(-1).values  # no cycles but loops
        edges[torch.rand(count, generator=rng) < 0.1] = -1
        source, target = torch.randint(0, nodes, (2, 37), generator=rng)
        theta = -torch.randint(0, 4, (37, count), generator=rng) * 10.0 ** (case % 5 * 10 - 20)
        theta = theta * 1e6 ** torch.randint(0, 3, (37, count), generator=rng) + (case % 2) * (case % 3 == 0)
        graphs = Graphs(edges, source, target, nodes)
        for scores in (theta, theta.double()):
            y, endless, lost = paths(graphs, -scores)
            good = ~(endless | lost)
            if not good.any():
                continue
            few = Graphs(edges, source[good], target[good], nodes)
            assert torch.equal(_by_kernel(few, scores[good]), y[good].to(scores))
            assert good.all() or _by_kernel(graphs, scores) is None
            compared += 1
    assert compared > 300
