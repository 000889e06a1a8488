"""Graphs that peers want to be handed as edges."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Edges(NamedTuple):
    """From `start[i]` to `end[i]`, sorted; vertices are 0, ..., size - 1."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    size: int


def grid(height: int, width: int) -> Edges:
    """Eight neighbours, both directions."""
    index = np.arange(height * width).reshape(height, width)
    framed = np.pad(index, 1, constant_values=-1)
    shifts = [(r, c) for r in range(3) for c in range(3) if (r, c) != (1, 1)]
    near = np.stack([framed[r : r + height, c : c + width] for r, c in shifts], -1).reshape(-1, 8)
    start = np.repeat(index.ravel(), 8)
    keep = near.ravel() >= 0
    return Edges(start[keep], near.ravel()[keep], height * width)
