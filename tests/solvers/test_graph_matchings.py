"""Perfect matchings and graph matchings against enumeration and networkx."""

import itertools
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import torch
from graphs import both, complete, integers, rng, values

from dbp import UserError
from dbp.solvers import GraphMatching, PerfectMatching, quadratic
from dbp.solvers.graphs import grid_edges


@pytest.mark.parametrize("edges", [grid_edges(4, 4), grid_edges(5, 6), complete(12)], ids=["4x4", "5x6", "K12"])
def test_perfect_matchings_are_those_of_networkx(edges):
    theta = -torch.rand(10, len(edges), generator=rng(), dtype=torch.float64)
    solver = PerfectMatching(edges)
    y = solver(theta)
    assert solver.is_feasible(y).all()
    for row, mine in zip(theta.tolist(), values(y, theta), strict=True):
        graph = nx.Graph()
        graph.add_weighted_edges_from([(*edge, score) for edge, score in zip(edges, row, strict=True)])
        matching = nx.max_weight_matching(graph, maxcardinality=True)
        assert float(mine) == pytest.approx(sum(graph.edges[pair]["weight"] for pair in matching))


def test_perfect_matchings_of_random_graphs():
    solver, unmatchable = PerfectMatching(), 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        edges = torch.from_numpy(generator.integers(0, 2 * generator.integers(1, 4), (generator.integers(1, 16), 2)))
        graph, theta = {"edges": edges}, integers(1, len(edges), seed=seed)
        matchings = solver.vertices([len(edges)], graph)
        if len(matchings):
            assert values(solver(theta, graph), theta) == values(matchings, theta).max()
            continue
        unmatchable += 1
        with pytest.raises(UserError, match=r"row \[0\]: the graph has no perfect matching"):
            solver(theta, graph)
    assert 20 < unmatchable < 180


def test_the_first_of_parallel_edges_is_matched():
    assert PerfectMatching(((0, 1), (1, 0), (0, 1)))(torch.tensor([1.0, 2.0, 2.0])).tolist() == [0, 1, 0]


MATCHING_ERRORS = {
    "odd": (PerfectMatching(complete(5)), r"row \[0\].*no perfect matching.*odd"),
    "star": (PerfectMatching(((0, 1), (0, 2), (0, 3))), r"row \[0\].*no perfect matching"),
    "two triangles": (PerfectMatching(((0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3))), r"row \[0\].*no perfect"),
    "missing node": (PerfectMatching(((0, 1), (1, 3))), r"row \[0\].*no perfect"),
    "loop": (PerfectMatching(((0, 1), (2, 2), (3, 3))), r"row \[0\].*no perfect"),
}


@pytest.mark.parametrize("name", MATCHING_ERRORS)
def test_matching_errors(name):
    solver, message = MATCHING_ERRORS[name]
    with pytest.raises(UserError, match=message):
        solver(torch.zeros(2, len(solver.edges)))


def test_graph_matchings_of_random_graphs():
    generator = np.random.default_rng(0)
    for seed in range(25):
        nodes = tuple(int(x) for x in generator.integers(1, 5, 2))
        edges = [_some(both(complete(n)), generator) for n in nodes]
        solver = GraphMatching(nodes, *edges)
        theta, everything = integers(3, _size(solver), seed=seed), solver.vertices([_size(solver)])
        y = solver(theta)
        assert solver.is_feasible(y).all()
        assert torch.equal(values(y, theta), (theta @ everything.T).amax(-1))


def _size(solver):
    return solver.nodes[0] * solver.nodes[1] + len(solver.first) * len(solver.second)


def _some(edges, generator):
    chosen = generator.permutation(len(edges))[: generator.integers(0, 6)]
    return tuple(edges[index] for index in chosen)


def test_graph_matching_maximises_the_quadratic_objective():
    """Against all permutations, with the objective written as sums over nodes and edges."""
    n, theta = 4, integers(2, 16 + 6 * 12)
    first, second = complete(n), both(complete(n))
    y = GraphMatching((n, n), first, second)(theta)
    for row, mine in zip(theta, y, strict=True):
        node, edge = row[:16].reshape(n, n), row[16:].reshape(6, 12)

        def objective(image, node=node, edge=edge):
            pairs = sum(edge[p, second.index((image[i], image[j]))] for p, (i, j) in enumerate(first))
            return float(sum(node[i, image[i]] for i in range(n)) + pairs)

        best = max(itertools.permutations(range(n)), key=objective)
        assert objective(mine[:16].reshape(n, n).argmax(1).tolist()) == objective(best) == float(mine @ row)


