"""The picture of an audit."""

from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from dbp.audit.measure import Row

_FLOOR = 1e-3  # of the bias that is shown


def draw(rows: Sequence[Row], title: str) -> Figure:
    """A panel for each loss, on common axes."""
    losses = list(dict.fromkeys(row.loss for row in rows))
    names = list(dict.fromkeys(row.estimator for row in rows))
    colours = {name: colormaps["tab20"](2 * i % 20 + (i // 10) % 2) for i, name in enumerate(names)}
    figure = Figure(figsize=(5.2 * max(len(losses), 1), 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, max(len(losses), 1), sharex=True, sharey=True, squeeze=False)[0]
    for axis, loss in zip(panels, losses, strict=False):
        _panel(axis, loss, [row for row in rows if row.loss == loss], colours)
    panels[0].set_ylabel("bias, relative to the exact gradient")
    if title:
        figure.suptitle(title, fontsize=12)
    figure.canvas.draw()  # where the points are, the labels need to know
    for axis, loss in zip(panels, losses, strict=False):
        _label(axis, [row for row in rows if row.loss == loss])
    return figure


def _panel(axis: Axes, loss: str, rows: Sequence[Row], colours: dict) -> None:
    for row in rows:
        seen = row.z >= 4
        colour = colours[row.estimator]
        axis.plot(*_place(row), "o", ms=7, mec=colour, mfc=colour if seen else "white", mew=1.6, zorder=3)
    axis.set_xscale("symlog", linthresh=0.1, linscale=0.4)
    axis.set_yscale("log")
    axis.margins(0.12, 0.12)
    axis.set_title(f"{loss} loss", fontsize=11)
    axis.set_xlabel("standard deviation of a draw, relative")
    axis.grid(True, which="major", color="0.9", lw=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.annotate("hollow: no bias seen, standard error shown", (0, 0), (4, 4), "axes fraction", "offset points",
                  fontsize=7, color="0.45")  # fmt: skip


def _place(row: Row) -> tuple[float, float]:
    return row.std, max(row.bias if row.z >= 4 else row.bias_error, _FLOOR)


def _label(axis: Axes, rows: Sequence[Row]) -> None:
    """Writes each name where it covers nothing that is there already, as near to its point as that goes."""
    points = [tuple(axis.transData.transform(_place(row))) for row in rows]
    taken = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in points]
    for row, point in zip(rows, points, strict=True):
        line = {"arrowstyle": "-", "color": "0.7", "lw": 0.6, "shrinkA": 1, "shrinkB": 4}
        note = axis.annotate(
            row.estimator, _place(row), (0, 0), "data", "offset points", fontsize=8, va="center", arrowprops=line
        )
        text = Text.get_window_extent(note)
        boxes = [_box(point, place, text, axis.figure.dpi / 72) for place in _PLACES]
        costs = [_cost(box, taken, point, axis.get_window_extent()) for box in boxes]
        best = costs.index(min(costs))
        taken.append(boxes[best])
        dx, dy, anchor = _PLACES[best]
        note.set(position=(dx, dy), horizontalalignment=_ANCHORS[anchor])
        assert note.arrow_patch is not None
        note.arrow_patch.set_visible(abs(dx) + abs(dy) > 20)


_ANCHORS = {0.0: "left", 0.5: "center", 1.0: "right"}
_PLACES = [  # offsets in points, and which part of the text is put there
    (distance * dx, distance * dy, anchor)
    for distance in (7, 12, 18, 26, 36, 48, 62)
    for dx, dy, anchor in (
        *((1, dy, 0.0) for dy in (0, 0.5, -0.5)),
        *((-1, dy, 1.0) for dy in (0, 0.5, -0.5)),
        *((0, dy, 0.5) for dy in (1.3, -1.3)),
        *((dx, dy, anchor) for dx, anchor in ((0.5, 0.0), (-0.5, 1.0)) for dy in (1.2, -1.2)),
    )
]


def _box(point: tuple[float, ...], place: tuple[float, float, float], text: Bbox, pixels: float) -> Bbox:
    """The box of a text, in pixels."""
    dx, dy, anchor = place
    x, y = point[0] + dx * pixels, point[1] + dy * pixels
    return Bbox.from_bounds(x - anchor * text.width, y - text.height / 2, text.width, text.height)


def _cost(box: Bbox, taken: Sequence[Bbox], point: tuple[float, ...], inside: Bbox) -> float:
    covered = sum(_overlap(box, other) for other in taken)
    outside = sum(max(0.0, d) for d in (box.x1 - inside.x1, inside.x0 - box.x0, box.y1 - inside.y1))
    outside += max(0.0, inside.y0 + 18 - box.y0)  # the legend's line
    nearest = min(max(point[0], box.x0), box.x1), min(max(point[1], box.y0), box.y1)
    return 10 * covered + 1000 * outside + abs(nearest[0] - point[0]) + abs(nearest[1] - point[1])


def _overlap(a: Bbox, b: Bbox) -> float:
    shared = Bbox.intersection(a, b)
    return 0.0 if shared is None else shared.width * shared.height
