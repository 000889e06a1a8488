"""The calls of torch-imle."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dbp import noises
from dbp.core import Noise
from dbp.errors import UserError
from dbp.gradients.rules import pull_back
from dbp.scores import widened
from dbp.solvers import FromFunction

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class TargetDistribution:
    """The target of I-MLE, `theta' = alpha theta - beta dy`.

    Source: Niepert, Minervini, Franceschi, NeurIPS 2021, equation 10, in the notation of torch-imle.
    """

    alpha: float = 1.0
    beta: float = 1.0

    def params(self, theta: Tensor, dy: Tensor) -> Tensor:
        """`theta'` for theta and the gradient dy of the decision."""
        return self.alpha * theta - self.beta * dy


def SumOfGammaNoiseDistribution(k: float, nb_iterations: int = 10, device: Any = None) -> Noise:
    """torch-imle's name for `SumOfGamma(k=k, terms=nb_iterations)`; it is drawn on the device of theta."""
    return noises.SumOfGamma(k=k, terms=nb_iterations)


def imle(
    function: Function | None = None,
    target_distribution: TargetDistribution | None = None,
    noise_distribution: Noise | None = None,
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
        function: maps `[batch, *event]` to decisions of the same shape, which maximise `<theta, y>`.
        target_distribution: anything with `params(theta, dy)`; by default alpha = beta = 1.
        noise_distribution: a `Noise`; null for none.
        nb_samples: decisions for each input.
        input_noise_temperature: multiplies the noise of the decision.
        target_noise_temperature: multiplies the same noise in the target.

    Returns:
        A function of `[B, *event]` with decisions `[B * nb_samples, *event]`, the samples of an input side by side.
    """
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
        solver = FromFunction(lambda x: function(x.to(given), *args, **options), theta.ndim - 1)
        many = theta.unsqueeze(1).expand(-1, nb_samples, *theta.shape[1:])  # [B, samples, *event]
        fixed = many.detach()
        noise = torch.zeros_like(fixed) if noise_distribution is None else noise_distribution.sample(fixed)
        y = solver(fixed + input_noise_temperature * noise)

        def pullback(grad: Tensor) -> Tensor:
            moved = target.params(fixed, grad) + target_noise_temperature * noise
            return (y - solver(moved)) / nb_samples

        return pull_back(y, many, pullback).y.flatten(0, 1).to(given)

    return wrapper
