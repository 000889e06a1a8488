"""Checks of the promises of an estimator."""

from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from typing import Any

import torch

from dbp.core import Estimator, Solver
from dbp.solvers.counting import counted
from dbp.testing.checks import random_state, require, run, same, table, untouched
from dbp.testing.draws import needs, sample
from dbp.testing.numbers import (
    autocast,
    finite_at_zero,
    gradient,
    large_scores,
    loss_scale,
    masked_scores,
    no_grad,
    precision,
)
from dbp.testing.steps import EstimatorCase, Result


def check_estimator(
    estimator: Estimator,
    solver: Solver,
    shape: Sequence[int],
    instance: Any = None,
    *,
    device: torch.device | str = "cpu",
    skip: Collection[str] = (),
) -> None:
    """Checks that an estimator is the solver in evaluation, and in training a repeatable, scale-free gradient.

    It is given a target (a decision, and the scores it is right for), which those that need none ignore. For an
    estimator that is supervised, that is, refuses to work without one, the surrogate may replace the losses.

    Args:
        estimator: what is checked, a copy of it.
        solver: a solver it works with; see `check_solver` for `shape`, `instance` and `device`.
        skip: checks to leave out, by name: "value" for a surrogate that adds a loss of its own, "rows" for one whose
            inputs share something, as a pool of solutions.

    Raises:
        AssertionError: a fault, named.
        Unsupported: the solver lacks what the estimator needs.
    """
    where = torch.device(device)
    case = EstimatorCase(deepcopy(estimator).to(where).train(), solver, tuple(shape), instance, where)
    run(ESTIMATOR_CHECKS, case, estimator, skip)


def evaluation(case: EstimatorCase) -> None:
    estimator, theta = case.copy().eval(), case.scores(4)
    before, kept = random_state(case.device), deepcopy(estimator.state_dict())
    draw = estimator(case.solver, theta, case.instance, case.target(theta))
    require(untouched(before, case.device), "draws random numbers in evaluation")
    require(same(draw.y, case.solver(theta, case.instance)), "is not the plain solver in evaluation")
    losses = case.losses(draw.y, theta)
    require(torch.equal(draw.surrogate(losses), losses), "changes the losses in evaluation")
    unchanged = all(torch.equal(value, kept[key]) for key, value in estimator.state_dict().items())
    require(unchanged, "changes its state in evaluation")


def repeatable(case: EstimatorCase) -> None:
    theta = case.scores(4)
    first, again = (case.step(case.copy(), theta) for _ in range(2))
    _require_same(first, again, "is not repeatable: under the same seed it draws another {}", tolerance=0)


def generator(case: EstimatorCase) -> None:
    theta, results = case.scores(4), list[Result]()
    for seed in (1, 2):  # of the global generator
        estimator = case.copy()
        estimator.generator = torch.Generator(case.device).manual_seed(1)
        torch.manual_seed(seed)
        before = random_state(case.device)
        estimator(case.solver, theta.clone().requires_grad_(), case.instance, case.target(theta))
        require(untouched(before, case.device), "draws from the global generator though it was given one of its own")
        estimator.generator = torch.Generator(case.device).manual_seed(1)
        results.append(case.step(estimator, theta, seed))
    first, again = results
    message = "has randomness besides the generator that it was given: it draws another {}"
    _require_same(first, again, message, tolerance=0)


def samples(case: EstimatorCase) -> None:
    estimator, theta = case.copy(), case.scores(4)
    estimator.samples = count = 2 if estimator.samples == 4 else 4  # not what it was
    solver, calls = counted(case.solver)
    y = estimator(solver, theta.requires_grad_(), case.instance, case.target(theta.detach())).y
    decisions = theta.shape[: theta.ndim - solver.event_dim].numel()
    solved = sum(call.inputs for call in calls)
    extra = y.shape[: y.ndim - case.solver(theta.detach(), case.instance).ndim]
    require(
        count in extra or solved >= count * decisions,
        f"ignores samples: with samples={count} its decision has shape {list(y.shape)} for scores of "
        f"{list(theta.shape)}, and the solver was called {solved / decisions:g} times for each",
    )


