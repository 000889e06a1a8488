"""One training step of an estimator, on N scores."""

import itertools

import torch
from examples import N
from torch import Tensor

from dbp.core import Estimator, Solver, Target


def loss(y: Tensor) -> Tensor:
    """One loss for each decision of the last dim, or of the last two of a matrix."""
    y = y.flatten(-2) if y.shape[-2:] == (N, N) else y
    return torch.tanh(y @ torch.linspace(-1, 1, y.shape[-1], dtype=y.dtype, device=y.device)) + y.square().sum(-1) / 9


def target(solver: Solver, theta: Tensor) -> Target:
    right = theta.roll(1, -1).detach() + 0.1
    return Target(solver(right), right)


def run(estimator: Estimator, solver: Solver, theta: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """theta's gradient of the mean loss, the surrogate's losses and the plain ones."""
    theta = theta.clone().requires_grad_()
    draw = estimator.train()(solver, theta, target=target(solver, theta))
    plain = loss(draw.y)
    losses = draw.surrogate(plain)
    (losses.mean() * scale).backward()
    assert theta.grad is not None
    return theta.grad / scale, losses.detach(), plain.detach()


def theta_of(*leading: int) -> Tensor:
    return torch.randn(*leading, N, generator=torch.Generator().manual_seed(2))


def zeros_and_ones(n: int) -> Tensor:
    """All vectors of n bits, `[2^n, n]`."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)))
