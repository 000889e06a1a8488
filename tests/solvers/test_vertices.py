"""Feasible sets of small problems: enumerated, recognised, and the solver finds the best of each."""

import pytest
import torch

from dbp.core import Solver
from dbp.errors import Unsupported, UserError
from dbp.scores import dot
from dbp.solvers import GridPath, Knapsack, Matching, OneHot, Rank, Sort, SpanningTree, Threshold, TopK, Tour

# solver, event shape, how many vertices
SETS = [
    (OneHot(), (4,), 4),
    (TopK(2), (5,), 10),
    (TopK(5), (5,), 1),
    (Threshold(), (), 2),
    (Rank(), (4,), 24),
    (GridPath(4), (2, 2), 2),
    (GridPath(8), (3, 3), 3),
    (GridPath(8, source=(0, 2)), (2, 3), 1),
    (GridPath(4, target=(2, 0)), (3, 3), 3),
]


@pytest.mark.parametrize(("solver", "shape", "count"), SETS, ids=str)
def test_the_best_vertex(solver: Solver, shape: tuple[int, ...], count: int) -> None:
    vertices = solver.vertices(shape)
    assert vertices.shape == (count, *shape)
    assert len(vertices.unique(dim=0)) == count
    assert solver.is_feasible(vertices).all()
    theta = -torch.rand(100, *shape, dtype=torch.float64)
    if not isinstance(solver, GridPath):
        theta = theta + 0.5
    y = solver(theta)
    assert solver.is_feasible(y).all()
    best = dot(theta[:, None], vertices.double(), solver.event_dim).amax(1)
    torch.testing.assert_close(dot(theta, y, solver.event_dim), best)


@pytest.mark.parametrize(("solver", "shape", "count"), SETS, ids=str)
def test_what_is_not_a_vertex(solver: Solver, shape: tuple[int, ...], count: int) -> None:
    vertices = solver.vertices(shape)
    assert not solver.is_feasible(vertices / 2 + 0.25).any()
    if not isinstance(solver, Rank):
        size = vertices[0].numel()
        every = (torch.arange(2**size)[:, None] >> torch.arange(size) & 1).reshape(-1, *shape).float()
        assert solver.is_feasible(every).sum() == count


def test_solvers_that_cannot_say_so() -> None:
    with pytest.raises(Unsupported, match="lists its decisions, which Sort does not claim"):
        Sort().vertices((3,))
    with pytest.raises(Unsupported, match="Sort cannot tell"):
        Sort().is_feasible(torch.ones(3))


@pytest.mark.parametrize(
    ("solver", "shape"),
    [
        (GridPath(), (12, 20)),
        (TopK(20), (100,)),
        (Rank(), (20,)),
        (Matching(), (20, 20)),
        (Knapsack([1.0] * 40, 5.0), (40,)),
        (SpanningTree([(a, b) for b in range(12) for a in range(b)]), (66,)),
        (Tour(), (15, 15)),
    ],
)
def test_too_many_decisions_are_not_listed(solver: Solver, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="more than 200,000 decisions"):
        solver.vertices(shape)
