"""The instance that is drawn of each solver. Plain data, so that the command line needs no torch to complete it."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Options = Mapping[str, Any]
Places = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Example:
    """An instance to draw.

    Args:
        scores: theta, as nested lists, for the solver's options.
        options: of the solver, beneath those that are given.
        panel: a function of `dbp.gallery.panels`; by default the one for theta and y of such shapes.
        places: of nodes or cities in the plane; by default on a circle.
        levels: scores to mark by a line, for theta and the options.
    """

    scores: Callable[[Options], Any]
    options: Options = field(default_factory=dict)
    panel: str | None = None
    places: Places = ()
    levels: Callable[[Any, Options], Sequence[float]] = lambda theta, options: ()


def node_places(edges: Sequence[Sequence[int]], places: Places = ()) -> Places:
    """The places of the nodes that edges name: those given if they suffice, else on a circle."""
    nodes = 1 + max((node for edge in edges for node in edge), default=-1)
    angles = [2 * math.pi * i / max(nodes, 1) for i in range(nodes)]
    return places if nodes <= len(places) else [(math.sin(angle), math.cos(angle)) for angle in angles]


def _these(*scores: Any) -> Callable[[Options], Any]:
    return lambda options: list(scores)


def _lengths(places: Places) -> Callable[[Options], Any]:
    """Minus the length of each edge."""

    def scores(options: Options) -> list[float]:
        at = node_places(options["edges"], places)
        return [-math.dist(at[a], at[b]) for a, b in options["edges"]]

    return scores


def _both_ways(edges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [*edges, *((b, a) for a, b in edges)]


def _scattered(count: int, seed: int) -> Places:
    """Points of a rectangle from left to right, not too near to one another."""
    dice = random.Random(seed)
    points: list[tuple[float, float]] = []
    while len(points) < count:
        point = (dice.uniform(0, 1.7), dice.uniform(0, 1))
        if all(math.dist(point, other) > 0.2 for other in points):
            points.append(point)
    return sorted(points)


def _near(places: Places, reach: float) -> list[tuple[int, int]]:
    return [(a, b) for b in range(len(places)) for a in range(b) if math.dist(places[a], places[b]) < reach]


def _hills(height: int, width: int) -> list[list[float]]:
    """Minus the costs of crossing some hills."""
    tops = [(2.5, 4, 2.2), (9, 3, 2.0), (5.5, 9.5, 2.6), (1.5, 14, 2.2), (10, 12.5, 2.0), (7, 17, 1.8)]

    def cost(row: int, column: int) -> float:
        return 0.1 + 2 * sum(math.exp(-((row - r) ** 2 + (column - c) ** 2) / (2 * s * s)) for r, c, s in tops)

    return [[-cost(row, column) for column in range(width)] for row in range(height)]


_VECTOR = _these(0.3, 1.4, -0.6, 0.9, 1.1, -1.2, 0.1, 0.6)
_TOWNS, _CITIES = _scattered(16, 9), _scattered(12, 7)
_ROADS = _near(_TOWNS, 0.48)
_GRID = [(column, -row) for row in range(4) for column in range(6)]
_DICE = random.Random(5)
_WALKS = [round(_DICE.uniform(-0.9, 0.9), 1) for _ in _near(_GRID, 1.1)]
_CLOUD = [(x + _DICE.gauss(0, 0.5), y + _DICE.gauss(0, 0.5)) for x, y in ((0, 0), (3, 0.6), (1.3, 2.4)) * 14]
_SKILLS = [[_DICE.randrange(10) for _ in range(5)] for _ in range(5)]
_PENTAGON = [(math.sin(1.257 * i), math.cos(1.257 * i)) for i in range(5)]

EXAMPLES: dict[str, Example] = {
    "one_hot": Example(_VECTOR),
    "top_k": Example(_VECTOR, {"k": 3}),
    "threshold": Example(_VECTOR, levels=lambda theta, options: [0]),
    "binary": Example(_VECTOR, levels=lambda theta, options: [sum(theta) / len(theta)]),
    "signum": Example(_VECTOR, levels=lambda theta, options: [-options["margin"], options["margin"]]),
    "any": Example(_these([-0.4, -1.1, -0.7], [-0.5, 0.8, -0.9], [1.2, 0.4, -0.3], [-0.2, -0.6, -1.3])),
    "sort": Example(_VECTOR, panel="before_and_after"),
    "rank": Example(_VECTOR),
    "permutation": Example(_these(0.3, 1.4, -0.6, 0.9, 1.1, -1.2)),
    "k_means": Example(_these(*_CLOUD), {"k": 3}, "points"),
    "grid_path": Example(lambda options: _hills(12, 20), panel="terrain"),
    "graph_path": Example(_lengths(_TOWNS), {"edges": _both_ways(_ROADS)}, places=_TOWNS),
    "spanning_tree": Example(_lengths(_TOWNS), {"edges": _ROADS}, places=_TOWNS),
    "arborescence": Example(
        _these(0.9, 0.7, 0.8, 0.2, 0.6, 0.9, 0.5, 0.4, 0.3, 0.8),
        {"edges": [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (0, 2), (2, 1), (4, 3), (1, 4), (3, 0)]},
        places=_PENTAGON,
    ),
    "matching": Example(_these(*_SKILLS)),
    "perfect_matching": Example(_these(*_WALKS), {"edges": _near(_GRID, 1.1)}, places=_GRID),
    "graph_matching": Example(
        lambda options: [0.0] * 20 + [1.0] * (len(options["first"]) * len(options["second"])),
        {"nodes": [4, 5], "first": [(0, 1), (1, 2), (2, 3), (1, 3)],
         "second": _both_ways([(0, 1), (1, 2), (2, 0), (2, 3), (3, 4)])},
        "two_graphs",
    ),
    "knapsack": Example(
        _these(4, 7, 2, 6, 3, 5, 1), {"weights": [3, 4, 2, 5, 1, 4, 3], "capacity": 10}, "blocks",
    ),
    "tour": Example(lambda options: [[-math.dist(a, b) for b in _CITIES] for a in _CITIES], {}, "tour", _CITIES),
    "integer_program": Example(
        _these(1.0, 1.2), {"A_ub": [[1, 3], [3, 1.5], [-1, 1]], "b_ub": [14.5, 16, 3], "upper": 6}, "program",
    ),
}  # fmt: skip
