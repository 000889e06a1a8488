"""The right decision for supervised estimators, and the surrogate that replaces the losses."""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor

from dbp.core import Solver, Target
from dbp.shapes import sum_to


def right_decision(solver: Solver, instance: Any, target: Target) -> Tensor:
    """The target's decision, or the one that its scores lead to; an estimator that is `supervised` has one of them."""
    return target.y if target.y is not None else solver(right_scores(target), instance)


def right_scores(target: Target) -> Tensor:
    """The target's scores; an estimator that is `supervised` by scores has them."""
    return cast(Tensor, target.theta)


def instead(loss: Tensor) -> Callable[[Tensor], Tensor]:
    """The surrogate that replaces the losses by `loss`, summed to their dims."""
    return lambda losses: sum_to(loss, losses.ndim)
