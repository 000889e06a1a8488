"""Shortest paths on grids: against scipy, networkx and enumeration; ties, masks, ends, errors."""

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from dbp.errors import UserError
from dbp.native import ops
from dbp.solvers import GridPath
from dbp.solvers.grid import _neighbours, shortest_path
from dbp.solvers.paths import _ends, grid_path

SHAPES = [(1, 1), (1, 6), (5, 1), (2, 2), (3, 4), (9, 5), (12, 12)]
COSTS = {
    "uniform": lambda *shape: torch.rand(*shape),
    "integer": lambda *shape: torch.randint(1, 4, shape).float(),
    "zeros and ones": lambda *shape: torch.randint(0, 2, shape).float(),
    "zero": torch.zeros,
    "warcraft": lambda *shape: torch.tensor([0.8, 1.2, 5.3, 7.7, 9.2])[torch.randint(0, 5, shape)],
    "huge": lambda *shape: torch.rand(*shape) * 1e30,
    "tiny": lambda *shape: torch.rand(*shape) * 1e-40,
    "walls": lambda *shape: torch.where(torch.rand(*shape) < 0.4, 1e8, 1e-3),
}


def edges(height: int, width: int, neighbours: int) -> list[tuple[int, int]]:
    return [(v, u) for v in range(height * width) for u in _neighbours(v, height, width, neighbours)]


def least_cost(cost: Tensor, neighbours: int) -> float:
    """By scipy, from corner to corner: the cost of an edge is that of the vertex it enters."""
    c = cost.double().flatten().numpy()
    pairs = edges(*cost.shape, neighbours)
    if not pairs:
        return float(c[0])
    start, end = np.array(pairs).T
    graph = coo_matrix((c[end], (start, end)), shape=(len(c), len(c)))
    return float(dijkstra(graph.tocsr(), indices=0)[-1] + c[0])


