"""A network for decisions of any size."""

import torch
from torch import Tensor, nn


class Entrywise(nn.Module):
    """One value for each entry of `[*leading, n]`, from the entry and the mean of all n: `[*leading, n]`.

    It fits any n, and treats all entries alike. A scalar `[]` is its own mean.

    Args:
        hidden: width of the hidden layer.
    """

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.hidden = hidden
        self.layers = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True).expand_as(x) if x.ndim else x
        return self.layers(torch.stack([x, mean], -1)).squeeze(-1)
