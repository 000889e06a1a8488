"""The perturbed scores of all samples, a slice of them at a time."""

import itertools
from collections.abc import Callable
from types import EllipsisType

import torch
from torch import Tensor

from dbp.core import Noise, Slices

Rows = slice | EllipsisType  # of the samples dim; `...` for everything
_NUMBERS = 2**18  # of a slice: what is made of 1 MB of floats stays in the cache
_KEPT = 2**22  # as few numbers, 16 MB of floats, are kept: to make them again takes longer


class Perturbation:
    """The perturbed scores of each sample: `draws[rows]` of `[*samples, *batch, *event]`, always the same.

    On the CPU what is done with many samples is done a slice of them at a time, and noise that a counter makes is made
    again for the backward pass, if it is much: memory does not grow with the samples, and little leaves the cache. What
    is drawn does not depend on the slices. On other devices, and under torch.compile, everything is one slice.

    Args:
        theta: `[*batch, *event]`, the scores of one sample; no gradient.
        samples: how many, in a new leading dim; null for one without that dim.
        noise: null for none.
        antithetic: the second half of the samples has the first's noise with the other sign.
        wide: how many times the usual numbers a slice may have, where little is made of them.
    """

    def __init__(
        self,
        theta: Tensor,
        samples: int | None,
        noise: Noise | None,
        generator: torch.Generator | None = None,
        antithetic: bool = False,
        wide: int = 1,
    ) -> None:
        self.samples, self._count = samples, samples or 1
        self._slices: list[Rows] = [...] if samples is None else _slices(samples, theta, wide)
        self._made = _points(theta, self._count, noise, generator, antithetic)
        self._keeps = self._count * theta.numel() <= _KEPT
        self._kept: Tensor | None = None

    def __getitem__(self, rows: Rows) -> Tensor:
        if self._keeps:
            if self._kept is None:
                self._kept = self._made(0, self._count)
            drawn = cut(self._kept, rows)
        elif isinstance(rows, EllipsisType):
            drawn = self._made(0, self._count)
        else:
            drawn = self._made(rows.start, rows.stop)
        return drawn[0] if self.samples is None else drawn

    def stack(self, function: Callable[[Rows], Tensor], dtype: torch.dtype | None = None) -> Tensor:
        """Applies the function to each slice and concatenates; several slices in `dtype`, which may be narrower."""
        first, *others = self._slices
        part = function(first)
        if not others:
            return part
        out = part.new_empty(self._count, *part.shape[1:], dtype=dtype or part.dtype)
        out[first] = part
        for rows in others:
            out[rows] = function(rows)
        return out

    def total(self, function: Callable[[Rows], Tensor], whole: bool = False) -> Tensor:
        """Applies the function to each slice, or to all samples at once, and adds up the results."""
        first, *others = [...] if whole else self._slices
        total = function(first)
        for rows in others:
            total += function(rows)
        return total


def cut(x: Tensor, rows: Rows) -> Tensor:
    """Selects rows of x; returns x itself for all rows, which is quicker than a view."""
    return x if isinstance(rows, EllipsisType) else x[rows]


def _slices(samples: int, theta: Tensor, wide: int) -> list[Rows]:
    if theta.device.type != "cpu" or torch.compiler.is_compiling():
        return [...]
    count = min(samples, -(-samples * theta.numel() // (wide * _NUMBERS)))
    cuts = [samples * i // count for i in range(count + 1)] if count > 1 else []
    return [slice(*pair) for pair in itertools.pairwise(cuts)] or [...]


def _points(
    theta: Tensor, samples: int, noise: Noise | None, generator: torch.Generator | None, antithetic: bool
) -> Slices:
    if noise is None:
        return lambda begin, end: theta.expand(end - begin, *theta.shape)
    if not antithetic:
        return noise.around(theta, samples, generator)
    half, first = samples // 2, noise.around(theta, samples // 2, generator)

    def both(begin: int, end: int) -> Tensor:
        plus = first(min(begin, half), min(end, half))
        mirrored = first(max(begin, half) - half, max(end, half) - half)
        return torch.cat([plus, noise.opposite(theta, mirrored)])

    return both
