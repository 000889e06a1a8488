"""Drawings of scores and decisions, one function for each kind."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from numpy.typing import NDArray

from dbp.gallery.examples import Example, Places, node_places

Array = NDArray[Any]
YES, NO, MINUS, INK = "#1763c7", "#cfd6dd", "#d9722b", "#30363d"
RISING = LinearSegmentedColormap.from_list("rising", ["#ffffff", "#8fa9c4"])
CHOICE = LinearSegmentedColormap.from_list("choice", ["#f3cdb3", "#ffffff", "#a9c8ef"])
CLUSTERS = [YES, MINUS, "#3a9e6d", "#8e5bc0", "#c2407f"]


class Case(NamedTuple):
    """A solver's scores and its decision."""

    theta: Array
    y: Array
    options: Mapping[str, Any]
    example: Example


def draw(case: Case) -> Figure:
    """The picture of a case, by the panel that its example names or that fits its shapes."""
    figure = Figure(figsize=(4.8, 3.0), layout="constrained")
    globals()[case.example.panel or _panel(case)](figure, case)
    return figure


def _panel(case: Case) -> str:
    if case.theta.shape != case.y.shape or case.theta.ndim > 2:
        return "before_and_after"
    if case.options.get("edges") and case.theta.ndim == 1:
        return "graph"
    return "bars" if case.theta.ndim < 2 else "cells"


def bars(figure: Figure, case: Case) -> None:
    """Scores as bars, each decision below its score."""
    axis, y = figure.subplots(), case.y.reshape(-1)
    _bars(axis, case.theta, [_colour(value) for value in y])
    axis.set_xticks(range(len(y)), [_text(value) for value in y])
    for label, value in zip(axis.get_xticklabels(), y, strict=True):
        label.set(color=_colour(value) if value else "0.5", fontweight="bold")
    axis.set(xlabel="decision y", ylabel="scores theta")
    for level in case.example.levels(case.theta.tolist(), case.options):
        axis.axhline(level, color=INK, lw=0.9, ls="--")


def before_and_after(figure: Figure, case: Case) -> None:
    """The scores on the left, the decision on the right."""
    theta, y = (x.reshape(-1, x.shape[-1]) if x.ndim > 2 else x for x in (case.theta, case.y))
    if theta.ndim == 2 and y.ndim == 1:
        y = y[:, None]  # a decision for each row
    left, right = figure.subplots(1, 2)
    for axis, values, name, colour in ((left, theta, "scores theta", NO), (right, y, "decision y", YES)):
        axis.set_title(name, fontsize=10)
        if values.ndim == 2:
            _cells(axis, values, RISING if values is theta else CHOICE, vmin=None if values is theta else -1)
            _numbers(axis, values)
            continue
        _bars(axis, values, [colour] * values.size)
        axis.set_axis_off()
        for x, value in enumerate(values.reshape(-1)):
            axis.annotate(_text(value), (x, value), (0, 2 if value > 0 else -2), "data", "offset points",
                          ha="center", va="bottom" if value > 0 else "top", fontsize=8, color=INK)  # fmt: skip


def cells(figure: Figure, case: Case) -> None:
    """Scores as shades, dark where high, and a mark on each chosen cell."""
    axis = figure.subplots()
    _cells(axis, case.theta, RISING)
    _numbers(axis, case.theta)
    for row, column in np.argwhere(case.y != 0):
        axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=YES, lw=2.5))
    axis.set_xlabel("scores theta, and in blue where y = 1")


def terrain(figure: Figure, case: Case) -> None:
    """Costs as shades, dark where high, and the way through them."""
    axis = figure.subplots()
    _cells(axis, -case.theta, "Greys", vmax=-1.4 * case.theta.min())
    rows, columns = np.nonzero(case.y)
    axis.plot(columns, rows, "o", ms=8, color=YES, mec="white", mew=0.8)
    axis.set_xlabel("costs -theta, dark where high; dots where y = 1")


def graph(figure: Figure, case: Case) -> None:
    """Edges between places, the chosen ones strong; arrows if a pair is listed in both directions."""
    edges = case.options["edges"]
    places, axis = node_places(edges, case.example.places), _plane(figure)
    directed = bool(_ends(case))
    lengths = [np.hypot(*np.subtract(places[a], places[b])) for a, b in edges]
    plain = np.allclose(case.theta, np.negative(lengths), atol=1e-4)
    for (a, b), score, chosen in sorted(zip(edges, case.theta, case.y, strict=True), key=lambda edge: edge[2]):
        bent = directed and not plain and [b, a] in [list(edge) for edge in edges]
        _edge(axis, places[a], places[b], chosen, directed and not (plain and chosen == 0), 0.12 if bent else 0.0)
        if not plain:
            _label(axis, places[a], places[b], score, chosen, 0.12 if bent else 0.0)
    _nodes(axis, places, _ends(case))
    axis.set_xlabel("edges where y = 1 in blue" + ("; theta = -length" if plain else "; the numbers are theta"))


