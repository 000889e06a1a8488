"""Jobs of a real SLURM that are interrupted end as one that was not: `make test-slurm`."""

import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from cluster import Cluster, Unavailable

ROOT = Path(__file__).parents[2]
BATCH = re.search(r"```bash\n(#!/bin/bash.*?)```", (ROOT / "docs" / "clusters.md").read_text(), re.DOTALL)[1]
INTERRUPTED = {  # options of sbatch
    "requeued": [],
    "preempted": ["--partition=low", "--mem=600M"],
    "out of time": ["--time=2", "--signal=SIGUSR1@75"],
}


class Jobs:
    """The batch file of the documentation, submitted once for each interruption, and once for none."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        (folder / "train.sh").write_text(BATCH)
        (folder / "configs").symlink_to(ROOT / "configs")
        train = ["train.sh", "trainer.max_epochs=4"]
        self.ids = {"whole": self.submit(*train)}
        for name, options in INTERRUPTED.items():
            self.ids[name] = self.submit(*options, *train, "callbacks={'slow:Slow': {}}")

    def submit(self, *arguments: str) -> str:
        return self.cluster.run("sbatch", "--parsable", f"--chdir={self.folder}", "--output=%j.log", *arguments)

    def wait(self, name: str, reached: Callable[[], bool]) -> None:
        self.cluster.wait(f"{name!r} in {self.log(name)}", reached, 300)

    def train(self, name: str) -> None:
        """Waits until a job trains."""
        self.wait(name, (self.folder / f"training_{self.ids[name]}").exists)

    def interrupt(self) -> None:
        """Requeues one job when it trains, submits another that one must make room for, and waits for a time limit."""
        self.train("requeued")
        self.cluster.run("scontrol", "requeue", self.ids["requeued"])
        self.train("preempted")
        self.submit("--partition=high", "--mem=600M", "--wrap", "sleep 1")
        self.wait("out of time", lambda: self.about("out of time", "Restarts") != "0")
        self.cluster.run("scontrol", "update", f"JobId={self.ids['out of time']}", "TimeLimit=30")  # minutes, to end in

    def outcome(self, name: str) -> tuple[dict[str, torch.Tensor], str]:
        """What a job has left when it has ended: its weights and its metrics."""
        self.wait(name, lambda: self.about(name, "JobState") in ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"))
        assert self.about(name, "JobState") == "COMPLETED", self.log(name)
        place = self.folder / "lightning_logs" / f"job_{self.ids[name]}"
        weights = torch.load(place / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        return weights, (place / "metrics.csv").read_text()

    def about(self, name: str, field: str) -> str:
        return re.search(rf"\b{field}=(\S+)", self.cluster.run("scontrol", "show", "job", self.ids[name]))[1]

    def log(self, name: str) -> str:
        path = self.folder / f"{self.ids[name]}.log"
        return path.read_text() if path.exists() else "no output"


@pytest.fixture(scope="module")
def jobs() -> Iterator[Jobs]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            cluster = Cluster(folder)
        except Unavailable as error:
            pytest.exit(f"test-slurm skipped, as Debian's SLURM cannot be had: {error}", returncode=0)
        cluster.environment |= {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), cluster.environment["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
        }
        signal.signal(signal.SIGTERM, lambda *_: pytest.exit("test-slurm was stopped", 1))  # leave no daemon behind
        with cluster:
            jobs = Jobs(cluster, folder)
            jobs.interrupt()
            yield jobs


@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_interrupted_job_goes_on_by_itself_and_ends_as_one_that_was_not(jobs, name):
    weights, history = jobs.outcome(name)
    expected, expected_history = jobs.outcome("whole")
    assert int(jobs.about(name, "Restarts")) >= 1
    assert all(torch.equal(weights[key], expected[key]) for key in expected)
    assert history == expected_history
