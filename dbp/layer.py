"""Discrete layers outside the template: in any PyTorch model, around any function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dbp import noises
from dbp.core import Draw, Estimator, Noise, Solver, Target
from dbp.errors import UserError
from dbp.estimators import Perturbed
from dbp.gradients.rules import pull_back
from dbp.solvers import FromFunction

Function = Callable[..., Tensor]


class Layer(nn.Module):
    """A solver with an estimator for its gradient, as a module: `y = layer(theta)`.

    Estimators whose gradient passes through the losses (score) need `draw`, which all others may use too:

        draw = layer.draw(theta)
        loss = draw.surrogate(losses_of(draw.y)).mean()

    Through the surrogate, too, lam of `blackbox` and `imle` does not depend on the batch size; without it, it is in
    units of whatever gradient arrives, as in the papers' code.

    Args:
        solver: the forward pass.
        estimator: the backward pass; in eval mode it is not used.
    """

    def __init__(self, solver: Solver, estimator: Estimator) -> None:
        super().__init__()
        self.solver, self.estimator = solver, estimator

    def forward(self, theta: Tensor, instance: Any = None, target: Target = Target()) -> Tensor:
        """The decision y of `[*samples, *batch, *event]`.

        Raises:
            UserError: theta wants a gradient that this estimator gives through the losses only.
        """
        y = self.draw(theta, instance, target).y
        if self.training and theta.requires_grad and torch.is_grad_enabled() and not y.requires_grad:
            raise UserError(
                f"the gradient of {type(self.estimator).__name__} passes through the losses: "
                "use draw = layer.draw(theta), then draw.surrogate(losses).mean()"
            )
        return y

    def draw(self, theta: Tensor, instance: Any = None, target: Target = Target()) -> Draw:
        """The decision with the surrogate for its losses."""
        return self.estimator(self.solver, theta, instance, target)

    def extra_repr(self) -> str:
        return f"solver={self.solver}"


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
    def wrapper(theta: Tensor, *args: Any) -> Tensor:
        event_dim = theta.ndim - batched
        if event_dim < 1:
            raise UserError(f"a batched input has at least two dims, got shape {list(theta.shape)}; or batched=False")
        return estimator(FromFunction(func, event_dim), theta.to(device), args).y

    return wrapper


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
    def wrapper(theta: Tensor, *args: Any) -> Tensor:
        solver = FromFunction(function, theta.ndim - 1)
        many = theta.unsqueeze(1).expand(-1, nb_samples, *theta.shape[1:])  # [B, samples, *event]
        fixed = many.detach()
        noise = torch.zeros_like(fixed) if noise_distribution is None else noise_distribution.sample(fixed)
        y = solver(fixed + input_noise_temperature * noise, args)

        def pullback(grad: Tensor) -> Tensor:
            moved = target.params(fixed, grad) + target_noise_temperature * noise
            return (y - solver(moved, args)) / nb_samples

        return pull_back(y, many, pullback).y.flatten(0, 1)

    return wrapper


def _noise(noise: str | Noise, scale: float) -> Noise:
    if isinstance(noise, Noise):
        return noise
    known: dict[str, Callable[[float], Noise]]
    known = {"normal": noises.Normal, "gumbel": noises.Gumbel, "logistic": noises.Logistic}
    if noise not in known:
        raise UserError(f"unknown noise {noise!r}; one of {', '.join(known)}, or a Noise")
    return known[noise](scale)
