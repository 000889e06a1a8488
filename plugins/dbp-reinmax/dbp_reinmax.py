"""ReinMax, as a third-party estimator for dbp."""

from typing import Any

from torch import Tensor

from dbp import Draw, Estimator, Solver, Target, Tractable, Unsupported, UserError, straight_through


class ReinMax(Estimator):
    """Straight-through with second-order accuracy, by Heun's method instead of Euler's.

        y ~ pi = softmax(theta),   pi_1 = (softmax(theta / temperature) + y) / 2
        d theta = (2 J_{pi_1} - J_pi / 2)^T dy

    J_p = diag(p) - p p^T is the Jacobian of a softmax whose value is p. Exact for losses that are quadratic in y.

    Source: Liu, Dong, Liu, Yu, Gao, "Bridging discrete and backpropagation: straight-through and beyond", NeurIPS 2023.

    Args:
        temperature: of pi_1; 1 or more.
        samples: decisions for each input, in a new leading dim.
    """

    def __init__(self, temperature: float = 1.0, samples: int | None = None) -> None:
        super().__init__()
        if temperature < 1:
            raise UserError(f"reinmax: temperature must be at least 1, got {temperature}")
        self.temperature, self.samples = temperature, samples

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        if not isinstance(solver, Tractable) or solver.event_dim != 1:
            raise Unsupported("reinmax draws from a softmax: use solver=one_hot, or imle or identity with this solver")
        y = solver(theta.detach() + solver.noise.sample(theta, self.generator), instance)
        middle = ((theta / self.temperature).softmax(-1).detach() + y) / 2
        # The softmax of these scores is `middle`, and its Jacobian in theta is J_{pi_1}.
        second = (middle.clamp_min(1e-30).log() - theta).detach() + theta
        return Draw(straight_through(y, 2 * second.softmax(-1) - theta.softmax(-1) / 2))
