"""Metrics by epoch: a line of metrics.csv, and one of the output where there is no progress bar."""

import csv
import logging
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from dbp.files.atomic import replacing

log = logging.getLogger(__name__)
FILE = "metrics.csv"


def read_rows(path: Path) -> dict[int, dict[str, Any]]:
    """The lines of a metrics.csv by epoch; values stay text, so that writing them again changes nothing.

    A file that another program has saved in another format is renamed, with a warning, and the lines start anew.
    """
    if not path.is_file():
        return {}
    try:
        with path.open(newline="") as file:
            rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file, strict=True)]
        return {int(row["epoch"]): row for row in rows if None not in row}
    except (ValueError, KeyError, csv.Error) as error:
        aside = next(p for n in count(1) if not (p := path.with_name(f"{path.stem}_{n}{path.suffix}")).exists())
        path.rename(aside)
        log.warning("%s is not as dbp wrote it (%s): it is now %s; a new file starts", path, _said(error), aside.name)
        return {}


def _said(error: Exception) -> str:
    return f"no column {error}" if isinstance(error, KeyError) else str(error)


def write_rows(path: Path, rows: dict[int, dict[str, Any]]) -> None:
    """Writes the lines in the order of epochs, all columns but epoch and step in alphabetical order."""
    columns = ["epoch", "step", *sorted(set().union(*rows.values()) - {"epoch", "step"})]
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows[epoch] for epoch in sorted(rows))


class CSVLogger(pl.loggers.CSVLogger):
    """metrics.csv: one line an epoch, with every metric of that epoch; complete at any moment.

    A resumed run keeps the lines of the epochs before the one it resumes in, and rewrites the others. Names
    that end in `_step` are values of a step and are left to other loggers.

    Args:
        row: the line of an epoch at the time when the checkpoint in the middle of it was written.
    """

    def __init__(
        self,
        save_dir: str,
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        row: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(save_dir, name=name, version=version)
        self._begun = dict(row or {})
        self._loose: dict[str, Any] = {}  # values without an epoch, for the next line that is written
        self._rows: dict[int, dict[str, Any]] | None = None

    def row(self, epoch: int) -> dict[str, Any]:
        """The line of an epoch as it is now."""
        known = self._rows if self._rows is not None else {self._begun.get("epoch"): self._begun}
        row = known.get(epoch, {})
        return {"epoch": epoch, **row, **self._loose} if row or self._loose else {}

    @property
    def experiment(self) -> Any:
        return self  # Lightning's own writer deletes the file of the run that is resumed

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Adds to the line of `metrics["epoch"]`; values without an epoch (learning rates) to the next one written."""
        values = {name: value for name, value in metrics.items() if not name.endswith("_step") and name != "epoch"}
        if "epoch" not in metrics:
            self._loose |= values
        if not values or "epoch" not in metrics:
            return
        values, self._loose = {**self._loose, **values}, {}
        path, epoch = Path(self.log_dir) / FILE, int(metrics["epoch"])
        if self._rows is None:
            self._rows = {e: row for e, row in read_rows(path).items() if e < epoch}
            if self._begun.get("epoch") == epoch:
                self._rows[epoch] = self._begun
        self._rows[epoch] = {**self._rows.get(epoch, {}), "epoch": epoch, "step": step, **values}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rows(path, self._rows)

    def save(self) -> None:
        """Nothing: the file is complete."""

    def finalize(self, status: str) -> None:
        """Nothing: the file is complete."""


class TensorBoard(pl.loggers.TensorBoardLogger):
    """Lightning's logger without its hparams.yaml, which config.yaml makes redundant."""

    def save(self) -> None:
        """Flushes the file of events, and writes nothing else."""
        self.experiment.flush()


class EpochLines(pl.loggers.Logger):
    """One line an epoch through `logging`, for output that is a file and has no progress bar."""

    name, version = "lines", ""

    def __init__(self) -> None:
        super().__init__()
        self._row: dict[str, Any] = {}

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Collects an epoch's metrics until those of training, which come last."""
        named = {name: value for name, value in metrics.items() if "/" in name and not name.endswith("_step")}
        self._row |= named
        if any(name.startswith("train/") for name in named):
            shown = "  ".join(f"{name} {value:.5g}" for name, value in sorted(self._row.items()))
            log.info("epoch %d  %s", metrics.get("epoch", -1), shown)
            self._row = {}
