"""Checks of the promises of a solver."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dbp.core import Solver
from dbp.errors import Unsupported
from dbp.scores import dot
from dbp.solvers.scores import random_scores
from dbp.testing.checks import random_state, require, run, same, table, untouched


def check_solver(
    solver: Solver,
    shape: Sequence[int],
    instance: Any = None,
    *,
    device: torch.device | str = "cpu",
    skip: Collection[str] = (),
) -> None:
    """Checks that a solver is a deterministic function of any leading dims, and optimal if it lists its decisions.

    Args:
        solver: what is checked.
        shape: of one input's scores, small; dims before the event's are leading dims like others.
        instance: handed to the solver; without leading dims, on `device`.
        device: where theta lives.
        skip: checks to leave out, by name: "optimal" for a hard function that maximises nothing.

    Raises:
        AssertionError: a fault, named.
    """
    run(SOLVER_CHECKS, SolverCase(solver, tuple(shape), instance, torch.device(device)), solver, skip)


@dataclass(frozen=True)
class SolverCase:
    """A solver with inputs to try it on."""

    solver: Solver
    shape: tuple[int, ...]
    instance: Any
    device: torch.device

    def scores(self, *leading: int, dtype: torch.dtype = torch.float32) -> Tensor:
        shape = (*leading, *self.shape)
        return random_scores(self.solver, shape, self.instance, dtype, self.device)

    def solve(self, theta: Tensor) -> Tensor:
        return self.solver(theta, self.instance)

    @property
    def event(self) -> tuple[int, ...]:
        return self.shape[len(self.shape) - self.solver.event_dim :]

    @cached_property
    def vertices(self) -> Tensor | None:
        """Every decision, or None if the solver does not list them."""
        try:
            return self.solver.vertices(self.event, self.instance).to(self.device)
        except Unsupported:
            return None

    def matches(self, y: Tensor, vertices: Tensor) -> Tensor:
        """True where a decision is a vertex, `[decisions, vertices]`."""
        rows = y.reshape(-1, *vertices.shape[1:])
        return (rows[:, None] == vertices.to(y)).reshape(len(rows), len(vertices), -1).all(-1)


def no_gradient(case: SolverCase) -> None:
    theta = case.scores(3).requires_grad_()
    y = case.solve(theta)
    require(not y.requires_grad, "has a gradient: its decision must be a constant, the estimator gives the gradient")


def no_side_effect(case: SolverCase) -> None:
    theta = case.scores(3)
    before = theta.clone()
    case.solve(theta)
    require(torch.equal(theta, before), "changes the scores that it is given")


def no_randomness(case: SolverCase) -> None:
    theta = case.scores(16).round()  # with ties
    before = random_state(case.device)
    first = case.solve(theta)
    require(untouched(before, case.device), "uses randomness: it draws from the global generator")
    again = [torch.equal(case.solve(theta), first) for _ in range(4)]
    require(all(again), "uses randomness: the same scores (some tied) have different decisions")


def leading_dims(case: SolverCase) -> None:
    theta = case.scores(2, 3)
    y = case.solve(theta)
    single = [[case.solve(theta[i, j]) for j in range(3)] for i in range(2)]
    require(
        same(y, torch.stack([torch.stack(row) for row in single])),
        "breaks on leading dims: rows solved together and one by one have different decisions",
    )
    strided = case.solve(theta.transpose(0, 1))
    require(same(strided, y.transpose(0, 1)), "breaks on leading dims: it mixes up rows that are not contiguous")
    empty = case.solve(theta[:0]).shape
    require(empty == (0, *y.shape[1:]), f"breaks on leading dims: an empty batch has decisions of shape {list(empty)}")


def device_and_dtype(case: SolverCase) -> None:
    for dtype in (torch.float32, torch.float64):
        theta = case.scores(3, dtype=dtype)
        y = case.solve(theta)
        require(y.device == theta.device, f"moves to another device: scores on {theta.device}, decision on {y.device}")
        require(y.dtype == dtype, f"changes the dtype: scores of {dtype}, decision of {y.dtype}")


def invariance(case: SolverCase) -> None:
    theta = case.scores(64)
    y = case.solve(theta)
    projected = case.solver.project(theta)
    message = "fails the invariance it claims: solve(project(theta)) differs from solve(theta)"
    require(same(case.solve(projected), y), message)
    leaf = torch.zeros_like(theta, requires_grad=True)
    out = case.solver.project(leaf)
    (grad,) = torch.autograd.grad(out.sum(), leaf)
    require(out.isfinite().all() and grad.isfinite().all(), "has a projection that is not finite at theta = 0")


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


def feasible(case: SolverCase) -> None:
    y = case.solve(case.scores(16))
    try:
        holds = case.solver.is_feasible(y, case.instance)
    except Unsupported:
        return
    require(holds.shape == y.shape[: holds.ndim] and holds.dtype == torch.bool, "says feasibility in another shape")
    require(holds.all(), "makes a decision that it calls infeasible")


def relaxation(case: SolverCase) -> None:
    theta = case.scores(16).requires_grad_()
    y = case.solve(theta)
    try:
        soft = [case.solver.relax(theta, temperature) for temperature in (1.0, 0.01)]
    except Unsupported:
        return
    require(all(s.shape == y.shape for s in soft), "has a relaxation of another shape than the decision")
    empty = case.solver.relax(theta[:0]).shape
    require(empty == (0, *y.shape[1:]), f"relaxes an empty batch to shape {list(empty)}")
    warm, cold = ((s - y).abs().mean().item() for s in soft)
    message = f"is {warm:.2g} from the decision at temperature 1 and {cold:.2g} at 0.01"
    require(cold < warm / 4, f"has a relaxation that does not approach the decision: it {message}")
    (grad,) = torch.autograd.grad(soft[0].square().sum(), theta)
    require(grad.isfinite().all() and grad.any(), "has a relaxation without a finite gradient")


def distribution(case: SolverCase) -> None:
    solver, vertices = case.solver, case.vertices
    if not solver.offers("log_prob") or solver.noise is None or vertices is None:
        return
    theta = case.scores(dtype=torch.float64).reshape(-1, *case.event)[:1]
    p = solver.log_prob(theta.expand_as(vertices), vertices.to(theta)).exp()
    require(abs(p.sum().item() - 1) < 1e-6, f"has probabilities that add up to {p.sum().item():.6g}")
    many = theta.expand(40_000, *case.event)
    y = case.solve(many + solver.noise.sample(many))
    seen = case.matches(y, vertices).double().mean(0)
    z = ((seen - p) / (p * (1 - p) / len(many)).sqrt().clamp_min(1e-12)).abs().max().item()
    require(z < 5, f"has a log_prob that is not that of solver(theta + noise): {z:.0f} standard errors away")
    tied = solver.conditional(many[:1000], y[:1000])
    require(torch.equal(case.solve(tied), y[:1000]), "draws a conditional that solves to another decision")


SOLVER_CHECKS = table(
    no_gradient, no_side_effect, no_randomness, leading_dims, device_and_dtype, invariance, listed, binary, optimal,
    feasible, relaxation, distribution,
)  # fmt: skip
