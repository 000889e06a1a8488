"""Unbiased score-function estimators for antithetic binary decisions: DisARM and ARMS."""

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dbp.core import Draw, Solver, Target
from dbp.errors import UserError
from dbp.estimators.natural import Natural, natural
from dbp.gradients.rules import only_gradient
from dbp.scores import leave_one_out, require_apart
from dbp.shapes import sum_to


class _Antithetic(Natural):
    """Samples whose bits are correlated by `coupled` noise; the weight undoes what that does to the expectation."""

    needs: tuple[str, ...] = ("log_prob", "noise", "elementwise")
    samples: int

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        fixed = theta.detach()
        y = solver(fixed + self.coupled(natural(solver).sample(theta, self.generator), fixed), instance)
        log_prob = self.weight(fixed) * solver.log_prob(theta, y, instance)  # its gradient: weight (y - p)

        def surrogate(losses: Tensor) -> Tensor:
            reward = self.against_the_others(losses.detach())
            return losses + only_gradient(reward * sum_to(log_prob, losses.ndim))

        return Draw(y, surrogate)

    @abstractmethod
    def coupled(self, noise: Tensor, theta: Tensor) -> Tensor:
        """Logistic noise, dependent along the samples, from independent logistic noise."""

    @abstractmethod
    def weight(self, theta: Tensor) -> Tensor:
        """`1 / (1 - r)`, r the correlation of two samples of a bit."""

    @abstractmethod
    def against_the_others(self, losses: Tensor) -> Tensor:
        """Each sample's loss, less the mean of those that it is correlated with."""


class DisARM(_Antithetic):
    """Pairs of opposite noise for binary decisions; unbiased, also known as U2G.

        y, y' = [theta + Z > 0], [theta - Z > 0],   d theta = (loss(y) - loss(y')) (y - y') sigmoid(|theta|) / 2

    averaged over the pairs. It is ARM (Yin, Zhou, 2019) with the noise integrated out, given the pair.

    Source: Dong, Mnih, Tucker, "DisARM: an antithetic gradient estimator for binary latent variables", NeurIPS 2020;
    Yin, Ho, Yan, Qian, Zhou, "Probabilistic best subset selection via gradient-based optimization", 2020.

    Args:
        samples: an even number of decisions for each input, in a new leading dim; the second half opposes the first.
    """

    def __init__(self, samples: int = 2) -> None:
        super().__init__()
        if samples < 2 or samples % 2:
            raise UserError(f"disarm: samples come in pairs: an even number, at least 2, not {samples}")
        self.samples = samples

    def coupled(self, noise: Tensor, theta: Tensor) -> Tensor:
        half = noise[: self.samples // 2]
        return torch.cat([half, -half])

    def weight(self, theta: Tensor) -> Tensor:
        return theta.abs().sigmoid()

    def against_the_others(self, losses: Tensor) -> Tensor:
        require_apart(losses)
        return losses - losses.roll(self.samples // 2, 0)


class ARMS(_Antithetic):
    """Several binary decisions that are mutually antithetic, by a Dirichlet copula. Unbiased; two of them are DisARM.

        d = Dirichlet(1, ..., 1) over the samples,   u_s = 1 - (1 - d_s)^(samples - 1)  is uniform
        y_s = [u_s > 1 - q], q the probability of the bit's rarer value, which y_s = 1 encodes
        d theta = mean_s (loss_s - mean of the others) (y_s - p) / (1 - r)
        1 - r = (q - J) / (q (1 - q)),   J = max(0, 2 q^(1 / (samples - 1)) - 1)^(samples - 1)

    r is the correlation of two samples of a bit, J the probability that both have the rarer value.

    Source: Dimitriev, Zhou, "ARMS: antithetic-REINFORCE-multi-sample gradient for binary variables", ICML 2021.

    Args:
        samples: decisions for each input, at least 2, in a new leading dim.
    """

    def __init__(self, samples: int = 4) -> None:
        super().__init__()
        if samples < 2:
            raise UserError(f"arms: samples must be at least 2, got {samples}")
        self.samples = samples

    def coupled(self, noise: Tensor, theta: Tensor) -> Tensor:
        exponential = F.softplus(-noise)  # -log of a uniform
        rest = torch.log1p(-exponential / exponential.sum(0)) * (self.samples - 1)  # log(1 - u)
        rare = (-torch.expm1(rest)).log() - rest  # logit u
        return torch.where(theta > 0, -rare, rare)

    def weight(self, theta: Tensor) -> Tensor:
        q = torch.sigmoid(-theta.abs())
        both = (2 * q.pow(1 / (self.samples - 1)) - 1).clamp_min(0).pow(self.samples - 1)
        return (1 - q) / (1 - both / q.clamp_min(torch.finfo(q.dtype).tiny))

    def against_the_others(self, losses: Tensor) -> Tensor:
        return losses - leave_one_out(losses)
