"""Feasible sets of small problems: enumerated, recognised, and the solver finds the best of each."""

import pytest
import torch
from examples import MANY, SOLVERS

from dbp.errors import Unsupported, UserError
from dbp.scores import dot
from dbp.solvers import Sort

SETS = [name for name, example in SOLVERS.items() if example.count is not None]


@pytest.mark.parametrize("name", SETS)
def test_the_best_vertex(name: str) -> None:
    solver, shape, _, _, count, *_ = SOLVERS[name]
    vertices = solver.vertices(shape)
    assert vertices.shape == (count, *shape)
    assert len(vertices.unique(dim=0)) == count
    assert solver.is_feasible(vertices).all()
    theta = -torch.rand(100, *shape, dtype=torch.float64)
    if not solver.nonpositive:
        theta = theta + 0.5
    y = solver(theta)
    assert solver.is_feasible(y).all()
    best = dot(theta[:, None], vertices.double(), solver.event_dim).amax(1)
    torch.testing.assert_close(dot(theta, y, solver.event_dim), best)


@pytest.mark.parametrize("name", SETS)
def test_what_is_not_a_vertex(name: str) -> None:
    solver, shape, _, _, count, *_ = SOLVERS[name]
    vertices = solver.vertices(shape)
    assert not solver.is_feasible(vertices / 2 + 0.25).any()
    if solver.binary and vertices[0].numel() <= 13:
        size = vertices[0].numel()
        every = (torch.arange(2**size)[:, None] >> torch.arange(size) & 1).reshape(-1, *shape).float()
        assert solver.is_feasible(every).sum() == count


def test_solvers_that_cannot_say_so() -> None:
    with pytest.raises(Unsupported, match="lists its decisions, which Sort does not claim"):
        Sort().vertices((3,))
    with pytest.raises(Unsupported, match="Sort cannot tell"):
        Sort().is_feasible(torch.ones(3))


@pytest.mark.parametrize("name", MANY)
def test_too_many_decisions_are_not_listed(name: str) -> None:
    solver, shape = MANY[name]
    with pytest.raises(UserError, match="more than 200,000 decisions"):
        solver.vertices(shape)
