"""Kills runs at random moments and compares what becomes of them with runs that were left alone.

    python tests/torture.py --kills 200

A kill is SIGKILL, while a run trains, validates or writes a checkpoint; half of the runs are one process, half are two
(DDP, gloo), of which one or both are killed. Then the same command line goes on, sometimes to be killed again. What is
compared are the weights, the state of the optimizer and the lines of metrics.csv, bit for bit. The processes are forked
from one that has imported everything, which makes a run of a second out of one of five.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import RawArray
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import dbp.runs.run  # noqa: F401 (before forking)
from dbp.cli import main as command_line
from dbp.data import Digits
from dbp.runs.checkpoints import fault_in
from dbp.tasks import DVAE

STAGES = ("training", "validation", "writing")
VISITS = RawArray("i", 2 * len(STAGES))  # how often each process came to each stage; shared with those that are forked
HELD_OUT = 30.0  # seconds that a process may outlive another one of its run


class Where(pl.Callback):
    """Says which stage a run is in."""

    def _enter(self, trainer: pl.Trainer, stage: int) -> None:
        VISITS[trainer.global_rank * len(STAGES) + stage] += 1

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self._enter(trainer, 0)

    def on_validation_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self._enter(trainer, 1)

    def on_save_checkpoint(self, trainer: pl.Trainer, *args: Any) -> None:
        self._enter(trainer, 2)


class Noisy(Dataset):
    """Some digits, each drawn anew with noise."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return (self.images[index] + 0.1 * torch.randn(8, 8)).clamp(0, 1)


class NoisyDigits(Digits):
    """A few digits with random augmentation."""

    def __init__(self, train: int = 70, batch_size: int = 5, workers: int = 0, seed: int = 0) -> None:
        super().__init__(batch_size, workers, seed)
        self.train = train

    def datasets(self) -> dict[str, Dataset]:
        few = {"train": self.train, "val": 30, "test": 10}
        return {name: Noisy(split.batch(list(range(few[name])))[0]) for name, split in super().datasets().items()}


class Shaken(DVAE):
    """With dropout, and batch norm, whose moving averages are state."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        first, *others = self.encoder
        self.encoder = nn.Sequential(first, nn.BatchNorm1d(16), nn.Dropout(0.2), *others)


COMMON = [
    "task={name: 'torture:Shaken', shape: [8, 8], rows: 3, columns: 4, hidden: [16]}",
    "data={name: 'torture:NoisyDigits', batch_size: 5}",
    "callbacks={'torture:Where': {}, pictures: null, last: {every_n_train_steps: 3}}",
    "loggers={tensorboard: null}",
    "trainer={max_epochs: 3, accelerator: cpu, num_sanity_val_steps: 0}",
    "ckpt_path=last",
]
NETWORK = "network: {name: mlp, sizes: [4, 4, 1]}"
RUNS = {
    "adaptive": ["solver={name: top_k, k: 2}", "estimator={name: adaptive_imle, rate: 0.1}", "data.workers=2"],
    "bridge": [
        "solver={name: top_k, k: 2}",
        "estimator={name: dab, bridge: {name: mlp, sizes: [4, 8, 4], dropout: 0.1}, noise: normal}",
        "scheduler={name: one_cycle, max_lr: 0.01}",
        "trainer.val_check_interval=4",
    ],
    "accumulated": [
        "solver=one_hot",
        "estimator={name: score, baseline: average, noise: gumbel}",
        "scheduler={name: cosine, T_max: 3}",
        "trainer.accumulate_grad_batches=3",
    ],
    "control": [
        "solver=one_hot",
        f"estimator={{name: relax, {NETWORK}}}",
        "optimizer={name: sgd, lr: 1.0e-5, momentum: 0.9}",
    ],
}


def start(folder: Path, arguments: list[str], processes: int) -> list[int]:
    """Forks the processes of a run; each writes what it says to a file of its own."""
    VISITS[:] = [0] * len(VISITS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = []
    for rank in range(processes):
        pid = os.fork()
        if not pid:
            os.setpgid(0, 0)
            if processes > 1:
                names = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "MASTER_PORT": port}
                names |= {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "TORCHELASTIC_RUN_ID": 1}
                names |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
                os.environ |= {name: str(value) for name, value in names.items()}
            _exit_as(folder, arguments, rank)
        found.append(pid)
    return found


def _exit_as(folder: Path, arguments: list[str], rank: int) -> None:
    code = 1
    try:
        log = os.open(folder / f"output{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(folder)
        torch.set_num_threads(1)
        code = command_line(["fit", *arguments])
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pids: list[int], seconds: float, until: Any = lambda: False) -> dict[int, int]:
    """The exit statuses of the processes that ended in time."""
    ended: dict[int, int] = {}
    deadline = time.monotonic() + seconds
    while len(ended) < len(pids) and time.monotonic() < deadline and not until():
        for pid in set(pids) - set(ended):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                ended[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    return ended


def kill(pid: int) -> None:
    """With the workers of its data, which are in its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def outcome(folder: Path) -> dict[str, str]:
    """What a run left: the lines of its metrics.csv, and a digest of each part of the state in its checkpoints."""
    place = folder / "lightning_logs" / "r"
    found = {f"metrics.csv:{i}": line for i, line in enumerate((place / "metrics.csv").read_text().splitlines())}
    for path in sorted((place / "checkpoints").glob("*.ckpt")):
        state = torch.load(path, weights_only=True)
        for name in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
            digest = hashlib.sha256()
            _add(digest, state[name])
            found[f"{path.name}:{name}"] = digest.hexdigest()
    return found


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(value.contiguous().view(torch.uint8).numpy().tobytes() if value.ndim else repr(value).encode())
    elif isinstance(value, dict | list | tuple):
        for part in value.items() if isinstance(value, dict) else value:
            _add(digest, part)
    else:
        digest.update(repr(value).encode())


