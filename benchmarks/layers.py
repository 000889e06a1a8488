"""Differentiable layers of other projects around a solver of ours, `theta -> y`, and the least that any layer costs."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.distributions import Gamma

from dbp.core import Noise, Solver

Layer = Callable[[Tensor], Tensor]


def gammas(shape: torch.Size, k: float, terms: int = 10) -> Tensor:
    """Sum-of-Gamma noise as torch-imle draws it: term by term."""
    total = torch.zeros(shape)
    for i in range(1, terms + 1):
        total = total + Gamma(torch.tensor(1 / k), torch.tensor(i / k)).sample(shape)
    return (total - math.log(terms)) / k


def torch_imle(solver: Solver, k: float, lam: float, samples: int) -> Layer:
    """The algorithm of torch-imle: the decisions of all samples, folded into the batch."""

    class Implicit(Function):
        @staticmethod
        def forward(ctx: Any, theta: Tensor) -> Tensor:
            many = theta.repeat_interleave(samples, 0)
            noise = gammas(many.shape, k)
            y = solver(many + noise)
            ctx.save_for_backward(many, noise, y)
            return y

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            many, noise, y = ctx.saved_tensors
            difference = y - solver(many - lam * grad + noise)
            return difference.reshape(-1, samples, *grad.shape[1:]).mean(1)

    return Implicit.apply


def perturbed_optimizer(solver: Solver, scale: float, samples: int) -> Layer:
    """The algorithm of the perturbed optimizers' published code, with normal noise."""

    class Perturbed(Function):
        @staticmethod
        def forward(ctx: Any, theta: Tensor) -> Tensor:
            noise = torch.distributions.Normal(0.0, 1.0).sample(torch.Size((samples, *theta.shape)))
            moved = theta.unsqueeze(0) + scale * noise
            y = solver(moved.reshape(-1, *theta.shape[1:])).reshape(moved.shape)
            ctx.save_for_backward(noise, y)
            return y.mean(0)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            noise, y = (x.reshape(samples, len(grad), -1) for x in ctx.saved_tensors)
            reward = torch.einsum("sbd,bd->sb", y, grad.reshape(len(grad), -1))
            return torch.einsum("sbd,sb->bd", noise, reward).reshape(grad.shape) / (scale * samples)

    return Perturbed.apply


def pyepo(kind: str, solver: Solver, shape: tuple[int, ...], **options: Any) -> Layer:
    """PyEPO's module of this name, around an `optModel` that hands each instance to the solver."""

    @cache
    def module() -> Any:
        from pyepo import EPO, func
        from pyepo.model.opt import optModel

        class Model(optModel):
            modelSense = EPO.MAXIMIZE

            def _getModel(self) -> tuple[Any, Any]:
                return None, range(math.prod(shape))

            def setObj(self, c: Any) -> None:
                self.theta = torch.from_numpy(c).reshape(shape)

            def solve(self) -> tuple[Any, float]:
                y = solver(self.theta)
                return y.flatten().numpy(), torch.dot(self.theta.flatten(), y.flatten()).item()

        return getattr(func, kind)(Model(), **options)

    return lambda theta: module()(theta.flatten(1)).unflatten(1, shape)


def least(solver: Solver, noise: Noise | None, samples: int | None, calls: int, mean: bool) -> Layer:
    """What no layer can do without: the noise, so many solver calls, one copy of y, and a bare step of autograd.

    Args:
        mean: whether the layer's value is the mean of the samples.
    """

    class Least(Function):
        @staticmethod
        def forward(ctx: Any, theta: Tensor) -> Tensor:
            many = theta if samples is None else theta.expand(samples, *theta.shape)
            ctx.noisy = many if noise is None else noise.sample(many).add_(many)
            y = solver(ctx.noisy)
            return y.mean(0) if mean else y.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            for _ in range(calls - 1):
                solver(ctx.noisy)
            return grad if samples is None or mean else grad.mean(0)

    return Least.apply