def test_an_isomorphic_graph_is_recognised():
    edges = tuple(sorted(nx.random_regular_graph(3, 10, seed=3).edges))
    image = torch.randperm(10, generator=rng()).tolist()
    second = both(tuple((image[i], image[j]) for i, j in edges))
    solver = GraphMatching((10, 10), edges, second)
    theta = torch.cat([0.01 * torch.eye(10)[image].flatten(), torch.ones(len(edges) * len(second))])
    assert solver(theta)[:100].reshape(10, 10).argmax(1).tolist() == image


def small_problems(count):
    """Solvers that do not prove the optimum, and the same ones that do."""
    generator = np.random.default_rng(1)
    for seed in range(count):
        nodes = tuple(int(x) for x in generator.integers(1, 5, 2))
        edges = [_some(both(complete(n)), generator) for n in nodes]
        rough = GraphMatching(nodes, *edges, exact=0)
        yield rough, replace(rough, exact=12), integers(4, _size(rough), seed=seed)


def test_without_a_proof_it_is_still_close():
    ours, best = [], []
    for rough, proven, theta in small_problems(25):
        y = rough(theta)
        assert rough.is_feasible(y).all()
        ours.append(values(y, theta))
        best.append(values(proven(theta), theta))
    assert (torch.cat(ours) == torch.cat(best)).float().mean() > 0.9
    assert (torch.cat(ours) < torch.cat(best)).any()  # or the instances are too easy to tell


def test_the_gap_bounds_what_is_missing():
    for rough, proven, theta in small_problems(12):
        y = rough(theta)
        missing = values(proven(theta), theta) - values(y, theta)
        assert (rough.gap(theta, y) >= missing - 1e-4).all()
        worst = rough.vertices([_size(rough)])[0]
        assert (rough.gap(theta, worst) >= values(y, theta) - values(worst, theta) - 1e-4).all()


def test_a_large_isomorphic_graph_is_recognised_with_no_gap():
    edges = tuple(sorted(nx.random_regular_graph(3, 18, seed=3).edges))
    image = torch.randperm(18, generator=rng()).tolist()
    second = both(tuple((image[i], image[j]) for i, j in edges))
    solver = GraphMatching((18, 18), edges, second)
    matched = {(p, second.index((image[i], image[j]))) for p, (i, j) in enumerate(edges)}
    d = torch.tensor([[1.0 * ((p, q) in matched) for q in range(len(second))] for p in range(len(edges))])
    theta = torch.cat([torch.zeros(18 * 18), (d + 0.3 * torch.rand(d.shape, generator=rng())).flatten()])
    y = solver(theta)
    assert y[: 18 * 18].reshape(18, 18).argmax(1).tolist() == image
    assert float(solver.gap(theta, y)) == pytest.approx(0, abs=1e-4)


def test_exchanges_end_where_none_is_better():
    """From any start: with the linear program's solution out of the way, the search alone."""
    solver = GraphMatching((5, 6), complete(5), both(complete(6)))
    edges = [np.array(solver.first), np.array(solver.second)]
    theta = integers(10, _size(solver)).double().numpy()
    for row in theta:

        def score(v, row=row):
            return row @ np.concatenate([v.ravel(), quadratic.products(v.ravel(), 6, *edges)])

        v = quadratic._improve(row, np.zeros((5, 6)), *edges)
        assert v.sum() == 5
        assert score(v) > score(np.eye(5, 6))
        wide = np.vstack([v, 1 - v.sum(0)])  # the unmatched node's image is no node
        for i, j in itertools.combinations(range(6), 2):
            moved = wide.copy()
            moved[[i, j]] = moved[[j, i]]
            assert score(moved[:5]) <= score(v)


ALIGNMENT_ERRORS = {
    "scores": (GraphMatching((2, 2), ((0, 1),)), 5, "theta has 5 scores; 2 x 2 pairs of nodes and 1 x 0"),
    "twice": (GraphMatching((2, 2), ((0, 1), (0, 1)), ((0, 1),)), 6, r"row \[0\].*different pairs"),
    "nodes": (GraphMatching((2, 2), ((0, 2),), ((0, 1),)), 5, r"row \[0\].*below 2"),
}


@pytest.mark.parametrize("nodes", [(0, 3), (2,), (-1, 2)])
def test_graphs_without_nodes(nodes):
    with pytest.raises(UserError, match="two numbers, at least 1"):
        GraphMatching(nodes)


@pytest.mark.parametrize("name", ALIGNMENT_ERRORS)
def test_graph_matching_errors(name):
    solver, n, message = ALIGNMENT_ERRORS[name]
    with pytest.raises(UserError, match=message):
        solver(torch.zeros(2, n))


def test_graph_matching_out_of_time():
    edges = both(complete(9))
    solver = GraphMatching((9, 9), edges, edges, time_limit=0.01)
    with pytest.raises(UserError, match=r"row \[0\].*time limit"):
        solver(integers(1, _size(solver)))
