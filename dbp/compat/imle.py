"""The decorator, the target and the noise of torch-imle (its modules wrapper, target and noise)."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, overload

import torch
from torch import Tensor

from dbp.core import Noise
from dbp.errors import UserError
from dbp.gradients.rules import pull_back
from dbp.noises import SumOfGamma
from dbp.scores import widened
from dbp.solvers.function import FromFunction

P = ParamSpec("P")


class BaseTargetDistribution(ABC):
    """A map from the scores and the gradient of their decision to the scores of a better decision."""

    @abstractmethod
    def params(self, theta: Tensor, dy: Tensor) -> Tensor:
        """The target's scores `theta'`, for scores and a gradient that both have the decision's shape."""


@dataclass
class TargetDistribution(BaseTargetDistribution):
    """The target of I-MLE, `theta' = alpha theta - beta dy`; alpha and beta may be changed between steps.

    Source: Niepert, Minervini, Franceschi, NeurIPS 2021, equation 10, in the notation of torch-imle.
    """

    alpha: float = 1.0
    beta: float = 1.0

    def params(self, theta: Tensor, dy: Tensor) -> Tensor:
        return self.alpha * theta - self.beta * dy


class BaseNoiseDistribution(ABC):
    """Noise by torch-imle's call, `sample(shape)`. `imle` takes any `dbp.Noise` as well."""

    @abstractmethod
    def sample(self, shape: torch.Size) -> Tensor:
        """Independent draws in this shape."""

    def sample_like(self, theta: Tensor) -> Tensor:
        """As `sample`, with the shape, dtype and device of theta."""
        return self.sample(theta.shape).to(theta)


class SumOfGammaNoiseDistribution(BaseNoiseDistribution):
    """Sum-of-Gamma noise, `dbp.noises.SumOfGamma(k=k, terms=nb_iterations)`.

    Args:
        k: how many coordinates are chosen.
        nb_iterations: the length of the series.
        device: of `sample(shape)`; `imle` draws on the device of theta.
    """

    def __init__(self, k: float, nb_iterations: int = 10, device: torch.device | str | None = None) -> None:
        self.k, self.nb_iterations, self.device = k, nb_iterations, device
        self.noise = SumOfGamma(k=k, terms=nb_iterations)

    def sample(self, shape: torch.Size) -> Tensor:
        return self.noise.sample(torch.empty(shape, device=self.device))

    def sample_like(self, theta: Tensor) -> Tensor:
        return self.noise.sample(theta)


NoiseDistribution = BaseNoiseDistribution | Noise


@overload
def imle(
    function: Callable[P, Tensor],
    target_distribution: BaseTargetDistribution | None = ...,
    noise_distribution: NoiseDistribution | None = ...,
    nb_samples: int = ...,
    input_noise_temperature: float = ...,
    target_noise_temperature: float = ...,
) -> Callable[P, Tensor]: ...
@overload
def imle(
    function: None = None,
    target_distribution: BaseTargetDistribution | None = ...,
    noise_distribution: NoiseDistribution | None = ...,
    nb_samples: int = ...,
    input_noise_temperature: float = ...,
    target_noise_temperature: float = ...,
) -> Callable[[Callable[P, Tensor]], Callable[P, Tensor]]: ...
def imle(
    function: Callable[..., Tensor] | None = None,
    target_distribution: BaseTargetDistribution | None = None,
    noise_distribution: NoiseDistribution | None = None,
    nb_samples: int = 1,
    input_noise_temperature: float = 1.0,
    target_noise_temperature: float = 1.0,
) -> Any:
    """Implicit MLE around any function of a batch; a function or a decorator, with the calls of torch-imle.

        y_s = f(theta + t_in Z_s)
        d theta = mean_s (y_s - f(theta'_s + t_target Z_s)),   theta'_s = alpha theta - beta dy_s

    It keeps torch-imle's conventions: the gradient is not divided by beta, dy is the gradient as it arrives (beta is in
    units of a batch mean, if there is one), and the samples are folded into the batch. The estimator `imle` in a
    `Layer` has none of these.

    Args:
        function: maps `[batch, *event]` to decisions of the same shape, which maximise `<theta, y>`. Further arguments,
            by position or by name, are passed on. Scores in bfloat16 or float16 reach it in float32, the precision of
            the noise; the decision has theta's dtype again.
        target_distribution: anything with `params(theta, dy)`; by default alpha = beta = 1.
        noise_distribution: `SumOfGammaNoiseDistribution`, a subclass of `BaseNoiseDistribution`, or a `dbp.Noise`; null
            for none.
        nb_samples: decisions for each input.
        input_noise_temperature: multiplies the noise of the decision.
        target_noise_temperature: multiplies the same noise in the target.

    Returns:
        A function of `[B, *event]` with decisions `[B * nb_samples, *event]`, the samples of an input side by side.

    Raises:
        UserError: nb_samples is not positive, or an input without a batch dim.
    """
    if nb_samples < 1:
        raise UserError(f"imle: nb_samples must be at least 1, got {nb_samples}")
    target = target_distribution or TargetDistribution()
    if function is None:
        return functools.partial(
            imle,
            target_distribution=target,
            noise_distribution=noise_distribution,
            nb_samples=nb_samples,
            input_noise_temperature=input_noise_temperature,
            target_noise_temperature=target_noise_temperature,
        )

    @functools.wraps(function)
    def wrapper(theta: Tensor, *args: Any, **options: Any) -> Tensor:
        if theta.ndim < 2:
            raise UserError(f"imle takes a batch of at least two dims, got shape {list(theta.shape)}")
        given, theta = theta.dtype, widened(theta)  # noise in bfloat16 has another distribution
        solver = FromFunction(lambda x: function(x, *args, **options), theta.ndim - 1)
        many = theta.unsqueeze(1).expand(-1, nb_samples, *theta.shape[1:])  # [B, samples, *event]
        fixed = many.detach()
        noise = _sample(noise_distribution, fixed)
        y = solver(fixed + input_noise_temperature * noise)

        def pullback(grad: Tensor) -> Tensor:
            moved = target.params(fixed, grad) + target_noise_temperature * noise
            return (y - solver(moved)) / nb_samples

        return pull_back(y, many, pullback).y.flatten(0, 1).to(given)

    return wrapper


def _sample(noise: NoiseDistribution | None, like: Tensor) -> Tensor:
    if noise is None:
        return torch.zeros_like(like)
    return noise.sample(like) if isinstance(noise, Noise) else noise.sample_like(like)
