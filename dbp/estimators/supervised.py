"""Losses in place of the task's own: estimators that learn from the right decision or the right scores.

Their surrogates replace the losses by their own, of the same shape.
"""

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from dbp import subsets
from dbp.core import Draw, Estimator, Noise, Solver, Target, Tractable
from dbp.errors import Unsupported, UserError
from dbp.estimators.perturbed import Perturbed
from dbp.noises import Normal
from dbp.shapes import dot, sum_to


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


class FenchelYoung(Perturbed):
    """The Fenchel-Young loss of the perturbed or of the entropy-regularised maximum; its value as well as its gradient.

        loss = F(theta) - <theta, y*>,   d theta = y^ - y*
        with noise:  F(theta) = E max_y <theta + Z, y>,      y^ the mean of the samples' decisions
        null noise:  F(theta) = log sum_y exp <theta, y>,    y^ its exact mean; for one_hot, threshold and top_k

    The true Fenchel-Young loss adds the regulariser's value at y*, which does not depend on theta. With Gumbel noise on
    a one_hot the loss is cross-entropy plus Euler's constant; with null noise it is cross-entropy.

    Source: Blondel, Martins, Niculae, "Learning with Fenchel-Young losses", JMLR 21, 2020; Berthet et al., "Learning
    with differentiable perturbed optimizers", NeurIPS 2020.

    Args:
        noise: anything, with a density or not; null for the entropy.
        samples: how many decisions are averaged; not used without noise.
        multiplicative: scale theta instead of shifting it; for normal noise.
        antithetic: pair each Z with -Z.
    """

    def __init__(
        self,
        noise: Noise | None = Normal(),
        samples: int = 16,
        multiplicative: bool = False,
        antithetic: bool = False,
    ) -> None:
        super().__init__(noise or Normal(), samples, multiplicative, antithetic)
        self.entropic = noise is None
        if self.entropic:
            self.samples = None  # type: ignore[assignment]

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        best = right_decision(self, solver, instance, target)
        if self.entropic:
            loss, y = _log_loss(solver, theta, best)
            return Draw(y, instead(loss))
        noisy = self.move(theta, self.draws(theta))
        y = solver(noisy, instance)
        loss = dot(noisy, y, solver.event_dim).mean(0) - dot(theta[0], best, solver.event_dim)
        return Draw(y.mean(0), instead(loss))

    def perturb(self, solver: Solver, theta: Tensor) -> Tensor:
        return theta if self.entropic else super().perturb(solver, theta)


def _log_loss(solver: Solver, theta: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """`log sum exp <theta, y> - <theta, y*>` over the decisions, and their mean."""
    if solver.subset is not None:
        loss = subsets.log_partition(theta, solver.subset) - (theta * best).sum(-1)
        return loss, subsets.marginals(theta.detach(), solver.subset)
    if isinstance(solver, Tractable):
        return -solver.log_prob(theta, best), solver.relax(theta.detach())
    raise Unsupported(
        f"fenchel_young: {type(solver).__name__} has no entropy in closed form: give noise=normal or gumbel"
    )


class SPOPlus(Estimator):
    """Smart "predict, then optimize": a convex bound on the regret of deciding by theta when theta* is right.

        loss = max_y <alpha theta - theta*, y> - <alpha theta - theta*, y*>
        d theta = alpha (solver(alpha theta - theta*) - y*)

    With alpha = 1 it is the structured SVM whose margin is the regret.

    Source: Elmachtoub, Grigas, 'Smart "predict, then optimize"', Management Science 68, 2022, definition 3.

    Args:
        alpha: 2 in the paper.
    """

    def __init__(self, alpha: float = 2.0) -> None:
        super().__init__()
        if not alpha > 0:
            raise UserError(f"spo_plus: alpha must be positive, got {alpha}")
        self.alpha = alpha

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        tilted = self.alpha * theta - right_scores(self, target)
        best = right_decision(self, solver, instance, target)
        loss = dot(tilted, solver(tilted, instance) - best, solver.event_dim)
        return Draw(solver(theta, instance), instead(loss))


class PerturbationGradient(Estimator):
    """The directional derivative of the optimal value, along the right scores: the decision's value, made smooth.

        V(theta) = max_y <theta, y>,    loss = (V(theta - sigma theta*) - V(theta)) / sigma
        d theta = (solver(theta - sigma theta*) - solver(theta)) / sigma
        two-sided: (V(theta - sigma theta*) - V(theta + sigma theta*)) / (2 sigma)

    As sigma goes to 0 the loss goes to `-<theta*, solver(theta)>`.

    Source: Huang, Gupta, "Decision-focused learning with directional gradients", NeurIPS 2024.

    Args:
        sigma: the step.
        two_sided: the central difference, for one more solver call.
    """

    def __init__(self, sigma: float = 0.1, two_sided: bool = False) -> None:
        super().__init__()
        if not sigma > 0:
            raise UserError(f"perturbation_gradient: sigma must be positive, got {sigma}")
        self.sigma, self.two_sided = sigma, two_sided

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        step = self.sigma * right_scores(self, target)
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

    def __init__(self, margin: float = 1.0, distance: Literal["hamming", "regret"] = "hamming") -> None:
        super().__init__()
        if margin < 0:
            raise UserError(f"structured_svm: margin must not be negative, got {margin}")
        self.margin, self.distance = margin, distance

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        best = right_decision(self, solver, instance, target)
        slope = 1 - 2 * best if self.distance == "hamming" else -right_scores(self, target)
        tilted = theta + self.margin * slope
        loss = dot(tilted, solver(tilted, instance) - best, solver.event_dim)
        return Draw(solver(theta, instance), instead(loss))
