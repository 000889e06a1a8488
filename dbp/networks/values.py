"""Values of chosen items: differentiable functions of `[*leading, slots, dim]`."""

from torch import Tensor, nn


class SquaredError(nn.Module):
    """Minus the squared distance of every chosen item to one target, `-sum (x - target)^2`.

    Args:
        target: the wanted value of every coordinate.
    """

    def __init__(self, target: float = 5.0) -> None:
        super().__init__()
        self.target = target

    def forward(self, chosen: Tensor) -> Tensor:
        return -(chosen - self.target).square().sum((-2, -1))
