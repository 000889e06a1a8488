"""Unbiased score-function estimators with a control variate that tunes itself: REBAR and RELAX."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dbp.core import Draw, Solver, Target
from dbp.errors import UserError
from dbp.estimators.natural import Natural
from dbp.estimators.precision import as_parameters_of
from dbp.gradients.rules import only_gradient
from dbp.gradients.tuned import copies, end, tuning
from dbp.native.ops import eager
from dbp.networks.entrywise import Entrywise
from dbp.scores import require_apart, without_autocast
from dbp.shapes import align, sum_to


class REBAR(Natural):
    """REINFORCE less the loss at a relaxed decision, plus the latter's exact gradient. Unbiased.

        y = solver(theta + Z),   s = relax(theta + Z; temperature),   s' = relax(theta + Z'; temperature),  Z' ~ Z | y
        d theta = (loss(y) - eta loss(s')) grad log p(y) + eta (grad loss(s) - grad loss(s'))

    It needs a loss that is differentiable in y. The task evaluates three decisions, y, s and s', in a new first dim,
    and the surrogate returns the losses of y. temperature and eta are parameters, trained by the gradient of the
    estimate's variance, which reaches nothing else. That gradient is a second derivative, taken inside the step and
    through the networks behind the decision: leave those uncompiled, and use bf16 rather than fp16 if in mixed
    precision. Decisions that follow are drawn for y, s and s' each: unlike in the authors' code, their noise stays.

    Source: Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein, "REBAR: low-variance, unbiased gradient estimates for
    discrete latent variable models", NeurIPS 2017.

    Args:
        temperature: where the relaxation's temperature starts.
        eta: where the weight of the control variate starts.
        samples: decisions for each input, in a new leading dim.
    """

    needs: tuple[str, ...] = ("log_prob", "conditional", "relax", "noise")

    def __init__(self, temperature: float = 0.5, eta: float = 1.0, samples: int | None = None) -> None:
        super().__init__()
        if not temperature > 0:
            raise UserError(f"{type(self).__name__.lower()}: temperature must be positive, got {temperature}")
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.eta = nn.Parameter(torch.tensor(float(eta)))
        self.samples = samples

    @property
    def temperature(self) -> float:
        return round(self.log_temperature.double().exp().item(), 6)

    @eager  # compiled graphs have no second derivative
    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        (leaf, applied), own = end(theta), copies(self)  # of the relaxed losses' gradients
        y, soft, log_prob = self.relaxed(solver, leaf, instance, own["log_temperature"].exp())

        def surrogate(losses: Tensor) -> Tensor:
            applied()
            require_apart(losses)
            hard, free, tied = losses
            return self.combine(theta, leaf, own, hard, log_prob, own["eta"] * free, own["eta"] * tied)

        return Draw(torch.cat([y.unsqueeze(0), soft]), surrogate)

    def relaxed(
        self, solver: Solver, theta: Tensor, instance: Any, temperature: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A decision, the two relaxed ones [2, *theta.shape], and the decision's log-probability."""
        free = self.perturb(solver, theta, instance)
        y = solver(free, instance)
        tied = solver.conditional(theta, y, self.generator, instance)
        soft = solver.relax(torch.stack([free, tied]), temperature, instance)
        return y, soft, solver.log_prob(theta, y, instance)

    @eager
    def combine(
        self, theta: Tensor, leaf: Tensor, own: dict[str, Tensor], losses: Tensor, log_prob: Tensor, *control: Tensor
    ) -> Tensor:
        """The losses, with the estimate as theta's gradient and that of its square as the own parameters'."""
        if not (torch.is_grad_enabled() and theta.requires_grad):
            return losses
        free, tied = control  # [*losses.shape], functions of leaf
        with without_autocast(theta.device.type):  # a backward pass, in the precision of its forward pass
            (score,) = torch.autograd.grad(log_prob.sum(), leaf, retain_graph=True)
            (path,) = torch.autograd.grad((free - tied).sum(), leaf, create_graph=True)
        grad = align(losses.detach() - tied, leaf.ndim) * score + path
        estimate = only_gradient(sum_to(theta * grad.detach(), losses.ndim))
        return losses + estimate + tuning(self, sum_to(grad.square(), losses.ndim).mean(), own)


class RELAX(REBAR):
    """REBAR with a network in the control variate: for losses of any kind, known or not. Unbiased.

        c(theta + Z) = eta loss(s) + network(s),   s = relax(theta + Z; temperature)
        d theta = (loss(y) - c(theta + Z')) grad log p(y) + grad c(theta + Z) - grad c(theta + Z'),   Z' ~ Z | y

    With `black_box` the control variate is the network alone: the loss is evaluated once, and need not be
    differentiable. The network is trained as temperature and eta are: by the gradient of the estimate's variance.

    Source: Grathwohl, Choi, Wu, Roeder, Duvenaud, "Backpropagation through the void: optimizing control variates for
    black-box gradient estimation", ICLR 2018.

    Args:
        network: from relaxed decisions `[*leading, *event]` to one value for each loss: `[*losses.shape]`, or with
            further dims, which are summed. Null for a small one that looks at each entry and the mean of all.
        black_box: leave the loss out of the control variate.
        temperature: where the relaxation's temperature starts.
        eta: where the weight of the relaxed loss starts; not used if black_box.
        samples: decisions for each input, in a new leading dim.
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        black_box: bool = False,
        temperature: float = 0.5,
        eta: float = 1.0,
        samples: int | None = None,
    ) -> None:
        super().__init__(temperature, eta, samples)
        self.network, self.black_box = network or Entrywise(), black_box
        self.eta.requires_grad_(not black_box)

    @eager  # compiled graphs have no second derivative
    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        (leaf, applied), own = end(theta), copies(self)
        y, soft, log_prob = self.relaxed(solver, leaf, instance, own["log_temperature"].exp())
        network = {name.removeprefix("network."): p for name, p in own.items() if name.startswith("network.")}
        given = as_parameters_of(self.network, soft)
        values = functional_call(self.network, network, (given,)).to(soft.dtype)  # [2, *losses.shape, ...]

        def surrogate(losses: Tensor) -> Tensor:
            applied()
            if not self.black_box:
                require_apart(losses)
            hard, *rest = (losses,) if self.black_box else losses
            control = sum_to(values, hard.ndim + 1)
            if control.shape[1:] != hard.shape:
                raise UserError(
                    f"relax: the network gives {list(values.shape[1:])} for losses of shape {list(hard.shape)}: "
                    "it must give one value for each loss"
                )
            if not self.black_box:
                control = control + own["eta"] * torch.stack(rest)
            return self.combine(theta, leaf, own, hard, log_prob, *control)

        return Draw(y if self.black_box else torch.cat([y.unsqueeze(0), soft]), surrogate)
