"""Checks of the promises of a solver."""

from collections.abc import Collection, Sequence
from typing import Any

import torch

from dbp.core import Solver
from dbp.testing.checks import random_state, require, run, same, table, untouched
from dbp.testing.decisions import (
    binary,
    feasible,
    instance_keys,
    large_scores,
    lead,
    linear,
    listed,
    masked_scores,
    nonpositive,
    optimal,
)
from dbp.testing.families import distribution, finite_relaxation, gibbs, partition, relaxation
from dbp.testing.solving import SolverCase


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
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        theta = case.scores(3, dtype=dtype)
        y = case.solve(theta)
        require(y.device == theta.device, f"moves to another device: scores on {theta.device}, decision on {y.device}")
        require(y.dtype == dtype, f"changes the dtype: scores of {dtype}, decision of {y.dtype}")


def invariance(case: SolverCase) -> None:
    theta = case.scores(64)
    y = case.solve(theta)
    projected = case.solver.project(theta, case.instance)
    message = "fails the invariance it claims: solve(project(theta)) differs from solve(theta)"
    require(same(case.solve(projected), y), message)
    leaf = torch.zeros_like(theta, requires_grad=True)
    out = case.solver.project(leaf, case.instance)
    (grad,) = torch.autograd.grad(out.sum(), leaf)
    require(out.isfinite().all() and grad.isfinite().all(), "has a projection that is not finite at theta = 0")


SOLVER_CHECKS = table(
    no_gradient, no_side_effect, no_randomness, leading_dims, device_and_dtype, invariance, nonpositive, instance_keys,
    listed, binary, optimal, linear, large_scores, masked_scores, feasible, lead, relaxation, finite_relaxation,
    partition, gibbs, distribution,
)  # fmt: skip
