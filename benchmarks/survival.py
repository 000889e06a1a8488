"""What it costs that a run survives, and is monitored: CPU time of steps, and memory over a hundred epochs.

    python -m benchmarks.survival

The run is the demo. With it: randomness keyed by step, the look at loss and gradients, the answer to signals, and what
a resumed run is compared with. Both are interleaved in one process, a round of each at a time; the ratio is the median
over the rounds. What the monitor takes is too little for that: its CPU seconds are set against the others of the run.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback

from dbp.config import compose, validate
from dbp.runs import messages, run
from dbp.runs.monitor import Monitor

CONFIGS = Path(__file__).parents[1] / "configs"
DEMO = CONFIGS / "dvae" / "digits.yaml"
QUIET = ["trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"]
ALONE = ["callbacks={best: null, last: null, pictures: null}"]
BARE = [*ALONE, "loggers={csv: null, tensorboard: null}"]


class Clock(Callback):
    """CPU seconds of training."""

    def on_train_start(self, *args: Any) -> None:
        self.seconds = -time.process_time()

    def on_train_end(self, *args: Any) -> None:
        self.seconds += time.process_time()


class TimedMonitor(Monitor):
    """The monitor as it is by default, and its CPU seconds, but for those of the hook on the gradient."""

    seconds = 0.0


def timed(method: Callable[..., Any]) -> Callable[..., Any]:
    def run(self: TimedMonitor, *args: Any) -> Any:
        start = time.process_time()
        found = method(self, *args)
        self.seconds += time.process_time() - start
        return found

    return run


for hook in ("on_train_batch_start", "_watch", "on_train_batch_end", "on_train_epoch_end"):
    setattr(TimedMonitor, hook, timed(getattr(Monitor, hook)))


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
    with messages.quietly():
        task, data = run.build_task(config), run._data(config)
        trainer: Any = run._trainer(config, folder, more=[clock])
        trainer.callbacks = trainer.callbacks if survives else [clock]
        trainer.fit(task, datamodule=data)
    return clock.seconds


def monitored(folder: Path, file: Path, epochs: int) -> float:
    """How many times as long training takes with the monitor, to the loggers that are there by default."""
    words = [*QUIET, *ALONE, f"trainer.max_epochs={epochs}", "trainer.limit_val_batches=0"]
    config = validate(compose([str(file)], words))
    clock, monitor = Clock(), TimedMonitor()
    with messages.quietly():
        task, data = run.build_task(config), run._data(config)
        run._trainer(config, folder, more=[clock, monitor]).fit(task, datamodule=data)
    return clock.seconds / (clock.seconds - monitor.seconds)


def growth(folder: Path) -> float:
    """Megabytes by which a hundred epochs of the demo are larger than its first."""
    config = validate(compose([str(DEMO)], [*QUIET, "trainer.max_epochs=100", "trainer.num_sanity_val_steps=0"]))
    memory = Memory()
    with messages.quietly():
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
        print(f"a step takes {ratio:.3f} times as long as without it", flush=True)
        print(f"with the monitor, {monitored(folder, DEMO, 20):.3f} times in the demo", flush=True)
        print(f"and {monitored(folder, CONFIGS / 'slots' / 'gumbel.yaml', 20):.3f} times in configs/slots", flush=True)
        print(f"100 epochs are {growth(folder):.1f} MB larger than one")


if __name__ == "__main__":
    main()
