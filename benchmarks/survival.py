"""What it costs that a run survives: CPU time of a step with and without it, and memory over a hundred epochs.

    python -m benchmarks.survival

The run is the demo. With it: randomness keyed by step, the look at loss and gradients, the answer to signals, and what
a resumed run is compared with. Both are interleaved in one process, a round of each at a time; the ratio is the median
over the rounds.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback

from dbp import faults, run
from dbp.config import compose, validate

DEMO = Path(__file__).parents[1] / "configs" / "dvae" / "digits.yaml"
QUIET = ["trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"]
BARE = ["callbacks={best: null, last: null, pictures: null}", "loggers={csv: null, tensorboard: null}"]


class Clock(Callback):
    """CPU seconds of training."""

    def on_train_start(self, *args: Any) -> None:
        self.seconds = -time.process_time()

    def on_train_end(self, *args: Any) -> None:
        self.seconds += time.process_time()


class Memory(Callback):
    """Resident bytes after each epoch."""

    def __init__(self) -> None:
        self.resident = list[int]()

    def on_validation_end(self, *args: Any) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.resident.append(pages * os.sysconf("SC_PAGE_SIZE"))


def seconds(folder: Path, survives: bool) -> float:
    """CPU seconds of ten epochs without validation, checkpoints and logs."""
    config = validate(compose([str(DEMO)], [*QUIET, *BARE, "trainer.max_epochs=10", "trainer.limit_val_batches=0"]))
    clock = Clock()
    with faults.quietly():
        task, data = run.build_task(config), run._data(config)
        trainer: Any = run._trainer(config, folder, more=[clock])
        trainer.callbacks = trainer.callbacks if survives else [clock]
        trainer.fit(task, datamodule=data)
    return clock.seconds


def growth(folder: Path) -> float:
    """Megabytes by which a hundred epochs of the demo are larger than its first."""
    config = validate(compose([str(DEMO)], [*QUIET, "trainer.max_epochs=100", "trainer.num_sanity_val_steps=0"]))
    memory = Memory()
    with faults.quietly():
        task, data = run.build_task(config), run._data(config)
        run._trainer(config, folder, more=[memory]).fit(task, datamodule=data)
    return (memory.resident[-1] - memory.resident[0]) / 2**20


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "lightning_logs" / "r"
        folder.mkdir(parents=True)
        seconds(folder, True)
        rounds = [(seconds(folder, False), seconds(folder, True)) for _ in range(9)]
        ratio = statistics.median(with_it / bare for bare, with_it in rounds)
        print(f"a step takes {ratio:.3f} times as long as without it")
        print(f"100 epochs are {growth(folder):.1f} MB larger than one")


if __name__ == "__main__":
    main()
