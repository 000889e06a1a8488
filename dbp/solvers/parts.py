"""Rows a part at a time: what the torch twins work on does not grow with the batch."""

from collections.abc import Callable
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

_BYTES = 2**24  # that a part takes, about: few enough to stay near the processor, enough to make torch's calls worth it


def in_parts(solve: Callable[..., tuple[Tensor, ...]], each: int, rows: Tensor, *others: Any) -> tuple[Tensor, ...]:
    """`solve(rows, *others)`, where it is much a part of the rows at a time.

    Args:
        solve: takes and returns `[rows, ...]` tensors, and finds for a row what it finds for it alone.
        each: about how many bytes it takes for a row, between what it is given and what it returns.
        others: tensors with as many rows; what is no tensor goes to every part as it is.
    """
    count = -(-len(rows) * each // _BYTES)
    if count <= 1:
        return solve(rows, *others)
    tables = [x.chunk(count) if isinstance(x, Tensor) else repeat(x) for x in (rows, *others)]
    return tuple(map(torch.cat, zip(*(solve(*part) for part in zip(*tables, strict=False)), strict=True)))
