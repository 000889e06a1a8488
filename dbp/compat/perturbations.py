"""The calls of the published perturbed optimizers (TensorFlow, JAX and PyTorch versions)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dbp import noises
from dbp.core import Noise
from dbp.errors import UserError
from dbp.estimators import Perturbed
from dbp.solvers import FromFunction

Function = Callable[..., Tensor]


def perturbed(
    func: Function | None = None,
    num_samples: int = 1000,
    sigma: float = 0.05,
    noise: str | Noise = "normal",
    batched: bool = True,
    device: torch.device | str | None = None,
) -> Any:
    """Makes any function of a tensor differentiable by perturbation; a function or a decorator.

        f_sigma(theta) = mean_s f(theta + sigma Z_s),   its Jacobian by the score of the noise

    Takes the calls of the published TensorFlow, JAX and PyTorch versions. The estimate subtracts the other samples'
    mean, which they do not: same expectation, less variance.

    Args:
        func: maps `[batch, *event]` to `[batch, *out]`, piecewise constant or not; further arguments are passed on.
        num_samples: how many perturbed inputs are averaged.
        sigma: the scale of the noise.
        noise: `normal`, `gumbel`, `logistic`, or a `Noise` (its own scale is used, and sigma is not).
        batched: whether theta has a batch dim; if not, func is still called with a batch of samples.
        device: moves theta there first; null leaves it where it is.

    Returns:
        A function of theta with the signature of func. Gradients do not depend on train or eval mode.
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
            raise UserError(f"a batched input has at least two dims, got shape {list(theta.shape)}; or batched=False")
        solver = FromFunction(lambda x: func(x, *args, **options), event_dim)
        return estimator(solver, theta.to(device)).y

    return wrapper


def _noise(noise: str | Noise, scale: float) -> Noise:
    if isinstance(noise, Noise):
        return noise
    known: dict[str, Callable[[float], Noise]]
    known = {"normal": noises.Normal, "gumbel": noises.Gumbel, "logistic": noises.Logistic}
    if noise not in known:
        raise UserError(f"unknown noise {noise!r}; one of {', '.join(known)}, or a Noise")
    return known[noise](scale)
