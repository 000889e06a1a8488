"""What solvers declare holds: linear, nonpositive, binary, and the names of their instances."""

import pytest
import torch
from examples import SOLVERS

from dbp.errors import UserError
from dbp.solvers.scores import random_scores

CASES = {name: example for name, example in SOLVERS.items() if example.instance is None}
FEW = {name: example for name, example in CASES.items() if torch.Size(example.shape).numel() < 40}
LISTED = [name for name, example in FEW.items() if example.solver.offers("vertices")]
each = pytest.mark.parametrize("name", CASES)


@each
def test_it_is_linear_as_its_example_says(name: str) -> None:
    assert CASES[name].solver.linear == CASES[name].linear


@pytest.mark.parametrize("name", LISTED)
def test_it_is_linear_if_no_decision_is_better(name: str) -> None:
    solver, shape = CASES[name].solver, CASES[name].shape
    theta = torch.randn(200, *shape, dtype=torch.float64)
    theta = -theta.abs() if solver.nonpositive or "linear" in CASES[name].skip else theta
    event = shape[len(shape) - solver.event_dim :]
    y, ys = solver(theta), solver.vertices(event).double()
    if y.shape != theta.shape:
        assert not solver.linear
        return
    best = theta.reshape(-1, ys[0].numel()) @ ys.reshape(len(ys), -1).T
    reached = (theta * y).reshape(-1, ys[0].numel()).sum(1)
    assert torch.allclose(reached, best.amax(1)) == solver.linear


@each
def test_it_takes_the_scores_that_it_says(name: str) -> None:
    solver, shape = CASES[name].solver, CASES[name].shape
    y = solver(random_scores(solver, (50, *shape)))
    if solver.binary:
        assert ((y == 0) | (y == 1)).all()
    if solver.nonpositive and "nonpositive" not in CASES[name].skip:
        with pytest.raises(UserError, match="clip=True"):
            solver(torch.ones(shape))
    if not solver.nonpositive:
        assert solver(torch.ones(shape)).isfinite().all()


@each
def test_instances_are_mappings_of_the_names_that_it_says(name: str) -> None:
    solver, shape = CASES[name].solver, CASES[name].shape
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
