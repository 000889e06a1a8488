"""The multilayer perceptron."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

from dbp.errors import UserError

Activation = Literal["relu", "leaky_relu", "elu", "tanh"]

_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
}


class MLP(nn.Sequential):
    """Linear layers with an activation between them: `[*batch, sizes[0]] -> [*batch, sizes[-1]]`.

    Args:
        sizes: the widths, input and output included; at least two.
        activation: after every layer but the last.
        dropout: the share of hidden units dropped in training.
    """

    def __init__(self, sizes: Sequence[int], activation: Activation = "relu", dropout: float = 0.0) -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            raise UserError(f"mlp: sizes needs an input and an output width, all positive, got {list(sizes)}")
        layers: list[nn.Module] = []
        for width, following in pairwise(sizes):
            layers += [nn.Linear(width, following), _MODULES[activation]()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        super().__init__(*layers[: -2 if dropout else -1])
        self.sizes, self.activation, self.dropout = list(sizes), activation, dropout
