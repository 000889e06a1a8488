"""The decorator and the loss of the published perturbed optimizers (TensorFlow, JAX and PyTorch versions)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, overload

import torch
from torch import Tensor, nn

from dbp import noises
from dbp.core import Noise
from dbp.errors import UserError
from dbp.estimators.perturbed import Perturbed
from dbp.gradients.rules import only_gradient
from dbp.scores import dot
from dbp.solvers.function import FromFunction

P = ParamSpec("P")


@overload
def perturbed(
    func: Callable[P, Tensor],
    num_samples: int = ...,
    sigma: float = ...,
    noise: str | Noise = ...,
    batched: bool = ...,
    device: torch.device | str | None = ...,
) -> Callable[P, Tensor]: ...
@overload
def perturbed(
    func: None = None,
    num_samples: int = ...,
    sigma: float = ...,
    noise: str | Noise = ...,
    batched: bool = ...,
    device: torch.device | str | None = ...,
) -> Callable[[Callable[P, Tensor]], Callable[P, Tensor]]: ...
def perturbed(
    func: Callable[..., Tensor] | None = None,
    num_samples: int = 1000,
    sigma: float = 0.05,
    noise: str | Noise = "normal",
    batched: bool = True,
    device: torch.device | str | None = None,
) -> Any:
    """Makes any function of a tensor differentiable by perturbation; a function or a decorator.

        f_sigma(theta) = mean_s f(theta + sigma Z_s),   its Jacobian by the score of the noise

    Takes the calls of the published versions. The estimate subtracts the mean of the other samples, which theirs does
    not: same expectation, less variance.

    Args:
        func: maps `[batch, *event]` to `[batch, *out]`, piecewise constant or not. Further arguments, by position or by
            name, are passed on. Scores in bfloat16 or float16 reach it in float32, the precision of the noise.
        num_samples: how many perturbed inputs are averaged.
        sigma: the scale of the noise.
        noise: `normal`, `gumbel`, `logistic`, or a `Noise` (its own scale is used, and sigma is not).
        batched: theta has a batch dim; if not, func is still called with a batch of samples.
        device: theta is moved there first; null leaves it where it is.

    Returns:
        A function of theta with the signature of func. Gradients do not depend on train or eval mode.

    Raises:
        UserError: an unknown noise, or an input with too few dims.
    """
    if func is None:
        return functools.partial(
            perturbed, num_samples=num_samples, sigma=sigma, noise=noise, batched=batched, device=device
        )
    estimator = Perturbed(_noise(noise, sigma), num_samples)

    @functools.wraps(func)
    def wrapper(theta: Tensor, *args: Any, **options: Any) -> Tensor:
        event_dim = theta.ndim - batched
        if event_dim < 1:
            needed = "two dims, the first of them the batch; or set batched=False" if batched else "one dim"
            raise UserError(f"perturbed takes an input of at least {needed}; got shape {list(theta.shape)}")
        solver = FromFunction(lambda x: func(x, *args, **options), event_dim)
        return estimator(solver, theta.to(device)).y

    return wrapper


class FenchelYoungLoss(nn.Module):
    """The loss of the published PyTorch and TensorFlow versions, with the value that they return and their gradient.

        value = |y - y*|^2,   d theta = (y - y*) d value,   y = mean_s func(theta + sigma Z_s)

    The value is *not* the Fenchel-Young loss, nor is the gradient that of the value: the gradient alone is that of the
    Fenchel-Young loss. The estimator `fenchel_young` returns the loss itself with the same gradient; train with that
    one if the value is compared, stopped by or logged.

    Args:
        func: maps `[batch, *event]` to decisions of the same shape, which maximise `<theta, y>`.
        num_samples: how many perturbed decisions are averaged.
        sigma: the scale of the noise.
        noise: as for `perturbed`.
        batched: the input has a batch dim, and the losses are one for each of its rows; if not, the loss is a scalar.
        maximize: func maximises `<theta, y>`; if not, it minimises, and the gradient changes its sign.
        device: the input is moved there first; null leaves it where it is.

    Raises:
        UserError: no func.
    """

    def __init__(
        self,
        func: Callable[..., Tensor] | None = None,
        num_samples: int = 1000,
        sigma: float = 0.01,
        noise: str | Noise = "normal",
        batched: bool = True,
        maximize: bool = True,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if func is None:
            raise UserError("FenchelYoungLoss needs func, the function whose decisions are compared with y_true")
        self.func, self.batched, self.maximize = func, batched, maximize
        self.perturbed = perturbed(func, num_samples, sigma, noise, batched, device)

    def forward(self, input_tensor: Tensor, y_true: Tensor, *args: Any, **options: Any) -> Tensor:
        """The losses, one for each row of the batch.

        Args:
            input_tensor: the scores theta.
            y_true: the right decisions, with the shape of the input.
            args: further arguments of func, as are `options`.

        Raises:
            UserError: the decisions or y_true have another shape than the input.
        """
        y = self.perturbed(input_tensor.detach(), *args, **options)
        if not y_true.shape == y.shape == input_tensor.shape:
            raise UserError(
                f"FenchelYoungLoss takes scores, decisions and y_true of one shape, got {list(input_tensor.shape)}, "
                f"{list(y.shape)} and {list(y_true.shape)}"
            )
        difference = y - y_true.to(y)
        slope = difference if self.maximize else -difference
        event_dim = y.ndim - self.batched
        value = dot(slope, slope, event_dim)
        return value + dot(only_gradient(input_tensor.to(y)), slope, event_dim)


def _noise(noise: str | Noise, scale: float) -> Noise:
    if isinstance(noise, Noise):
        return noise
    known: dict[str, Callable[[float], Noise]]
    known = {"normal": noises.Normal, "gumbel": noises.Gumbel, "logistic": noises.Logistic}
    if noise not in known:
        raise UserError(f"unknown noise {noise!r}; one of {', '.join(known)}, or a Noise")
    return known[noise](scale)
