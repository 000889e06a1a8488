"""Checks of the promises of an estimator."""

from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dbp.core import Estimator, Solver, Target
from dbp.errors import UserError
from dbp.shapes import sum_to
from dbp.solvers.counting import counted
from dbp.solvers.scores import random_scores
from dbp.testing.checks import random_state, require, run, same, table, untouched


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


class Result(NamedTuple):
    """One training step: the decision, its losses, their surrogate, and the gradient at theta."""

    y: Tensor
    losses: Tensor
    value: Tensor
    grad: Tensor


@dataclass(frozen=True)
class EstimatorCase:
    """An estimator with a solver and inputs to try it on."""

    estimator: Estimator
    solver: Solver
    shape: tuple[int, ...]
    instance: Any
    device: torch.device

    def copy(self) -> Estimator:
        return deepcopy(self.estimator)

    def scores(self, *leading: int) -> Tensor:
        return random_scores(self.solver, (*leading, *self.shape), self.instance, device=self.device)

    def target(self, theta: Tensor) -> Target:
        """The same for the same number of scores, whatever their leading dims."""
        right = torch.linspace(-3, -1, theta.numel(), device=self.device).sin().neg().sub(2).reshape(theta.shape)
        return Target(self.solver(right, self.instance), right)

    def losses(self, y: Tensor, theta: Tensor) -> Tensor:
        """A loss of each decision, not linear in it."""
        decision = self.solver(theta, self.instance)
        ndim = y.ndim - decision.ndim + theta.ndim - len(self.shape)
        weights = torch.linspace(1, 2, y.shape[ndim:].numel(), device=self.device).cos().reshape(y.shape[ndim:])
        total = sum_to(weights * y, ndim)
        return total + total.square()

    def step(self, estimator: Estimator, theta: Tensor, seed: int = 1, scale: float = 1.0) -> Result:
        """One training step without the optimizer's part."""
        torch.manual_seed(seed)
        leaf = theta.clone().requires_grad_()
        draw = estimator(self.solver, leaf, self.instance, self.target(leaf.detach()))
        losses = self.losses(draw.y, leaf.detach())
        value = draw.surrogate(losses)
        require(value.requires_grad, "gives theta no gradient: nothing of its surrogate depends on theta")
        (value.mean() * scale).backward()
        require(leaf.grad is not None, "gives theta no gradient")
        assert leaf.grad is not None
        return Result(draw.y.detach(), losses.detach(), value.detach(), leaf.grad)

    @property
    def supervised(self) -> bool:
        """True if it needs a target."""
        try:
            self.copy()(self.solver, self.scores(4).requires_grad_(), self.instance)
        except UserError:
            return True
        return False


def evaluation(case: EstimatorCase) -> None:
    estimator, theta = case.copy().eval(), case.scores(4)
    before = random_state(case.device)
    draw = estimator(case.solver, theta, case.instance, case.target(theta))
    require(untouched(before, case.device), "draws random numbers in evaluation")
    require(same(draw.y, case.solver(theta, case.instance)), "is not the plain solver in evaluation")


def gradient(case: EstimatorCase) -> None:
    grad = case.step(case.copy(), case.scores(4)).grad
    require(grad.isfinite().all(), "gives theta a gradient that is not finite")


def finite_at_zero(case: EstimatorCase) -> None:
    try:
        result = case.step(case.copy(), torch.zeros(4, *case.shape, device=case.device))
    except UserError as error:  # the solver was given NaN
        raise AssertionError(f"is not finite at theta = 0: {error}") from None
    bad = [name for name, x in result._asdict().items() if not x.isfinite().all()]
    require(not bad, f"is not finite at theta = 0: NaN or infinite {', '.join(bad)}")


def repeatable(case: EstimatorCase) -> None:
    theta = case.scores(4)
    first, again = (case.step(case.copy(), theta) for _ in range(2))
    _require_same(first, again, "is not repeatable: under the same seed it draws another {}", tolerance=0)


def generator(case: EstimatorCase) -> None:
    estimator, theta = case.copy(), case.scores(4)
    estimator.generator = torch.Generator(case.device).manual_seed(1)
    before = random_state(case.device)
    estimator(case.solver, theta.requires_grad_(), case.instance, case.target(theta.detach()))
    require(untouched(before, case.device), "draws from the global generator though it was given one of its own")


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
    other[0] = theta[1]
    ours, theirs = (case.step(case.copy(), t).grad[1:] for t in (theta, other))
    require(same(ours, theirs), "lets one input influence another: its gradient changed with another row's scores")


def leading_dims(case: EstimatorCase) -> None:
    theta = case.scores(2, 3)
    square = case.step(case.copy(), theta)
    flat = case.step(case.copy(), theta.flatten(0, 1))
    require(
        same(square.grad.flatten(0, 1), flat.grad),
        "breaks on leading dims: scores of [2, 3, ...] and the same of [6, ...] have different gradients",
    )


def value(case: EstimatorCase) -> None:
    if case.supervised:
        return
    _, losses, surrogate, _ = case.step(case.copy(), case.scores(4))
    allowed = [losses, losses.mean(0), losses[0]]  # it may average samples, or drop those drawn for a control variate
    require(any(same(surrogate, x) for x in allowed), "changes the value: its surrogate is not equal to the losses")


def loss_scale(case: EstimatorCase) -> None:
    theta = case.scores(4)
    plain = case.step(case.copy(), theta).grad
    size = plain.abs().max().clamp_min(1e-12)
    for scale in (65536.0, 0.25):
        grad = case.step(case.copy(), theta, scale=scale).grad / scale
        require(
            same(grad / size, plain / size, 1e-3),
            f"is not linear in the loss scale: a loss times {scale:g} does not have {scale:g} times the gradient",
        )


def state(case: EstimatorCase) -> None:
    old, theta = case.copy(), case.scores(4)
    for seed in range(3):
        case.step(old, theta, seed)
    new = case.copy()
    new.load_state_dict(deepcopy(old.state_dict()))
    for seed in (3, 4):
        message = "loses state: what it remembers is not all in state_dict; after loading it, it draws another {}"
        _require_same(case.step(old, theta, seed), case.step(new, theta, seed), message)


def _require_same(a: Result, b: Result, message: str, tolerance: float = 1e-6) -> None:
    words = {"y": "decision", "value": "value", "grad": "gradient"}
    for name, word in words.items():
        require(same(getattr(a, name), getattr(b, name), tolerance), message.format(word))


Check = Callable[[EstimatorCase], None]
ESTIMATOR_CHECKS: dict[str, Check] = table(
    evaluation, gradient, finite_at_zero, repeatable, generator, samples, rows, leading_dims, value, loss_scale, state
)
