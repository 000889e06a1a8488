"""Tasks, data and callbacks that go wrong, for tests of runs."""

import math
import os
import shutil
import signal

import torch
from pytorch_lightning import Callback
from torch.utils.data import Dataset

from dbp.data import SlotsData
from dbp.solvers import OneHot
from dbp.tasks import Slots


class Bad(Slots):
    """Something is not finite in the training step `at`."""

    def __init__(self, *args, at: int = 4, what: str = "loss", **options) -> None:
        super().__init__(*args, **options)
        self.at, self.what = at, what

    def step(self, batch):
        step = super().step(batch)
        if not self.training or self.global_step != self.at:
            return step
        if self.what == "loss":
            return step._replace(losses=step.losses * math.nan)
        if self.what == "gradient":
            return step._replace(losses=step.losses + (next(self.parameters()).flatten()[0] * 0).sqrt())
        self.decide(torch.full((3, 4), math.nan))
        return step


class Vanish(Callback):
    """Removes the folder of its run."""

    def setup(self, trainer, module, stage) -> None:
        shutil.rmtree(trainer.default_root_dir)


class Raises(OneHot):
    """Fails on batches of ten."""

    def solve(self, theta, instance):
        if len(theta) == 10:
            raise ValueError("no decision")
        return super().solve(theta, instance)


class Send(Callback):
    """Sends this process a signal in a training step, or while it validates after that."""

    def __init__(self, step: int, number: int = signal.SIGTERM, validating: bool = False) -> None:
        self.step, self.number, self.validating = step, number, validating

    def on_train_batch_start(self, trainer, *args) -> None:
        if trainer.global_step == self.step and not self.validating:
            os.kill(os.getpid(), self.number)

    def on_validation_batch_start(self, trainer, *args) -> None:
        if trainer.global_step == self.step and self.validating:
            os.kill(os.getpid(), self.number)


class Deadly(Dataset):
    """Kills the process that loads the last example."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index):
        if index == 39 and torch.utils.data.get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL)
        return (torch.rand(4, 1),)


class Cut(Deadly):
    """Fails as a loader does whose process is gone."""

    def __getitem__(self, index):
        raise ConnectionResetError("Connection reset by peer")


class DeadlyData(SlotsData):
    def datasets(self):
        return {**super().datasets(), "train": Deadly()}


class CutData(SlotsData):
    def datasets(self):
        return {**super().datasets(), "train": Cut()}