class Torture:
    """Runs with their undisturbed outcomes, and what was counted."""

    def __init__(self, root: Path, seed: int, kinds: list[tuple[str, int]]) -> None:
        self.root, self.random, self.kinds = root, random.Random(seed), kinds
        self.counts: Counter[str] = Counter()
        self.slowest, self.faults = 0.0, list[str]()
        self.wanted: dict[tuple[str, int], dict[str, str]] = {}
        self.visits: dict[tuple[str, int], list[int]] = {}
        for kind in kinds:
            folder = self._folder()
            statuses = wait(start(folder, self._arguments(kind), kind[1]), 120)
            if set(statuses.values()) != {0} or len(statuses) < kind[1]:
                raise SystemExit(f"{kind}: {statuses}\n" + (folder / "output0").read_text())
            self.wanted[kind], self.visits[kind] = outcome(folder), list(VISITS)

    def _folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.root))

    def _arguments(self, kind: tuple[str, int]) -> list[str]:
        name, processes = kind
        many = ["trainer.strategy=ddp", f"trainer.devices={processes}"] if processes > 1 else []
        return [*COMMON, *RUNS[name], *many, "run=r"]

    def trial(self, most: int) -> None:
        """Kills a run once, or more often, and lets it end."""
        kind, folder, killed, visit = self.random.choice(self.kinds), self._folder(), 0, 0
        arguments, history = self._arguments(kind), list[str]()
        while killed == 0 or (killed < most and self.random.random() < 0.3):
            pids = start(folder, arguments, kind[1])
            stage = self.random.randrange(len(STAGES))
            victims = pids if self.random.random() < 0.5 else [self.random.choice(pids)]
            place = pids.index(victims[0]) * len(STAGES) + stage
            visit = self.random.randint(1, max(1, self.visits[kind][place] - visit))  # fewer are left after a kill
            ended = wait(pids, 120, until=lambda place=place, visit=visit: VISITS[place] >= visit)
            if not ended:
                ended = wait(pids, self.random.uniform(0, 0.004))
            alive = [pid for pid in victims if pid not in ended]
            for pid in alive:
                kill(pid)
            if alive:
                killed += 1
                history.append(f"{STAGES[stage]} {visit} of {[pids.index(pid) for pid in alive]}")
                self.counts[f"{STAGES[stage]}, {kind[1]} process(es)"] += 1
            self._outlived([pid for pid in pids if pid not in ended], kind, folder)
            self._look_for_corruption(folder)
            if not alive:
                break
        statuses = wait(pids := start(folder, arguments, kind[1]), 120)
        self.counts["killed"] += killed
        if set(statuses.values()) == {0} and len(statuses) == kind[1]:
            self.counts["resumed"] += killed
            found, wanted = outcome(folder), self.wanted[kind]
            differing = [
                f"{name}: {found.get(name)}, not {wanted.get(name)}"
                for name in sorted(found | wanted)
                if found.get(name) != wanted.get(name)
            ]
            self.counts["bit-identical"] += killed * (not differing)
            if differing:
                self.faults.append("\n  ".join([f"{kind}, killed in {history}: {folder} differs", *differing]))
        else:
            for pid in set(pids) - set(statuses):
                kill(pid)
            self.faults.append(f"{kind}: {statuses} {(folder / 'output0').read_text()[-2000:]}")

    def _outlived(self, pids: list[int], kind: tuple[str, int], folder: Path) -> None:
        began = time.monotonic()
        ended = wait(pids, HELD_OUT)
        self.slowest = max(self.slowest, time.monotonic() - began)
        for pid in pids:
            kill(pid)
            if pid not in ended:
                os.waitpid(pid, 0)
                self.faults.append(f"{kind}: a process outlived the other by {HELD_OUT:g} s in {folder}")

    def _look_for_corruption(self, folder: Path) -> None:
        for path in folder.glob("lightning_logs/r/checkpoints/*.ckpt"):
            if fault := fault_in(path):
                self.counts["corrupt"] += 1
                self.faults.append(f"{path}: {fault}")


