"""Tasks: networks with a discrete decision, their losses and metrics."""

from dbp import components
from dbp.tasks.factories import OptimizerFactory as OptimizerFactory
from dbp.tasks.factories import SchedulerFactory as SchedulerFactory
from dbp.tasks.task import Mean as Mean
from dbp.tasks.task import Step as Step
from dbp.tasks.task import Task as Task

__getattr__, __dir__, __all__ = components.tasks.lazy("Mean", "OptimizerFactory", "SchedulerFactory", "Step", "Task")
