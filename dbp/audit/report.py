"""Reports of an audit: text, CSV, a picture."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from dbp.audit.measure import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEADER = ("estimator", "noise", "bias", "± error", "z", "std", "cosine", "calls", "us/draw")
_LEGEND = "bias and std are relative to the length of the exact gradient; z under 4: no bias has been seen"


def table(rows: Sequence[Row]) -> str:
    """A block of lines for each loss, and who is left out."""
    shown = [row for row in rows if not row.note]
    widths = [max(map(len, column)) for column in zip(_HEADER, *map(_cells, shown), strict=True)]
    blocks = [
        "\n".join(
            [f"{loss} loss", _line(_HEADER, widths), *(_line(_cells(r), widths) for r in shown if r.loss == loss)]
        )
        for loss in dict.fromkeys(row.loss for row in shown)
    ]
    notes: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.note:
            notes.setdefault(row.note, {})[_left_out(row, rows)] = None
    left_out = ["\n".join(["left out", *(f"  {', '.join(who)}: {note}" for note, who in notes.items())])]
    return "\n\n".join([*blocks, *([_LEGEND] if blocks else []), *(left_out if notes else [])])


def _left_out(row: Row, rows: Sequence[Row]) -> str:
    """Who is left out, and of which losses, if not of all."""
    own = [other for other in rows if other.estimator == row.estimator]
    losses = [other.loss for other in own if other.note == row.note]
    return row.estimator if len(losses) == len(own) else f"{row.estimator} ({', '.join(losses)})"


def _cells(row: Row) -> tuple[str, ...]:
    z = f"{row.z:.1f}" if row.z < 100 else ">99"
    numbers = (f"{row.bias:.3f}", f"± {row.bias_error:.3f}", z, f"{row.std:.2f}", f"{row.cosine:.3f}")
    return row.estimator, row.noise, *numbers, f"{row.calls:.3g}", f"{row.seconds * 1e6:.2f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    texts = (f"{c:<{w}}" if i < 2 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
    return "  " + "  ".join(texts)


def write_csv(rows: Sequence[Row], path: str | Path) -> None:
    """One line a row, every field in full precision."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(map(asdict, rows))


def figure(rows: Sequence[Row], title: str = "") -> "Figure":
    """Bias against standard deviation, a panel for each loss, a labelled point for each estimator.

    Hollow points are those whose bias was not seen: they stand at its standard error, which bounds it.
    """
    from dbp.audit.picture import draw

    return draw([row for row in rows if not row.note], title)
