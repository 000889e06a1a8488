"""ReinMax, as a third-party estimator for dbp."""

from typing import Any

from torch import Tensor

from dbp import Draw, Solver, Target, UserError, straight_through
from dbp.estimators.natural import Natural


class ReinMax(Natural):
    """Straight-through with second-order accuracy, by Heun's method instead of Euler's.

        y ~ pi = softmax(theta),   pi_1 = (softmax(theta / temperature) + y) / 2
        d theta = (2 J_{pi_1} - J_pi / 2)^T dy

    J_p = diag(p) - p p^T is the Jacobian of a softmax whose value is p. Exact for losses that are quadratic in y. A
    binary decision is a choice of two, with scores theta and 0.

    Source: Liu, Dong, Liu, Yu, Gao, "Bridging discrete and backpropagation: straight-through and beyond", NeurIPS 2023.

    Args:
        temperature: of pi_1; 1 or more.
        samples: decisions for each input, in a new leading dim.
    """

    needs = ("log_prob", "relax", "noise")

    def __init__(self, temperature: float = 1.0, samples: int | None = None) -> None:
        super().__init__()
        if temperature < 1:
            raise UserError(f"reinmax: temperature must be at least 1, got {temperature}")
        self.temperature, self.samples = temperature, samples

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        y = solver(self.perturb(solver, theta.detach(), instance), instance)
        p = solver.relax(theta, instance=instance)
        middle = ((solver.relax(theta, self.temperature, instance).detach() + y) / 2).clamp(1e-30, 1 - 1e-7)
        # The relaxation of these scores is `middle`, and its Jacobian in theta is J_{pi_1}.
        scores = middle.logit() if solver.elementwise else middle.log()
        second = solver.relax((scores - theta).detach() + theta, instance=instance)
        return Draw(straight_through(y, 2 * second - p / 2))
