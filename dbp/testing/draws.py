"""Checks of an estimator's draws, and of what it needs of a solver."""

from typing import Any

import torch
from torch import Tensor

from dbp.core import Solver
from dbp.errors import Unsupported
from dbp.testing.checks import require
from dbp.testing.steps import EstimatorCase

_MANY = 4000


def sample(case: EstimatorCase) -> None:
    theta = case.scores().expand(_MANY, *case.shape)
    first, other = (_sample(case, theta, seed) for seed in (1, 2))
    plain = case.solver(theta, case.instance)
    require(first.shape == plain.shape, f"samples decisions of shape {list(first.shape)}, not {list(plain.shape)}")
    require(first.dtype == theta.dtype, f"samples decisions of {first.dtype} for scores of {theta.dtype}")
    require(_feasible(case, first), "samples a decision that its solver calls infeasible")
    y, again = (case.draws(theta, seed) for seed in (1, 2))
    if torch.equal(y, again):
        return
    message = "has a sample that does not draw: training's decisions differ with the seed, those of sample do not"
    require(not torch.equal(first, other), message)
    y = y[(0,) * (y.ndim - plain.ndim)]
    if case.solver.offers("is_feasible") and _feasible(case, y):
        error = ((y.var(0) + first.var(0)) / _MANY).sqrt().clamp_min(1e-4)
        away = ((y.mean(0) - first.mean(0)).abs() / error).max().item()
        require(away < 5, f"has a sample that is not training's: their means are {away:.0f} standard errors apart")


def _sample(case: EstimatorCase, theta: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return case.copy().eval().sample(case.solver, theta, case.instance)


def _feasible(case: EstimatorCase, y: Tensor) -> bool:
    return not case.solver.offers("is_feasible") or bool(case.solver.is_feasible(y, case.instance).all())


def needs(case: EstimatorCase) -> None:
    theta, names = case.scores(4), tuple(case.estimator.needs)
    target = case.target(theta)

    def decide(solver: Solver, train: bool = True) -> None:
        case.copy().train(train)(solver, theta.clone().requires_grad_(), case.instance, target)

    try:
        decide(offering(case.solver, names))
    except Unsupported as error:
        raise AssertionError(f"needs more of a solver than its needs {list(names)}: {error}") from None
    for name in names:
        less = offering(case.solver, tuple(other for other in names if other != name))
        decide(less, train=False)
        try:
            decide(less)
        except Unsupported:
            continue
        raise AssertionError(f"says that it needs {name!r} of a solver, and takes one that does not offer it")


def offering(solver: Solver, names: tuple[str, ...]) -> Solver:
    """A solver that decides as this one does, and of all that is optional offers these alone."""
    declared = {name: getattr(solver, name) for name in ("event_dim", "nonpositive", "instance_keys")}
    optional = {name: name in names and getattr(solver, name) for name in ("linear", "binary", "elementwise")}
    methods = [name for name in names if callable(getattr(Solver, name))]
    calls = {name: staticmethod(getattr(solver, name)) for name in ("solve", "project", *methods)}
    noise = solver.noise if "noise" in names else None
    body: dict[str, Any] = {**declared, **optional, **calls, "noise": noise}
    made: Solver = type(type(solver).__name__, (Solver,), body)()
    return made
