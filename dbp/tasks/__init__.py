"""Experiments: networks with a discrete decision, each with one `step`."""

from dbp.tasks.dvae import DVAE
from dbp.tasks.slots import Slots
from dbp.tasks.task import Step, Task

__all__ = ["DVAE", "Slots", "Step", "Task"]
