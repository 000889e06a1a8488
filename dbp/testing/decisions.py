"""Checks of decisions: they are those that the solver declares, and the best of them."""

from collections.abc import Callable

import torch

from dbp.errors import Unsupported, UserError
from dbp.scores import dot
from dbp.testing.checks import require, same
from dbp.testing.solving import SolverCase, gap, masked


def listed(case: SolverCase) -> None:
    if case.vertices is not None:
        found = case.matches(case.solve(case.scores(64)), case.vertices).any(-1)
        require(found.all(), "makes a decision that is not among its vertices")
        repeated = len(case.vertices) - len(case.vertices.unique(dim=0))
        require(repeated == 0, f"lists {repeated} of its vertices twice")


def binary(case: SolverCase) -> None:
    y = case.solve(case.scores(64))
    marks = ((y == 0) | (y == 1)).all()
    require(marks or not case.solver.binary, "says that its decisions are binary, and makes one that is not 0 or 1")


def optimal(case: SolverCase) -> None:
    theta = case.scores(64, dtype=torch.float64)
    y = case.solve(theta)
    if case.vertices is None or not case.solver.linear:
        return
    every = theta.unsqueeze(theta.ndim - case.solver.event_dim)  # [64, *leading, 1, *event]
    best = dot(every, case.vertices.to(theta), case.solver.event_dim).amax(-1)
    short = (best - dot(theta, y, case.solver.event_dim)).max().item()
    require(short < 1e-6, f"is not optimal: another of its vertices is worth {short:.3g} more")


def linear(case: SolverCase) -> None:
    if not case.solver.linear:
        return
    theta = case.scores(64, dtype=torch.float64)
    y = case.solve(theta)
    says = "says that it is linear, and"
    require(y.shape == theta.shape, f"{says} decides {list(y.shape)} for scores of shape {list(theta.shape)}")
    short = gap(case.worth(theta, y))
    message = f"{says} does not maximise <theta, y>: its decision for other scores is worth {short:.3g} more"
    require(short < 1e-6, message)


def large_scores(case: SolverCase) -> None:
    theta = case.scores(16)
    y = case.solve(theta)
    for size in (2.0**14, 2.0**-14):  # powers of two change no digit of a score
        scaled = case.solve(size * theta)
        require(scaled.isfinite().all(), f"is not finite for {size:g} times its scores")
        if case.solver.linear:
            short = (case.worth(theta, y).diagonal() - case.worth(theta, scaled).diagonal()).max().item()
            require(short < 1e-4, f"decides worse for {size:g} times its scores: by {short:.3g}")


def masked_scores(case: SolverCase) -> None:
    theta = masked(case.scores(16), case.event)
    y = case.solve(theta)
    require(y.isfinite().all() and case.is_feasible(y), "makes an infeasible decision where scores are -1e9")
    if case.solver.linear:
        worth = case.worth(theta, torch.cat([y, case.solve(case.scores(16))]))
        short = gap(worth) / max(1.0, worth.amax(1).abs().max().item())
        require(short < 1e-5, f"is not optimal where scores are -1e9: it misses a share {short:.3g} of the best worth")


def nonpositive(case: SolverCase) -> None:
    if case.solver.nonpositive:
        theta = case.scores(3).abs() + 1
        _refuses(lambda: case.solve(theta), "says that it is nonpositive, and takes positive scores")


def instance_keys(case: SolverCase) -> None:
    solver, theta = case.solver, case.scores(3)
    if solver.instance_keys is not None:
        odd = {**(case.instance or {}), "no_such_name": torch.zeros(1, device=case.device)}
        fault = f"takes an instance with names besides its instance_keys {list(solver.instance_keys)}"
        _refuses(lambda: solver(theta, odd), fault)


def _refuses(call: Callable[[], object], fault: str) -> None:
    try:
        call()
    except UserError:
        return
    raise AssertionError(fault)


def feasible(case: SolverCase) -> None:
    y = case.solve(case.scores(16))
    try:
        holds = case.solver.is_feasible(y, case.instance)
    except Unsupported:
        return
    require(holds.shape == y.shape[: holds.ndim] and holds.dtype == torch.bool, "says feasibility in another shape")
    require(holds.all(), "makes a decision that it calls infeasible")


def lead(case: SolverCase) -> None:
    if not case.solver.offers("lead") or case.vertices is None or len(case.vertices) < 2:
        return
    theta = case.events(16)
    best = case.worth(theta, case.vertices).topk(2).values
    ahead = case.solver.lead(theta, case.instance)
    require(same(ahead.double(), best[:, 0] - best[:, 1]), "has a lead that is not that of its two best vertices")
