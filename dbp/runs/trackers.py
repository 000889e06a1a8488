"""Experiment trackers of others, each an optional package: a run there has the name of the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only


class WandB(pl.loggers.WandbLogger):
    """Weights & Biases: metrics, hyperparameters and pictures. Its files lie in the run's folder."""

    def __init__(self, save_dir: str, name: str, version: str, **options: Any) -> None:
        super().__init__(**{"name": version, "save_dir": str(Path(save_dir, version)), **options})


class MLFlow(pl.loggers.MLFlowLogger):
    """MLflow: metrics and hyperparameters; by default in `mlruns` beside the folders of runs."""

    def __init__(self, save_dir: str, version: str, **options: Any) -> None:
        super().__init__(**{"run_name": version, "save_dir": str(Path(save_dir, "mlruns")), **options})


class Trackio(pl.loggers.Logger):
    """Trackio: metrics and hyperparameters.

    Args:
        project: the project that the run belongs to.
        space_id: a Hugging Face Space to send them to; null keeps them on this machine.
    """

    def __init__(self, version: str, project: str = "dbp", space_id: str | None = None) -> None:
        super().__init__()
        self._version, self._project, self._space = version, project, space_id
        self._run: Any = None

    @property
    def name(self) -> str:
        return self._project

    @property
    def version(self) -> str:
        return self._version

    @property
    def experiment(self) -> Any:
        """The run, begun when it is first needed."""
        import trackio

        if self._run is None:
            self._run = trackio.init(
                project=self._project, name=self._version, space_id=self._space, resume="allow", embed=False
            )
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Makes them the configuration of the run."""
        self.experiment.config.update(dict(params))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Sends the metrics of a step."""
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Ends the run, so that what waits to be sent is sent."""
        if self._run is not None:
            self._run.finish()