def failure(folder: Path) -> str | None:
    """What is wrong with how two processes end, the second of which cannot go on: its last batch is one example."""
    arguments = [*COMMON, *RUNS["control"], "trainer.strategy=ddp", "trainer.devices=2", "data.train=63", "run=r"]
    pids = start(folder, arguments, 2)
    wait(pids, 120, until=lambda: VISITS[0] == 7)  # the last batch of the first epoch
    statuses = wait(pids, HELD_OUT)
    for pid in set(pids) - set(statuses):
        kill(pid)
    lines = [(folder / f"output{rank}").read_text().splitlines() for rank in range(2)]
    said = [[line for line in found if line.startswith(("dbp: error: ", "Traceback"))] for found in lines]
    print(f"a batch of one example: exit codes {list(statuses.values())}, {said[0] + said[1]}")
    if list(statuses.values()) != [2, 2] or len(said[1]) != 1 or said[0] or "a batch of one example" not in said[1][0]:
        return "more than one message, or none, or a process that did not end"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", nargs="*", default=list(RUNS))
    parser.add_argument("--processes", nargs="*", type=int, default=[1, 2])
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture") as root:
        if 2 in given.processes and (fault := failure(Path(tempfile.mkdtemp(dir=root)))):
            raise SystemExit(fault)
        torture = Torture(Path(root), given.seed, [(name, n) for name in given.runs for n in given.processes])
        while torture.counts["killed"] < given.kills:
            torture.trial(most=given.kills - torture.counts["killed"])
        count = torture.counts
        for fault in torture.faults:
            print(fault)
        stages = {name: n for name, n in sorted(count.items()) if "," in name}
        print(json.dumps(stages))
        print(f"{time.monotonic() - began:.0f} s; a process outlived a killed one by at most {torture.slowest:.1f} s")
        words = ("killed", "resumed", "bit-identical", "corrupt")
        print(", ".join(f"{count[word]} {word}" for word in words))
        return 0 if count["killed"] == count["bit-identical"] and not torture.faults else 1


if __name__ == "__main__":
    import torture  # the module that runs name in their configurations

    sys.exit(torture.main())
