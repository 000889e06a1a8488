"""Pullback estimators: the difference of two solver calls, the second moved by the gradient of the decision's loss."""

from typing import Any

from torch import Tensor

from dbp.core import Draw, Estimator, Noise, Solver, Target
from dbp.errors import UserError
from dbp.gradients import pull_back
from dbp.noises import Gumbel


class Blackbox(Estimator):
    """Blackbox differentiation: the gradient of a piecewise affine interpolation of the loss.

        y = solver(theta),    d theta = (y - solver(theta - lam dy)) / lam

    dy is the gradient of the decision's own loss, before any mean over the batch, accumulation or loss scale: lam
    keeps its meaning when those change. A lam that was tuned under a mean over a batch of B is, here, lam / B.

    Source: Vlastelica, Paulus, Musil, Martius, Rolinek, "Differentiation of blackbox combinatorial solvers", ICLR 2020.

    Args:
        lam: how far to look along the gradient; about the ratio of a typical theta to a typical dy.
    """

    def __init__(self, lam: float = 1.0) -> None:
        super().__init__()
        if not lam > 0:
            raise UserError(f"lam must be positive, got {lam}")
        self.lam = lam

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        noisy = self.perturb(solver, theta.detach())
        y = solver(noisy, instance)
        return pull_back(y, theta, lambda grad: (y - solver(noisy - self.lam * grad, instance)) / self.lam)


class IMLE(Blackbox):
    """Implicit maximum likelihood: blackbox differentiation at a perturbed point, the noise shared by both calls.

        y = solver(theta + Z),    d theta = (y - solver(theta + Z - lam dy)) / lam

    As lam goes to 0 its expectation is the gradient of the perturbed layer. dy is each decision's own, as in blackbox.

    Source: Niepert, Minervini, Franceschi, "Implicit MLE: backpropagating through discrete exponential family
    distributions", NeurIPS 2021, equations 9 and 10.

    Args:
        lam: the strength of the target distribution's perturbation.
        noise: of perturb-and-MAP; `sum_of_gamma` with the solver's k makes a k-subset's perturbation a Gumbel. Null
            for none: that is blackbox.
        samples: decisions for each input, in a new leading dim.
    """

    def __init__(self, lam: float = 1.0, noise: Noise | None = Gumbel(), samples: int | None = None) -> None:
        super().__init__(lam)
        self.noise, self.samples = noise, samples
