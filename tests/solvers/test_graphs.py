"""What holds for all solvers on graphs: optimal among all their decisions, whatever the shape, dtype and graph."""

from dataclasses import replace

import pytest
import torch
from graphs import both, complete, integers, values

from dbp.solvers import GraphMatching, GraphPath, PerfectMatching
from dbp.solvers.graphs import grid_edges

PAIRS = GraphMatching((3, 4), ((0, 1), (1, 2)), both(((0, 1), (1, 2), (2, 3), (0, 2))))
SOLVERS = {
    "path, grid": GraphPath(grid_edges(3, 4)),
    "path, both ways": GraphPath(both(complete(4)), source=2, target=0),
    "path, of no length": GraphPath(complete(4), source=3),
    "pairs, grid": PerfectMatching(grid_edges(2, 4)),
    "pairs, complete": PerfectMatching(complete(6)),
    "pairs, parallel": PerfectMatching((*complete(4), *complete(4))),
    "alignment": PAIRS,
    "alignment, square": GraphMatching((3, 3), complete(3), both(complete(3))),
    "alignment, to fewer": GraphMatching((4, 2), ((0, 1), (2, 3), (3, 3)), ((0, 1), (1, 0), (0, 0))),
    "alignment, no edges": GraphMatching((3, 3)),
}


def size(solver):
    if isinstance(solver, GraphMatching):
        return solver.nodes[0] * solver.nodes[1] + len(solver.first) * len(solver.second)
    return len(solver.edges)


def scores(solver, *leading, seed=0):
    """Small integers, with ties; not positive where a cycle must not pay."""
    theta = integers(*leading, size(solver), seed=seed)
    return -theta.abs() if isinstance(solver, GraphPath) else theta


@pytest.fixture(params=SOLVERS)
def solver(request):
    return SOLVERS[request.param]


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_optimal_among_all_decisions(solver, scale):
    theta, everything = scores(solver, 30), solver.vertices([size(solver)])
    assert solver.is_feasible(everything).all()
    assert len(everything.unique(dim=0)) == len(everything)
    y = solver(scale * theta)
    assert solver.is_feasible(y).all()
    assert torch.equal(values(y, theta), (theta @ everything.T).amax(-1))


def test_feasible_are_the_vertices_alone(solver):
    everything = {tuple(row) for row in solver.vertices([size(solver)]).tolist()}
    y = integers(3000, size(solver), low=0, high=2)
    near = solver.vertices([size(solver)]).repeat(50, 1)
    flip = torch.nn.functional.one_hot(torch.arange(len(near)) % size(solver), size(solver))
    y = torch.cat([y, (near - flip).abs()])
    assert solver.is_feasible(y).tolist() == [tuple(row) in everything for row in y.tolist()]
    assert not solver.is_feasible(near + 0.5 * flip).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_shapes_and_dtypes(solver, dtype):
    theta = scores(solver, 3, 2).to(dtype)
    y = solver(theta)
    assert y.dtype == dtype
    assert torch.equal(y, solver(theta.float()).to(dtype))
    assert torch.equal(y, torch.stack([torch.stack([solver(row) for row in rows]) for rows in theta]))
    assert torch.equal(y, solver(theta.transpose(0, 1).contiguous().transpose(0, 1)))
    assert solver(theta[:0]).shape == (0, *y.shape[1:])
    assert solver.is_feasible(y[:0]).shape == (0, 2)
    assert solver.is_feasible(y).shape == (3, 2)
    assert torch.equal(solver(theta), y)


def test_projection_changes_no_value(solver):
    theta = scores(solver, 30)
    torch.testing.assert_close(values(solver(solver.project(theta)), theta), values(solver(theta), theta))


def test_a_graph_of_many_is_the_graph_of_all(solver):
    """One graph for each row, all alike, padded: the same decisions; also for samples of each row."""
    theta = scores(solver, 2, 5)
    names = ("first", "second") if isinstance(solver, GraphMatching) else ("edges",)
    own = {
        name: torch.tensor(getattr(solver, name), dtype=torch.long).reshape(-1, 2).expand(5, -1, 2) for name in names
    }
    same = solver(theta, own)
    torch.testing.assert_close(values(same, theta), values(solver(theta), theta))
    assert solver.is_feasible(same, own).all()
    if isinstance(solver, GraphPath | PerfectMatching):
        assert torch.equal(same, solver(theta))
        padded = {"edges": torch.cat([torch.full((5, 1, 2), -1), own["edges"]], 1)}
        more = torch.cat([torch.full((2, 5, 1), 99.0), theta], -1)
        assert torch.equal(solver(more, padded), torch.nn.functional.pad(same, (1, 0)))
        assert solver.is_feasible(solver(more, padded), padded).all()


@pytest.mark.parametrize("name", ["pairs, complete", "alignment"])
def test_worker_processes_decide_the_same(name):
    theta = scores(SOLVERS[name], 6)
    assert torch.equal(replace(SOLVERS[name], workers=2)(theta), SOLVERS[name](theta))
