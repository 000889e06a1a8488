"""Checks of an estimator's numbers: finite whatever the scores, in every precision, and linear in the loss scale."""

import torch
from torch import Tensor

from dbp.core import Estimator
from dbp.errors import UserError
from dbp.testing.checks import require, same
from dbp.testing.solving import masked
from dbp.testing.steps import EstimatorCase, Result


def gradient(case: EstimatorCase) -> None:
    grad = case.step(case.copy(), case.scores(4)).grad
    require(grad.isfinite().all(), "gives theta a gradient that is not finite")


def finite_at_zero(case: EstimatorCase) -> None:
    _finite_step(case, case.copy(), torch.zeros(4, *case.shape, device=case.device), "at theta = 0")


def large_scores(case: EstimatorCase) -> None:
    for size in (30.0, 300.0, 1e4):
        _finite_step(case, case.copy(), size * case.scores(20), f"at {size:g} times its scores")


def masked_scores(case: EstimatorCase) -> None:
    theta = masked(case.scores(20), case.event)
    y = _finite_step(case, case.copy(), theta, "where scores are -1e9").y
    plain = case.solver(theta, case.instance)
    usual = case.scores(20)
    if same(case.draws(usual, 1), case.solver(usual, case.instance)):
        require(same(y, plain), "decides other than its solver where scores are -1e9, and like it elsewhere")
    if case.solver.binary and case.solver.linear and y.shape[y.ndim - theta.ndim :] == plain.shape:
        chosen = (y - plain)[..., theta == -1e9] > 1e-6
        require(not chosen.any(), "chooses in training what a score of -1e9 forbids and its solver does not choose")


def precision(case: EstimatorCase) -> None:
    for dtype in (torch.bfloat16, torch.float64):
        result = _finite_step(case, case.copy().to(dtype), case.scores(5).to(dtype), f"in a model of {dtype}")
        require(result.y.dtype == dtype, f"decides in {result.y.dtype} for scores of {dtype}")
        require(result.grad.dtype == dtype, f"has a gradient of {result.grad.dtype} for scores of {dtype}")


def autocast(case: EstimatorCase) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        theta = case.scores(5).to(dtype)
        full = case.step(case.copy(), theta.float())
        single, half = (case.step(case.copy(), t, cast=dtype) for t in (theta.float(), theta))
        require(half.y.dtype == single.y.dtype == torch.float32, f"decides in {half.y.dtype} under autocast")
        seen = case.draws(theta, 1).dtype
        require(seen == dtype, f"decides in {seen} for scores of {dtype}, in a model of {torch.float32}")
        message = f"has another gradient under autocast to {dtype}: it does not compute in float32"
        size = full.grad.abs().max().clamp_min(1e-12)
        require(same(single.grad / size, full.grad / size), message)
        require(same(half.grad / size, full.grad / size, 1e-2), message)


def no_grad(case: EstimatorCase) -> None:
    theta = case.scores(3)
    target = case.target(theta)
    with torch.no_grad():
        draw = case.copy()(case.solver, theta, case.instance, target)
        value = draw.surrogate(case.losses(draw.y, theta))
    require(not value.requires_grad, "has a surrogate with a gradient under torch.no_grad")
    draw = case.copy()(case.solver, theta, case.instance, target)
    value = draw.surrogate(case.losses(draw.y, theta))
    require(value.isfinite().all(), "is not finite for scores that want no gradient")


def loss_scale(case: EstimatorCase) -> None:
    theta = case.scores(4)
    plain = case.step(case.copy(), theta).grad
    size = plain.abs().max().clamp_min(1e-12)
    for scale in (65536.0, 0.25):
        grad = case.step(case.copy(), theta, scale=scale).grad / scale
        require(
            same(grad / size, plain / size, 1e-5),
            f"is not linear in the loss scale: a loss times {scale:g} does not have {scale:g} times the gradient",
        )


def _finite_step(case: EstimatorCase, estimator: Estimator, theta: Tensor, where: str) -> Result:
    try:
        result = case.step(estimator, theta)
    except UserError as error:  # the solver was given NaN
        raise AssertionError(f"is not finite {where}: {error}") from None
    own = [p.grad for p in estimator.parameters() if p.grad is not None]
    bad = [name for name, x in result._asdict().items() if not x.isfinite().all()]
    bad += ["gradient of its own parameters"] if not all(x.isfinite().all() for x in own) else []
    require(not bad, f"is not finite {where}: NaN or infinite {', '.join(bad)}")
    return result
