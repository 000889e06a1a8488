"""Implicit maximum likelihood with an adaptive step."""

from typing import Any

import torch
from torch import Tensor

from dbp.core import Noise
from dbp.errors import UserError
from dbp.estimators.difference import Difference, Ends
from dbp.noises import Gumbel
from dbp.shapes import norm, usable


class AdaptiveIMLE(Difference):
    """I-MLE with the least step that still gives a gradient: enough nonzeros, as little bias as that allows.

        y = solver(theta + Z),   lam = alpha |theta| / |dy|
        d theta = (y - solver(theta + Z - lam dy)) / lam
        two-sided: d theta = (solver(theta + Z + lam dy) - solver(theta + Z - lam dy)) / (2 lam)

        nonzeros <- decay nonzeros + (1 - decay) (mean number of nonzeros in d theta, over all decisions and samples)
        alpha    <- alpha + rate if nonzeros < sparsity else alpha - rate, at least 0

    What shares one loss is one decision: its scores have one norm and one count. dy is its own gradient, as in
    blackbox. alpha and nonzeros are buffers, updated by each backward pass. (The authors' code takes the norms over
    the whole batch, which lets one example's gradient depend on the others.)

    Source: Minervini, Franceschi, Niepert, "Adaptive perturbation-based gradient estimation for discrete latent
    variable models", AAAI 2023.

    Args:
        alpha: where to start.
        rate: the change of alpha in one backward pass.
        sparsity: the wanted number of nonzeros in the gradient of a decision; 1 in the paper.
        decay: of the running mean.
        two_sided: look both ways, for one more solver call.
        noise: of perturb-and-MAP; null for none.
        samples: decisions for each input, in a new leading dim.
    """

    alpha: Tensor
    nonzeros: Tensor

    def __init__(
        self,
        alpha: float = 1.0,
        rate: float = 1e-4,
        sparsity: float = 1.0,
        decay: float = 0.9,
        two_sided: bool = False,
        noise: Noise | None = Gumbel(),
        samples: int | None = None,
    ) -> None:
        super().__init__()
        if not (alpha > 0 and rate >= 0 and sparsity > 0 and 0 <= decay < 1):
            raise UserError("adaptive_imle: needs alpha > 0, rate >= 0, sparsity > 0 and decay in [0, 1)")
        self.rate, self.sparsity, self.decay, self.two_sided = rate, sparsity, decay, two_sided
        self.noise, self.samples = noise, samples
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.register_buffer("nonzeros", torch.tensor(1.0))
        self._count: Any = 0  # of nonzeros in this backward pass

    def ends(self, theta: Tensor, noisy: Tensor, grad: Tensor, leading: int) -> Ends:
        dims, theta = tuple(range(leading, grad.ndim)), theta.expand_as(grad)
        scores = torch.where(usable(theta, dims), theta, 0)  # a forbidden item's would hide the rest
        lam = self.alpha * norm(scores, dims) / norm(grad, dims).clamp_min(_TINY)
        step = lam * grad
        return noisy + step if self.two_sided else None, noisy - step, lam

    def slope(self, more: Tensor, less: Tensor, lam: Tensor) -> tuple[Tensor, None]:
        gap = more - less
        self._count = self._count + gap.count_nonzero()
        return gap / (lam.clamp_min(_TINY) * (2 if self.two_sided else 1)), None

    def adapt(self, decisions: int) -> None:
        """Counts the nonzeros of a gradient in, and moves alpha against what is missing."""
        count, self._count = self._count / decisions, 0
        self.nonzeros.lerp_(count.to(self.nonzeros), 1 - self.decay)
        self.alpha.add_(torch.where(self.nonzeros < self.sparsity, self.rate, -self.rate)).clamp_(min=0)


_TINY = 1e-12
