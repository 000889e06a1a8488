"""Any function of a batch as a solver."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dbp.core import Solver
from dbp.shapes import over_leading


@dataclass(frozen=True)
class FromFunction(Solver):
    """A solver from a function that maps `[batch, *event]` to `[batch, *out]`, of any output shape.

    Args:
        function: called once with all leading dims flattened to one; `instance` is a tuple of further arguments.
        event_dim: the number of trailing dims of theta that make one input.
    """

    function: Callable[..., Tensor]
    event_dim: int = 1

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        return over_leading(self.function, theta, self.event_dim, *(instance or ())).to(theta)
