"""What supervised estimators learn from, and how they replace the losses."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from dbp.core import Estimator, Solver, Target
from dbp.errors import Unsupported
from dbp.shapes import sum_to


def right_decision(estimator: Estimator, solver: Solver, instance: Any, target: Target) -> Tensor:
    """The target's decision, or the one its scores lead to."""
    if target.y is not None:
        return target.y
    if target.theta is not None:
        return solver(target.theta, instance)
    raise Unsupported(
        f"{type(estimator).__name__} learns from the right decision, which this task does not give: "
        "use imle, identity, perturbed or score"
    )


def right_scores(estimator: Estimator, target: Target) -> Tensor:
    """The target's scores."""
    if target.theta is not None:
        return target.theta
    raise Unsupported(
        f"{type(estimator).__name__} learns from the right scores, which this task does not give: "
        "use fenchel_young or structured_svm for right decisions, else imle, identity, perturbed or score"
    )


def instead(loss: Tensor) -> Callable[[Tensor], Tensor]:
    """The surrogate that replaces the losses by `loss`, summed to their dims."""
    return lambda losses: sum_to(loss, losses.ndim)