def rows(case: EstimatorCase) -> None:
    theta = case.scores(4)
    other = theta.clone()
    other[0] = 3 * theta[1]
    ours, theirs = (case.step(case.copy(), t).grad[1:] for t in (theta, other))
    require(same(ours, theirs), "lets one input influence another: its gradient changed with another row's scores")


def batch_size(case: EstimatorCase) -> None:
    """Of a sum of losses, the gradient at a row does not depend on how many others there are."""
    theta = case.scores(4)
    message = "lets one input influence another: its gradient for a row depends on the size of the batch"
    if not case.seeds_matter(theta):
        many, alone = (case.step(case.copy(), t).grad * len(t) for t in (theta, theta[:1]))
        require(same(many[:1], alone), message)
        return
    theta = case.scores().expand(20_000, *case.shape)
    many, half = (case.step(case.copy(), t, s).grad.double() * len(t) for t, s in ((theta, 1), (theta[:10_000], 2)))
    error = (many.var(0) / len(many) + half.var(0) / len(half)).sqrt() + 1e-6
    require(((many.mean(0) - half.mean(0)).abs() < 5 * error).all(), message)


def leading_dims(case: EstimatorCase) -> None:
    theta = case.scores(2, 3)
    square = case.step(case.copy(), theta)
    flat = case.step(case.copy(), theta.flatten(0, 1))
    require(
        same(square.grad.flatten(0, 1), flat.grad),
        "breaks on leading dims: scores of [2, 3, ...] and the same of [6, ...] have different gradients",
    )
    for leading in ((), (1,), (2, 3), (0,)):
        theta = case.scores(*leading)
        y, _, value, grad = case.step(case.copy(), theta)
        require(grad.shape == theta.shape, f"has a gradient of shape {list(grad.shape)} for {list(theta.shape)}")
        require(
            value.shape[value.ndim - len(leading) :] == leading,
            f"has losses {list(value.shape)} for scores {list(theta.shape)}",
        )
        count = case.estimator.samples if case.estimator.repeats else None
        decision = (*(() if count is None else (count,)), *case.solver(theta, case.instance).shape)
        require(
            count is None or y.shape[-len(decision) :] == decision,
            f"decides {list(y.shape)} instead of {list(decision)}",
        )


def value(case: EstimatorCase) -> None:
    if case.supervised:
        return
    _, losses, surrogate, _ = case.step(case.copy(), case.scores(4))
    allowed = [losses, losses.mean(0), losses[0]]  # it may average samples, or drop those drawn for a control variate
    require(any(same(surrogate, x) for x in allowed), "changes the value: its surrogate is not equal to the losses")


def state(case: EstimatorCase) -> None:
    old, theta = case.copy(), case.scores(4)
    for seed in range(3):
        case.step(old, theta, seed)
    new = case.copy()
    new.load_state_dict(deepcopy(old.state_dict()))
    for seed in (3, 4):
        message = "loses state: what it remembers is not all in state_dict; after loading it, it draws another {}"
        scores = case.scores(4)
        _require_same(case.step(old, scores, seed), case.step(new, scores, seed), message, tolerance=0)
    for key, value in old.state_dict().items():
        require(torch.equal(value, new.state_dict()[key]), f"loses state: {key} differs after loading its state_dict")


def _require_same(a: Result, b: Result, message: str, tolerance: float = 1e-6) -> None:
    words = {"y": "decision", "value": "value", "grad": "gradient"}
    for name, word in words.items():
        require(same(getattr(a, name), getattr(b, name), tolerance), message.format(word))


Check = Callable[[EstimatorCase], None]
ESTIMATOR_CHECKS: dict[str, Check] = table(
    evaluation, gradient, repeatable, finite_at_zero, large_scores, masked_scores, precision, no_grad, loss_scale,
    autocast, generator, samples, sample, needs, rows, batch_size, leading_dims, value, state,
)  # fmt: skip
