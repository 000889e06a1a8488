"""The noise of all samples, a slice of them at a time."""

import itertools
from collections.abc import Callable
from types import EllipsisType

import torch
from torch import Tensor

from dbp.core import Noise

Rows = slice | EllipsisType  # of the samples dim; `...` for everything
_NUMBERS = 2**18  # of a slice: what is made of 1 MB of floats stays in the cache
_KEPT = 2**22  # as few numbers of noise, 16 MB of floats, are kept: to make them again takes longer


class Draws:
    """The noise Z of each sample: `draws[rows]` of `[*samples, *batch, *event]`, the same whenever it is asked for.

    On the CPU what is done with many samples is done a slice of them at a time, and noise that a counter makes is made
    again for the backward pass, if it is much: memory does not grow with the samples, and little leaves the cache. What
    is drawn does not depend on the slices. On other devices, and under torch.compile, everything is one slice.

    Args:
        theta: `[*batch, *event]`, the scores of one sample.
        samples: how many, in a new leading dim; null for one without that dim.
        noise: null for zeros.
        antithetic: the second half of the samples is minus the first.
    """

    def __init__(
        self,
        theta: Tensor,
        samples: int | None,
        noise: Noise | None,
        generator: torch.Generator | None = None,
        antithetic: bool = False,
    ) -> None:
        many = theta if samples is None else theta.expand(samples, *theta.shape)
        self.samples, self.shape = samples, many.shape
        self._slices: list[Rows] = [...] if samples is None else _slices(samples, theta)
        self._kept: Tensor | None = None
        if noise is None:
            self._numbers = lambda begin, end: many.new_zeros(()).expand(end - begin)
        elif many.numel() <= _KEPT:
            self._kept = _sample(many, noise, generator, antithetic)
        else:
            self._numbers = _stream(many, noise, generator, antithetic)

    def __getitem__(self, rows: Rows) -> Tensor:
        if self._kept is not None:
            return cut(self._kept, rows)
        if isinstance(rows, EllipsisType):
            return self._numbers(0, self.shape.numel()).view(self.shape)
        each = self.shape[1:].numel()
        return self._numbers(rows.start * each, rows.stop * each).view(-1, *self.shape[1:])

    def stack(self, function: Callable[[Rows], Tensor], dtype: torch.dtype | None = None) -> Tensor:
        """What the function makes of each slice, together; of several slices in `dtype`, which may be narrower."""
        first, *others = self._slices
        part = function(first)
        if not others:
            return part
        out = part.new_empty(self.shape[0], *part.shape[1:], dtype=dtype or part.dtype)
        out[first] = part
        for rows in others:
            out[rows] = function(rows)
        return out

    def total(self, function: Callable[[Rows], Tensor], whole: bool = False) -> Tensor:
        """What the function makes of each slice, or of all at once, added up."""
        first, *others = [...] if whole else self._slices
        total = function(first)
        for rows in others:
            total += function(rows)
        return total


def cut(x: Tensor, rows: Rows) -> Tensor:
    """Those rows of x; x itself, which is quicker than a view of it, if they are all."""
    return x if isinstance(rows, EllipsisType) else x[rows]


def _slices(samples: int, theta: Tensor) -> list[Rows]:
    if theta.device.type != "cpu" or torch.compiler.is_compiling():
        return [...]
    count = min(samples, -(-samples * theta.numel() // _NUMBERS))
    cuts = [samples * i // count for i in range(count + 1)] if count > 1 else []
    return [slice(*pair) for pair in itertools.pairwise(cuts)] or [...]


def _sample(many: Tensor, noise: Noise, generator: torch.Generator | None, antithetic: bool) -> Tensor:
    if not antithetic:
        return noise.sample(many, generator)
    half = noise.sample(many[: len(many) // 2], generator)
    return torch.cat([half, -half])


def _stream(
    many: Tensor, noise: Noise, generator: torch.Generator | None, antithetic: bool
) -> Callable[[int, int], Tensor]:
    if not antithetic:
        return noise.stream(many, generator)
    half, first = many.numel() // 2, noise.stream(many[: len(many) // 2], generator)

    def both(begin: int, end: int) -> Tensor:
        plus = first(min(begin, half), min(end, half))
        minus = first(max(begin, half) - half, max(end, half) - half)
        return torch.cat([plus, -minus])

    return both
