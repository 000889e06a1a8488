"""Pullback estimators: the difference of two solver calls, moved apart by the gradient of the decision's loss."""

from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from dbp.core import Draw, Estimator, Noise, Solver, Target
from dbp.errors import UserError
from dbp.gradients.perturbation import Perturbation, Rows, cut
from dbp.gradients.rules import pull_back_samples
from dbp.noises import Gumbel

Ends = tuple[Tensor | None, Tensor, Any]


class Difference(Estimator):
    """`y = solver(theta + Z)`, `d theta = (solver(up) - solver(down)) / width`: a subclass says where to look."""

    needs: tuple[str, ...] = ("linear",)
    repeats = False
    width: float = 1.0

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        fixed = theta.detach()
        noisy = Perturbation(fixed, self.samples, self.noise, self.generator)
        y = noisy.stack(lambda rows: solver(noisy[rows], instance))
        inputs = y.ndim - solver.event_dim  # dims of the losses, unless a surrogate knows better

        def pullback(grad: Tensor, leading: int | None, rows: Rows) -> tuple[Tensor, Tensor | None]:
            up, down, lam = self.ends(fixed, noisy[rows], grad, inputs if leading is None else leading)
            more = cut(y, rows) if up is None else solver(up, instance)
            return self.slope(more, solver(down, instance), lam)

        def seen(leading: int | None) -> None:
            self.adapt(y.shape[: inputs if leading is None else leading].numel())

        return pull_back_samples(y, theta, noisy, pullback, self.width, seen)

    @abstractmethod
    def ends(self, theta: Tensor, noisy: Tensor, grad: Tensor, leading: int) -> Ends:
        """The scores `up` (null: those of y) and `down`, and the step between them.

        Args:
            theta: `[*batch, *event]`.
            noisy: `[*samples, *batch, *event]`.
            grad: of each decision's own loss, like noisy; may be overwritten.
            leading: the dims of the losses.
        """

    def slope(self, more: Tensor, less: Tensor, lam: Any) -> tuple[Tensor, Tensor | None]:
        """Two tensors whose difference over `width` is the gradient; the second null for zero."""
        return more, less

    def adapt(self, decisions: int) -> None:
        """Called after each backward pass, with the number of decisions that it saw."""


class IMLE(Difference):
    """Implicit maximum likelihood: blackbox differentiation at a perturbed point, the noise shared by both calls.

        y = solver(theta + Z),    d theta = (y - solver(theta' + t Z)) / lam
        target `pid`:  theta' = theta - lam dy
        target `co`:   theta'_i = theta_i where dy_i = 0, else -lam dy_i;  for losses that are zero at the right y

    As lam goes to 0 the expectation (pid, t = 1) is the gradient of the perturbed layer. Two-sided, y is replaced by
    the decision at theta + lam dy, and lam by 2 lam. dy is each decision's own, as in blackbox.

    Source: Niepert, Minervini, Franceschi, "Implicit MLE: backpropagating through discrete exponential family
    distributions", NeurIPS 2021, equations 9, 10 (pid) and 14 (co, with lam = 1).

    Args:
        lam: the strength of the target distribution's perturbation.
        noise: of perturb-and-MAP; `sum_of_gamma` with the solver's k makes a k-subset's perturbation a Gumbel. Null
            for none: that is blackbox.
        samples: decisions for each input, in a new leading dim.
        two_sided: look both ways, for one more solver call; pid only.
        target: `pid` moves theta along the gradient, `co` replaces it.
        target_temperature: t, how much of the decision's noise the target keeps.
    """

    def __init__(
        self,
        lam: float = 1.0,
        noise: Noise | None = Gumbel(),
        samples: int | None = None,
        two_sided: bool = False,
        target: Literal["pid", "co"] = "pid",
        target_temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if not lam > 0:
            raise UserError(f"lam must be positive, got {lam}")
        if target_temperature < 0:
            raise UserError(f"imle: target_temperature must not be negative, got {target_temperature}")
        if two_sided and target == "co":
            raise UserError("imle: the co target replaces theta, so it has no other side: use two_sided=false")
        self.lam, self.two_sided, self.target, self.target_temperature = lam, two_sided, target, target_temperature
        self.noise, self.samples, self.width = noise, samples, lam * (2 if two_sided else 1)

    def ends(self, theta: Tensor, noisy: Tensor, grad: Tensor, leading: int) -> Ends:
        if self.target_temperature != 1:
            noisy = torch.lerp(theta, noisy, self.target_temperature)
        if self.target == "co":
            noisy = torch.where(grad == 0, noisy, noisy - theta)
        up = noisy.add(grad, alpha=self.lam) if self.two_sided else None
        return up, torch.sub(noisy, grad, alpha=self.lam, out=grad), self.lam


class Blackbox(IMLE):
    """Blackbox differentiation: the gradient of a piecewise affine interpolation of the loss.

        y = solver(theta),    d theta = (y - solver(theta - lam dy)) / lam
        two-sided:            d theta = (solver(theta + lam dy) - solver(theta - lam dy)) / (2 lam)

    dy is the gradient of the decision's own loss, before any mean over the batch, accumulation or loss scale: lam
    keeps its meaning when those change. A lam that was tuned under a mean over a batch of B is, here, lam / B.

    Source: Vlastelica, Paulus, Musil, Martius, Rolinek, "Differentiation of blackbox combinatorial solvers", ICLR 2020.

    Args:
        lam: how far to look along the gradient; about the ratio of a typical theta to a typical dy.
        two_sided: look both ways, for one more solver call.
    """

    def __init__(self, lam: float = 1.0, two_sided: bool = False) -> None:
        super().__init__(lam, noise=None, two_sided=two_sided)