@pytest.mark.parametrize("neighbours", [4, 8])
@pytest.mark.parametrize("costs", sorted(set(COSTS) - {"zero", "zeros and ones"}))  # scipy takes 0 for no edge
def test_as_cheap_as_scipys(costs: str, neighbours: int) -> None:
    torch.manual_seed(0)
    for shape in SHAPES:
        cost = COSTS[costs](5, *shape).double()
        y = GridPath(neighbours)(-cost)
        assert GridPath(neighbours).is_feasible(y).all()
        expected = torch.tensor([least_cost(c, neighbours) for c in cost], dtype=torch.float64)
        torch.testing.assert_close((y * cost).sum((-1, -2)), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("neighbours", [4, 8])
@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sweeps_dijkstra_and_torch_are_equal(costs: str, neighbours: int, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    for batch, shape in zip((1, 3, 40, 70, 2, 33, 35), SHAPES, strict=True):
        theta = -COSTS[costs](batch, *shape).to(dtype)
        solutions = [grid_path(theta, None, None, None, neighbours, sweep) for sweep in (True, False)]
        solutions.append(shortest_path(theta, None, *_ends(theta, None, None), neighbours)[0])
        for y in solutions[1:]:
            assert torch.equal(y, solutions[0])


@pytest.mark.parametrize("neighbours", [4, 8])
def test_ties_go_to_fewest_vertices_then_lowest_index(neighbours: int) -> None:
    """Against networkx: of all simple paths that are shortest, the first by this rule."""
    torch.manual_seed(2)
    solver = GridPath(neighbours)
    width = {4: 4, 8: 3}[neighbours]
    paths = list(nx.all_simple_paths(nx.DiGraph(edges(3, width, neighbours)), 0, 3 * width - 1))
    for cost in torch.cat([torch.randint(1, 3, (40, 3, width)), torch.randint(0, 3, (40, 3, width))]).float():
        costs = [cost.flatten()[path].sum().item() for path in paths]
        candidates = [path for path, c in zip(paths, costs, strict=True) if c == min(costs)]
        best = min(candidates, key=lambda path: (len(path), path[::-1]))
        expected = torch.zeros(3 * width)
        expected[best] = 1
        assert torch.equal(solver(-cost).flatten(), expected)


@pytest.mark.parametrize("neighbours", [4, 8])
def test_the_best_of_all_paths(neighbours: int) -> None:
    torch.manual_seed(3)
    solver = GridPath(neighbours)
    vertices = solver.vertices((4, 4)).double()
    assert len(vertices) == len(vertices.unique(dim=0))
    assert solver.is_feasible(vertices).all()
    every = ((torch.arange(2**9)[:, None] >> torch.arange(9)) & 1).reshape(-1, 3, 3).float()
    small = every[solver.is_feasible(every)]
    assert torch.equal(small.unique(dim=0), solver.vertices((3, 3)).unique(dim=0))
    theta = -torch.rand(200, 4, 4, dtype=torch.float64)
    scores = torch.einsum("bij,vij->bv", theta, vertices)
    torch.testing.assert_close((theta * solver(theta)).sum((-1, -2)), scores.amax(-1))


def test_masks_and_ends_of_each_instance() -> None:
    torch.manual_seed(4)
    theta = -torch.rand(2, 40, 7, 6, dtype=torch.float64)
    sizes = torch.randint(1, 7, (40, 2))
    mask = (torch.arange(7)[:, None] < sizes[:, :1, None]) & (torch.arange(6) < sizes[:, 1:, None])
    instance = {"mask": mask, "target": sizes - 1}
    y = GridPath()(theta, instance)
    assert GridPath().is_feasible(y, instance).all()
    for i, (height, width) in enumerate(sizes.tolist()):
        small = GridPath()(theta[:, i, :height, :width])
        assert torch.equal(y[:, i, :height, :width], small)
        assert y[:, i].sum() == small.sum()
    reverse = GridPath(8, source=(-1, -1), target=(0, 0))(theta)
    assert torch.equal(reverse, GridPath()(theta.flip(-1, -2)).flip(-1, -2))  # no ties: there and back again


def winding(size: int) -> Tensor:
    """Costs whose shortest path goes back and forth through every other row."""
    cost = torch.ones(size, size)
    cost[1::2] = 1e4
    cost[1::4, -1] = cost[3::4, 0] = 1
    return cost


@pytest.mark.parametrize("size", [33, 65])
def test_where_sweeping_is_given_up(size: int) -> None:
    """Up and down at every other column: sweeps of rows take as many rounds as there are columns."""
    torch.manual_seed(5)
    cost = winding(size).T * (1 + 0.01 * torch.rand(40, size, size))
    y = grid_path(-cost, None, None, None, 4)
    assert y[0].sum() > size * size / 2
    assert torch.equal(y, grid_path(-cost, None, None, None, 4, False))


def test_more_vertices_than_two_bytes_count() -> None:
    theta = -torch.rand(3, 260, 270)
    y = grid_path(theta, None, None, None, 8)
    assert torch.equal(y, grid_path(theta, None, None, None, 8, False))
    assert torch.equal(y, shortest_path(theta, None, *_ends(theta, None, None), 8)[0])


def test_obstacles_are_walked_around() -> None:
    mask = torch.tensor([[1, 0, 1], [1, 0, 1], [1, 1, 1]]).bool()
    theta = -torch.ones(3, 3, 3)
    y = GridPath(4, target=(0, 2))(theta, {"mask": mask})
    assert torch.equal(y[0], mask.float())
    theta = theta.where(mask, torch.tensor(5.0))  # what is blocked may cost anything
    y = GridPath(8, target=(0, 2))(theta, {"mask": mask})
    assert y[0].tolist() == [[1, 0, 1], [1, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize("solve", ["solver", "twin"])
@pytest.mark.parametrize("batch", [1, 40])
def test_errors_name_the_row(solve: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if solve == "twin":
        monkeypatch.setattr(ops, "serves", lambda theta: False)
    theta = -torch.ones(2, batch, 4, 4)
    row = rf"row \[1, {batch - 1}\]"
    positive = theta.clone()
    positive[1, -1, 2, 2] = 1e-3
    with pytest.raises(UserError, match=row + ".*positive score.*clip"):
        GridPath()(positive)
    assert torch.equal(GridPath(clip=True)(positive), GridPath()(positive.clamp(max=0)))
    mask = torch.ones(theta.shape, dtype=torch.bool)
    mask[1, -1, 1:3] = False
    with pytest.raises(UserError, match=row + ".*no path"):
        GridPath()(theta, {"mask": mask})
    target = torch.full((2, batch, 2), 3)
    target[1, -1, 1] = 4
    with pytest.raises(UserError, match=row + ".*outside of the 4 x 4 grid"):
        GridPath()(theta, {"target": target})


@pytest.mark.parametrize("kind", [Tensor.int, Tensor.byte, Tensor.double, Tensor.tolist, Tensor.numpy])
def test_instances_of_any_kind(kind: Callable[[Tensor], Any]) -> None:
    """The kernel takes addresses: what it reads as 64-bit integers must be such."""
    theta = -torch.rand(5, 4, 6)
    source, target = torch.randint(0, 4, (2, 5, 2))
    expected = GridPath()(theta, {"mask": torch.ones(4, 6), "source": source, "target": target})
    given = {"mask": kind(torch.ones(4, 6)), "source": kind(source), "target": kind(target)}
    assert torch.equal(GridPath()(theta, given), expected)


def test_malformed_instances() -> None:
    theta = -torch.ones(2, 4, 4)
    with pytest.raises(UserError, match="does not fit"):
        GridPath()(theta, {"mask": torch.ones(3, 3)})
    for nonsense in ("walls", [[1, 0], [1]]):
        with pytest.raises(UserError, match="mask is no array of numbers"):
            GridPath()(theta, {"mask": nonsense})
    for ends in (3, (1, 2, 3)):
        with pytest.raises(UserError, match="source and target are a row and a column"):
            GridPath(source=ends)
    with pytest.raises(UserError, match="mask, source, target"):
        GridPath()(theta, {"goal": torch.zeros(2)})
    with pytest.raises(UserError, match="4 or 8"):
        GridPath(6)
    with pytest.raises(UserError, match="at least one vertex"):
        GridPath()(torch.zeros(2, 0, 3))


def test_infeasible_decisions() -> None:
    solver = GridPath()
    diagonal = torch.eye(3)
    assert solver.is_feasible(diagonal)
    assert not GridPath(4).is_feasible(diagonal)
    assert not solver.is_feasible(diagonal / 2)
    assert not solver.is_feasible(diagonal, {"mask": ~diagonal.bool()})
    for vertex in ((0, 0), (1, 1), (2, 2)):
        broken = diagonal.clone()
        broken[vertex] = 0
        assert not solver.is_feasible(broken)
    assert not solver.is_feasible(torch.ones(3, 3))
    ring = torch.ones(3, 3)
    ring[1, 1] = 0
    assert not solver.is_feasible(ring)
    assert not solver.is_feasible(torch.zeros(3, 3))


def test_ignores_the_scale() -> None:
    theta = -torch.rand(50, 6, 6, dtype=torch.float64)
    solver = GridPath()
    assert torch.equal(solver(theta), solver(3 * theta))
    assert torch.equal(solver(theta), solver(solver.project(theta)))