def tour(figure: Figure, case: Case) -> None:
    """The closed way through all cities."""
    axis, places = _plane(figure), node_places([[len(case.y) - 1]], case.example.places)
    for a, b in np.argwhere(case.y != 0):
        if a < b or case.options["directed"]:
            _edge(axis, places[a], places[b], 1, case.options["directed"])
    _nodes(axis, places)
    axis.set_xlabel("y = 1 between neighbours on the tour; theta = -distance")


def points(figure: Figure, case: Case) -> None:
    """Points in the plane, each in the colour of the nearest centre."""
    axis = _plane(figure)
    centres = case.y.T @ case.theta / case.y.sum(0)[:, None] if case.options["assign"] else case.y
    nearest = ((case.theta[:, None] - centres) ** 2).sum(-1).argmin(1)
    colours = [CLUSTERS[i % len(CLUSTERS)] for i in range(len(centres))]
    axis.scatter(case.theta[:, 0], case.theta[:, 1], s=26, c=[colours[i] for i in nearest], alpha=0.55, lw=0)
    axis.scatter(centres[:, 0], centres[:, 1], s=150, c=colours, marker="X", ec="white", lw=1.2)
    axis.set_xlabel("points theta, and as crosses the centres y")


def blocks(figure: Figure, case: Case) -> None:
    """Items as blocks as wide as they are heavy, and what goes into the sack."""
    above, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    weights = np.asarray(case.options["weights"], dtype=float)
    left = np.concatenate([[0], np.cumsum(weights + 0.35)[:-1]])
    above.bar(left, case.theta, weights, align="edge", color=[_colour(v) for v in case.y])
    for x, w, score, v in zip(left, weights, case.theta, case.y, strict=True):
        above.text(x + w / 2, score, f"{_text(score)}", ha="center", va="bottom", fontsize=9, color=INK)
        above.annotate(f"{_text(w)} kg", (x + w / 2, 0), (0, -3), "data", "offset points", ha="center", va="top",
                       fontsize=8, color=_colour(v) if v else "0.5")  # fmt: skip
    _plain(above)
    above.set(ylabel="scores theta", yticks=[], ylim=(0, 1.18 * case.theta.max()))
    above.tick_params(labelbottom=False)
    inside = np.concatenate([[0], np.cumsum(weights[case.y != 0])])
    for x, w in zip(inside, weights[case.y != 0], strict=False):
        below.add_patch(Rectangle((x, 0), w, 1, fc=YES, ec="white", lw=1.5))
    below.add_patch(Rectangle((0, 0), case.options["capacity"], 1, fill=False, ec=INK, lw=1.5))
    below.text(
        case.options["capacity"] + 0.4, 0.5, f"capacity {_text(case.options['capacity'])} kg", va="center", fontsize=9
    )
    below.set(yticks=[], xticks=[], ylim=(-0.1, 1.1), xlabel="y = 1 for the items in blue")
    below.spines[:].set_visible(False)


def program(figure: Figure, case: Case) -> None:
    """Two whole numbers: what the rows allow, which way theta points, and the best point."""
    axis, options = figure.subplots(), case.options
    high = float(np.max(options["upper"]))
    across, up = np.meshgrid(*2 * [np.linspace(-0.4, high + 0.4, 400)])
    A, b = np.asarray(options["A_ub"], dtype=float), np.asarray(options["b_ub"], dtype=float)
    axis.contourf(across, up, _allowed(across, up, A, b, high), [0.5, 1.5], colors=["#e6edf5"])
    x, y = (whole.ravel() for whole in np.meshgrid(*2 * [np.arange(0, high + 1)]))
    inside = _allowed(x, y, A, b, high)
    axis.scatter(x, y, s=22, c=["#7d95ad" if good else "#e3e6ea" for good in inside], lw=0)
    axis.plot(*case.y, "o", ms=10, color=YES)
    step = case.theta / np.linalg.norm(case.theta)
    (left, low), (tip, top) = case.y, case.y + 1.6 * step
    axis.annotate("", (tip, top), (left, low), arrowprops={"arrowstyle": "-|>", "color": MINUS, "lw": 1.8})
    axis.text(tip, top + 0.1, "theta", color=MINUS, fontsize=10)
    axis.text(left + 0.15, low - 0.5, f"y = ({_text(left)}, {_text(low)})", color=YES, fontsize=10)
    axis.set(aspect="equal", xlabel="first entry of y", ylabel="second")
    _plain(axis)


