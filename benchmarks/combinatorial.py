"""Matchings, spanning trees, knapsacks and tours by other libraries, one instance at a time, as they are used."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import minimum_spanning_tree

Array = NDArray[Any]
Pairs = list[tuple[int, int]]


def grid_edges(n: int) -> Pairs:
    """Of an n x n grid with four neighbours."""
    across = [(i * n + j, i * n + j + 1) for i in range(n) for j in range(n - 1)]
    return across + [(i * n + j, i * n + n + j) for i in range(n - 1) for j in range(n)]


def right_and_down(n: int) -> tuple[tuple[int, int], ...]:
    """The same grid as PyEPO lists its edges: row by row, to the right, then down."""
    rows = [[(i * n + j, i * n + j + 1) for j in range(n - 1)] for i in range(n)]
    down = [[(i * n + j, i * n + n + j) for j in range(n)] for i in range(n - 1)]
    return tuple(edge for i in range(n) for edge in [*rows[i], *(down[i] if i < n - 1 else [])])


def networkx_path(cost: Array, edges: Pairs) -> Any:
    import networkx

    graph = networkx.DiGraph()
    graph.add_weighted_edges_from((a, b, w) for (a, b), w in zip(edges, cost.tolist(), strict=True))
    return networkx.dijkstra_path(graph, 0, edges[-1][1])


def networkx_arborescence(score: Array, edges: Pairs) -> Any:
    import networkx

    graph = networkx.DiGraph()
    graph.add_weighted_edges_from((a, b, w) for (a, b), w in zip(edges, score.tolist(), strict=True))
    return networkx.maximum_spanning_arborescence(graph)


def torch_matching(costs: Array) -> Any:
    """On the CPU this is a loop over SciPy's."""
    import torch
    from torch_linear_assignment import batch_linear_assignment

    return batch_linear_assignment(torch.from_numpy(costs))


def scipy_matching(cost: Array) -> Any:
    return linear_sum_assignment(cost)


def lapx_matching(cost: Array) -> Any:
    import lap

    return lap.lapjv(cost, return_cost=False)


def ortools_matching(cost: Array) -> Any:
    from ortools.graph.python import linear_sum_assignment as ortools

    n = len(cost)
    problem = ortools.SimpleLinearSumAssignment()
    left, right = np.repeat(np.arange(n), n), np.tile(np.arange(n), n)
    problem.add_arcs_with_cost(left, right, (1e6 * cost.ravel()).astype(np.int64))
    problem.solve()
    return [problem.right_mate(i) for i in range(n)]


def scipy_tree(cost: Array, ends: Array) -> Any:
    size = ends.max() + 1
    return minimum_spanning_tree(csr_matrix((cost, (ends[:, 0], ends[:, 1])), shape=(size, size)))


def rustworkx_tree(cost: Array, edges: Pairs) -> Any:
    import rustworkx

    graph = rustworkx.PyGraph()
    graph.add_nodes_from(range(max(b for _, b in edges) + 1))
    graph.add_edges_from([(a, b, w) for (a, b), w in zip(edges, cost.tolist(), strict=True)])
    return rustworkx.minimum_spanning_edges(graph, weight_fn=float)


def networkx_tree(cost: Array, edges: Pairs) -> Any:
    import networkx

    graph = networkx.Graph()
    graph.add_weighted_edges_from((a, b, w) for (a, b), w in zip(edges, cost.tolist(), strict=True))
    return list(networkx.minimum_spanning_edges(graph, data=False))


def ortools_knapsack(score: Array, weights: Array, capacity: int) -> Any:
    from ortools.algorithms.python import knapsack_solver

    kind = knapsack_solver.SolverType.KNAPSACK_MULTIDIMENSION_BRANCH_AND_BOUND_SOLVER
    problem = knapsack_solver.KnapsackSolver(kind, "")
    problem.init((1e6 * score).astype(int).tolist(), [weights.tolist()], [capacity])
    problem.solve()
    return [problem.best_solution_contains(i) for i in range(len(score))]


def ortools_tour(cost: Array) -> Any:
    """The routing library as its guide has it: the first solution and the default local search."""
    from ortools.constraint_solver import pywrapcp

    distances = (1e6 * cost).astype(int)
    manager = pywrapcp.RoutingIndexManager(len(cost), 1, 0)
    routing = pywrapcp.RoutingModel(manager)
    callback = routing.RegisterTransitMatrix(distances.tolist())
    routing.SetArcCostEvaluatorOfAllVehicles(callback)
    solution = routing.SolveWithParameters(pywrapcp.DefaultRoutingSearchParameters())
    return solution.ObjectiveValue() / 1e6
