"""Supervised losses from the right scores or the right decision: structured losses and regret."""

from typing import Any, Literal

from torch import Tensor

from dbp.core import Draw, Estimator, Solver, Target
from dbp.errors import UserError
from dbp.estimators.targets import instead, right_decision, right_scores
from dbp.scores import dot, require_scored


class SPOPlus(Estimator):
    """Smart "predict, then optimize": a convex bound on the regret of deciding by theta when theta* is right.

        loss = max_y <alpha theta - theta*, y> - <alpha theta - theta*, y*>
        d theta = alpha (solver(alpha theta - theta*) - y*)

    With alpha = 1 it is the structured SVM whose margin is the regret.

    Source: Elmachtoub, Grigas, 'Smart "predict, then optimize"', Management Science 68, 2022, definition 3.

    Args:
        alpha: 2 in the paper.
    """

    needs: tuple[str, ...] = ("linear",)
    supervised: str = "scores"

    def __init__(self, alpha: float = 2.0) -> None:
        super().__init__()
        if not alpha > 0:
            raise UserError(f"spo_plus: alpha must be positive, got {alpha}")
        self.alpha = alpha

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        tilted = self.alpha * theta - right_scores(target)
        best = right_decision(solver, instance, target)
        loss = dot(tilted, solver(tilted, instance) - best, solver.event_dim)
        return Draw(solver(theta, instance), instead(loss))


class PerturbationGradient(Estimator):
    """The directional derivative of the optimal value, along the right scores: the decision's value, made smooth.

        V(theta) = max_y <theta, y>,    loss = (V(theta - sigma theta*) - V(theta)) / sigma
        d theta = (solver(theta - sigma theta*) - solver(theta)) / sigma
        two-sided: (V(theta - sigma theta*) - V(theta + sigma theta*)) / (2 sigma)

    As sigma goes to 0 the loss goes to `-<theta*, solver(theta)>`. One-sided, descent raises only what is chosen
    already: a better choice is found by what a network carries over from other inputs, if at all, and theta grows until
    the step changes nothing. Standardised scores keep it from growing; two-sided, theta is drawn towards theta*.

    Source: Huang, Gupta, "Decision-focused learning with directional gradients", NeurIPS 2024.

    Args:
        sigma: the step.
        two_sided: the central difference, for one more solver call.
    """

    needs: tuple[str, ...] = ("linear",)
    supervised: str = "scores"

    def __init__(self, sigma: float = 0.1, two_sided: bool = False) -> None:
        super().__init__()
        if not sigma > 0:
            raise UserError(f"perturbation_gradient: sigma must be positive, got {sigma}")
        self.sigma, self.two_sided = sigma, two_sided

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        step = self.sigma * right_scores(target)
        y = solver(theta, instance)
        ahead = theta + step if self.two_sided else theta
        best = solver(ahead, instance) if self.two_sided else y
        less = dot(theta - step, solver(theta - step, instance), solver.event_dim)
        loss = (less - dot(ahead, best, solver.event_dim)) / (self.sigma * (2 if self.two_sided else 1))
        return Draw(y, instead(loss))


class StructuredSVM(Estimator):
    """The structured hinge loss: the right decision has to win by a margin that grows with what the wrong one costs.

        loss = max_y (margin D(y, y*) + <theta, y>) - <theta, y*>,   d theta = y^ - y*, y^ where the maximum is
        distance `hamming`:  D(y, y*) = sum |y - y*|, for 0/1 decisions
        distance `regret`:   D(y, y*) = <theta*, y* - y>

    D is linear in y, so the maximum is one call of the solver. margin = 0 is the structured perceptron.

    Source: Tsochantaridis, Joachims, Hofmann, Altun, "Large margin methods for structured and interdependent output
    variables", JMLR 6, 2005.

    Args:
        margin: the weight of the distance.
        distance: what a wrong decision costs.
    """

    needs: tuple[str, ...] = ("linear",)
    supervised: str = "decision"

    def __init__(self, margin: float = 1.0, distance: Literal["hamming", "regret"] = "hamming") -> None:
        super().__init__()
        if margin < 0:
            raise UserError(f"structured_svm: margin must not be negative, got {margin}")
        self.margin, self.distance = margin, distance
        self.supervised = "scores" if distance == "regret" else "decision"

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        best = right_decision(solver, instance, target)
        require_scored(theta, best, solver.event_dim)
        slope = 1 - 2 * best if self.distance == "hamming" else -right_scores(target)
        tilted = theta + self.margin * slope
        loss = dot(tilted, solver(tilted, instance) - best, solver.event_dim)
        return Draw(solver(theta, instance), instead(loss))
