"""Tasks: networks with a discrete decision, their losses and metrics."""

from dbp.tasks.dvae import DVAE
from dbp.tasks.factories import OptimizerFactory, SchedulerFactory
from dbp.tasks.slots import Slots
from dbp.tasks.sorting import Sorting
from dbp.tasks.task import Mean, Step, Task
from dbp.tasks.vae import VAE

__all__ = ["DVAE", "VAE", "Mean", "OptimizerFactory", "SchedulerFactory", "Slots", "Sorting", "Step", "Task"]
