"""What solvers declare holds: linear, nonpositive, binary, and the names of their instances."""

import pytest
import torch

from dbp import solvers
from dbp.core import Solver
from dbp.errors import UserError
from dbp.solvers.scores import random_scores

GRAPH = ((0, 1), (1, 2), (0, 2), (2, 3), (1, 3))
ROUND = ((0, 1), (1, 0), (1, 2), (0, 2), (2, 1))  # with cycles
CASES: dict[str, tuple[Solver, tuple[int, ...]]] = {
    "arborescence": (solvers.Arborescence(ROUND), (5,)),
    "binary": (solvers.Binary(), (4,)),
    "function": (solvers.FromFunction(lambda theta: (theta > 0).to(theta)), (4,)),
    "function, linear": (solvers.FromFunction(lambda theta: (theta > 0).to(theta), linear=True), (4,)),
    "graph_matching": (solvers.GraphMatching((2, 3), ((0, 1),), ((0, 1), (1, 2))), (8,)),
    "graph_path": (solvers.GraphPath(ROUND), (5,)),
    "graph_path, clip": (solvers.GraphPath(ROUND, clip=True), (5,)),
    "grid_path": (solvers.GridPath(), (3, 3)),
    "grid_path, clip": (solvers.GridPath(clip=True), (3, 3)),
    "integer_program": (solvers.IntegerProgram(((1.0, 2.0, 3.0),), (4.0,)), (3,)),
    "k_means": (solvers.KMeans(2), (5, 2)),
    "knapsack": (solvers.Knapsack((1, 2, 3), 4), (3,)),
    "matching": (solvers.Matching(), (3, 4)),
    "one_hot": (solvers.OneHot(), (4,)),
    "any": (solvers.Or(), (4,)),
    "perfect_matching": (solvers.PerfectMatching(((0, 1), (2, 3), (0, 2), (1, 3))), (4,)),
    "permutation": (solvers.Permutation(), (4,)),
    "rank": (solvers.Rank(), (4,)),
    "signum": (solvers.Signum(), ()),
    "sort": (solvers.Sort(), (4,)),
    "spanning_tree": (solvers.SpanningTree(GRAPH), (5,)),
    "threshold": (solvers.Threshold(), ()),
    "top_k": (solvers.TopK(2), (4,)),
    "tour": (solvers.Tour(), (5, 5)),
}
NOT_LINEAR = {"binary", "function", "k_means", "any", "permutation", "signum", "sort"}
each = pytest.mark.parametrize("name", CASES)


def test_every_solver_is_here() -> None:
    assert {type(solver) for solver, _ in CASES.values()} == {getattr(solvers, name) for name in solvers.__all__}
    assert {name for name, (solver, _) in CASES.items() if not solver.linear} == NOT_LINEAR


LISTED = [name for name, (solver, _) in CASES.items() if solver.offers("vertices")]


@pytest.mark.parametrize("name", LISTED)
def test_it_is_linear_if_no_decision_is_better(name: str) -> None:
    solver, shape = CASES[name]
    theta = torch.randn(200, *shape, dtype=torch.float64)
    theta = -theta.abs() if "path" in name else theta  # `clip` takes positive scores as others
    y, ys = solver(theta), solver.vertices(shape).double()
    if y.shape != theta.shape:
        assert not solver.linear
        return
    best = theta.reshape(200, -1) @ ys.reshape(len(ys), -1).T
    reached = (theta * y).reshape(200, -1).sum(1)
    assert torch.allclose(reached, best.amax(1)) == solver.linear


@each
def test_it_takes_the_scores_that_it_says(name: str) -> None:
    solver, shape = CASES[name]
    assert solver.nonpositive == (name in ("graph_path", "grid_path"))
    y = solver(random_scores(solver, (50, *shape)))
    if solver.binary:
        assert ((y == 0) | (y == 1)).all()
    if solver.nonpositive:
        with pytest.raises(UserError, match="clip=True"):
            solver(torch.ones(shape))


@each
def test_instances_are_mappings_of_the_names_that_it_says(name: str) -> None:
    solver, shape = CASES[name]
    theta = random_scores(solver, shape)
    if solver.instance_keys != ():
        assert torch.equal(solver(theta, {}), solver(theta))
    wrong = [torch.ones(3), (1, 2), [1]] if solver.instance_keys is None else [torch.ones(3), (1, 2), {"shoe": 1}]
    for instance in wrong:
        with pytest.raises(UserError, match=rf"{type(solver).__name__} takes (an instance .* of|no instance)"):
            solver(theta, instance)
    for key in solver.instance_keys or ():
        with pytest.raises(UserError, match=rf"no gradient reaches the instance: give {key}.detach\(\)"):
            solver(theta, {key: torch.ones(3, requires_grad=True)})
