"""Checks of the promises of a noise."""

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor

from dbp.core import Noise
from dbp.errors import Unsupported
from dbp.testing.checks import random_state, require, run, same, table, untouched

_MANY = 200_000


def check_noise(noise: Noise, *, skip: Collection[str] = ()) -> None:
    """Checks the samples of a noise, and that its density, if it has one, is theirs.

    Raises:
        AssertionError: a fault, named.
    """
    run(NOISE_CHECKS, noise, noise, skip)


def shape_and_dtype(noise: Noise) -> None:
    for dtype in (torch.float32, torch.float64):
        like = torch.zeros(2, 1, dtype=dtype).expand(2, 500)
        z = noise.sample(like)
        require(z.shape == like.shape and z.dtype == dtype, f"samples {list(z.shape)} {z.dtype} for [2, 500] {dtype}")
        require(z.isfinite().all(), "samples values that are not finite")
        shared = (z == z[:, :1]).all() or torch.equal(z[0], z[1])
        require(not shared, "gives different elements the same sample")
        require(not like.any(), "changes the tensor that its sample is to be like")


def repeatable(noise: Noise) -> None:
    like = torch.zeros(100)
    before = random_state(like.device)
    first, again = (noise.sample(like, torch.Generator().manual_seed(1)) for _ in range(2))
    require(torch.equal(first, again), "is not repeatable: under the same seed it draws other samples")
    require(untouched(before, like.device), "draws from the global generator though it was given another")
    require(not torch.equal(noise.sample(like), noise.sample(like)), "draws the same samples every time")


def scale(noise: Noise) -> None:
    like, twice = torch.zeros(1000), replace(noise, scale=2 * noise.scale)
    z, doubled = (n.sample(like, torch.Generator().manual_seed(1)) for n in (noise, twice))
    require(same(doubled, 2 * z), "does not follow its scale: twice the scale is not twice the sample")


def density(noise: Noise) -> None:
    z = noise.sample(torch.zeros(_MANY, dtype=torch.float64)).sort().values
    x = _grid(z)
    try:
        p = noise.log_prob(x).exp()
    except Unsupported:
        return
    below = torch.cumulative_trapezoid(p, x)
    total = below[-1].item()
    require(abs(total - 1) < 2e-3, f"has a density that integrates to {total:.4g}, not to 1")
    seen = torch.searchsorted(z, x[1:].contiguous()) / len(z)
    gap = (seen - below / total).abs().max().item()
    limit = 2.5 / len(z) ** 0.5  # Kolmogorov and Smirnov's, one in 100,000
    require(gap < limit, f"has a log_prob that is not its samples': their shares differ by up to {gap:.2g}")


def score(noise: Noise) -> None:
    x = noise.sample(torch.zeros(1000, dtype=torch.float64)).requires_grad_()
    try:
        log_prob = noise.log_prob(x)
    except Unsupported:
        return
    require(log_prob.shape == x.shape, "has a log_prob that is not elementwise")
    (grad,) = torch.autograd.grad(log_prob.sum(), x)
    step = 1e-5 * noise.scale
    slope = (noise.log_prob(x + step) - noise.log_prob(x - step)) / (2 * step)
    require(same(grad * noise.scale, slope * noise.scale, 1e-3), "has a log_prob with a wrong gradient")


def _grid(z: Tensor) -> Tensor:
    """Points from well below the least sample to well above the largest."""
    reach = (z[-1] - z[0]) / 2
    return torch.linspace((z[0] - reach).item(), (z[-1] + reach).item(), 200_001, dtype=z.dtype)


NOISE_CHECKS = table(shape_and_dtype, repeatable, scale, density, score)
