"""PyEPO's models on OR-Tools, and its way to call a solver of one's own: an instance at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def solutions(model: Any, costs: Array) -> list[object]:
    """As PyEPO solves a batch on one core."""
    found = []
    for cost in costs:
        model.setObj(cost)
        found.append(model.solve()[0])
    return found


def loop(make: Callable[[], Any], costs: Array) -> Callable[[], object]:
    """Solves the batch by a model that is made at the first call, so that it is not needed to be listed."""
    made: list[Any] = []

    def call() -> object:
        if not made:
            made.append(make())
        return solutions(made[0], costs)

    return call


def shortest_path(size: int) -> Any:
    """Right and down through a grid of vertices, costs on the edges."""
    from pyepo.model.ort import shortestPathModel

    return shortestPathModel((size, size))


def knapsack(weights: Array, capacity: int) -> Any:
    from pyepo.model.ort import knapsackModel

    return knapsackModel(weights[None].astype(float), np.array([float(capacity)]))


def top_k(n: int, k: int) -> Any:
    """A model of one's own, as its guide has it."""
    from pyepo import EPO
    from pyepo.model.opt import optModel

    class TopK(optModel):
        modelSense = EPO.MAXIMIZE

        def _getModel(self) -> tuple[Any, Any]:
            return None, range(n)

        def setObj(self, c: Any) -> None:
            self.cost = np.asarray(c)

        def solve(self) -> tuple[Array, float]:
            best = np.argpartition(-self.cost, k - 1)[:k]
            y = np.zeros(n, dtype=np.float32)
            y[best] = 1
            return y, float(self.cost[best].sum())

    return TopK()