def two_graphs(figure: Figure, case: Case) -> None:
    """Two graphs side by side; a node and its image have one colour, and edges that lie on each other are blue."""
    axis, (n, m) = _plane(figure), case.options["nodes"]
    first, second = case.options["first"], case.options["second"]
    left, right = node_places([[n - 1]]), [(x + 3.2, y) for x, y in node_places([[m - 1]])]
    images, pairs = case.y[: n * m].reshape(n, m), case.y[n * m :].reshape(len(first), len(second))
    for edges, places, on in ((first, left, pairs.max(1)), (second, right, pairs.max(0))):
        for (a, b), chosen in zip(edges, on, strict=True):
            _edge(axis, places[a], places[b], chosen)
    _nodes(axis, [*left, *right])
    for (i, k), colour in zip(np.argwhere(images != 0), CLUSTERS * n, strict=False):
        (x, y), (u, v) = left[i], right[k]
        axis.scatter([x, u], [y, v], s=110, color=colour, zorder=4)
    axis.set_xlabel("y = 1 for nodes of one colour, and for edges on edges, in blue")


def _bars(axis: Axes, values: Array, colours: list[str]) -> None:
    axis.bar(range(values.size), values.reshape(-1), color=colours, width=0.72)
    axis.axhline(0, color=INK, lw=0.7)
    _plain(axis)


def _cells(axis: Axes, values: Array, colours: Any, vmin: float | None = None, vmax: float | None = None) -> None:
    axis.imshow(values, cmap=colours, vmin=vmin, vmax=vmax)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_color("0.75")


def _numbers(axis: Axes, values: Array) -> None:
    if max(values.shape) <= 8:
        for (row, column), value in np.ndenumerate(values):
            axis.text(column, row, _text(value), ha="center", va="center", fontsize=8, color=INK)


def _plane(figure: Figure) -> Axes:
    axis = figure.subplots()
    axis.set(aspect="equal", xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return axis


def _edge(axis: Axes, a: tuple, b: tuple, chosen: float, directed: bool = False, bend: float = 0.0) -> None:
    axis.add_patch(
        FancyArrowPatch(
            a, b, connectionstyle=f"arc3,rad={bend}", arrowstyle="-|>" if directed else "-", mutation_scale=11,
            shrinkA=5, shrinkB=5, lw=2.6 if chosen else 1.0, color=YES if chosen else NO, zorder=2 if chosen else 1,
        )
    )  # fmt: skip


def _label(axis: Axes, a: tuple, b: tuple, score: float, chosen: float, bend: float) -> None:
    (x, y), (u, v) = a, b
    at = (x + u + bend * (v - y)) / 2, (y + v - bend * (u - x)) / 2
    axis.text(
        at[0], at[1], _text(score), ha="center", va="center", fontsize=7.5, color=YES if chosen else "0.5",
        bbox={"fc": "white", "ec": "none", "pad": 0.6}, zorder=4,
    )  # fmt: skip


def _nodes(axis: Axes, places: Places, names: Mapping[str, int] | None = None) -> None:
    axis.scatter([x for x, _ in places], [y for _, y in places], s=42, color=INK, zorder=3)
    x, y = np.mean(places, axis=0)
    for name, node in (names or {}).items():
        outward = np.array([places[node][0] - x, places[node][1] - y])
        across, up = 13 * outward / max(np.linalg.norm(outward), 1e-9)
        axis.annotate(name, places[node], (across, up - 3), "data", "offset points", fontsize=9, color=INK, zorder=5,
                      ha="right" if across < 0 else "left")  # fmt: skip
    axis.margins(0.08)


def _ends(case: Case) -> dict[str, int]:
    """The nodes that have a part of their own."""
    ends = {name: case.options[name] for name in ("source", "target") if name in case.options}
    if "root" in case.options:
        entered = {b for (_, b), chosen in zip(case.options["edges"], case.y, strict=True) if chosen}
        ends["root"] = next(node for edge in case.options["edges"] for node in edge if node not in entered)
    return ends


def _allowed(x: Array, y: Array, A: Array, b: Array, high: float) -> Array:
    inside = (x >= 0) & (y >= 0) & (x <= high) & (y <= high)
    for (p, q), limit in zip(A, b, strict=True):
        inside &= p * x + q * y <= limit + 1e-9
    return inside


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("0.6")
    axis.tick_params(length=0)


def _colour(value: float) -> str:
    return NO if value == 0 else YES if value > 0 else MINUS


def _text(value: float) -> str:
    return f"{value:.2g}"
