"""Learning-rate schedules that torch lacks, or that need the length of the run."""

from itertools import pairwise
from typing import Any, ClassVar

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, SequentialLR

from dbp.errors import UserError
from dbp.tasks.factories import SchedulerFactory


class OneCycle(OneCycleLR):
    """The learning rate rises to `max_lr` and falls to almost zero, once in the run; by default stepped every step.

    Source: Smith, Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2018.

    Args:
        max_lr: the greatest learning rate, of all parameters or of each group.
        total_steps: length of the cycle; null for the length of the run.
        options: of torch's OneCycleLR.
    """

    interval: ClassVar = "step"
    needs_length: ClassVar = True
    alone: ClassVar = True  # it writes into the optimizer where the others of a sequence begin

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        *,
        length: int | None = None,
        **options: Any,
    ) -> None:
        self.follows_run = total_steps is None and "epochs" not in options
        if self.follows_run and length is None:
            raise UserError("scheduler: one_cycle needs the length of the run: give trainer.max_epochs or max_steps")
        super().__init__(optimizer, max_lr, length if self.follows_run else total_steps, **options)
        if length is not None and self.total_steps < length:
            raise UserError(
                f"scheduler: one_cycle ends after {self.total_steps} steps and the run has {length}: leave "
                "total_steps out, or give a longer cycle or interval: epoch"
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the position; a cycle that is as long as the run follows the run's present length."""
        own = ("total_steps", "_schedule_phases", "follows_run") if self.follows_run else ()
        super().load_state_dict({key: value for key, value in state_dict.items() if key not in own})


class Warmup(LinearLR):
    """The learning rate rises linearly from `lr / steps` to `lr`, then stays there; by default stepped every step.

    Args:
        steps: length of the warm-up.
    """

    interval: ClassVar = "step"

    def __init__(self, optimizer: Optimizer, steps: int, last_epoch: int = -1) -> None:
        if steps < 1:
            raise UserError(f"scheduler: warmup: steps={steps} must be at least 1")
        super().__init__(optimizer, 1 / steps, 1.0, steps - 1, last_epoch)


class Plateau(ReduceLROnPlateau):
    """Lowers the learning rate when a metric has stopped improving; stepped after every epoch.

    Args:
        options: of torch's ReduceLROnPlateau.
    """

    monitor: ClassVar = "val/loss"
    alone: ClassVar = True

    def __init__(self, optimizer: Optimizer, **options: Any) -> None:
        super().__init__(optimizer, **options)


class Sequential(SequentialLR):
    """Schedules one after another, all stepped in the interval of the sequence (by default an epoch).

    Args:
        schedulers: the schedules in order, each a name or a mapping.
        milestones: the beginning of each schedule but the first.
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1
    ) -> None:
        makers: list[SchedulerFactory] = list(schedulers)  # type: ignore[arg-type]
        if any(maker.interval or maker.monitor or maker.frequency > 1 for maker in makers):
            raise UserError("scheduler: interval and frequency are of the sequence, not of a schedule in it")
        if any(getattr(maker.cls, "alone", False) for maker in makers):
            raise UserError("scheduler: one_cycle and plateau cannot be part of a sequence")
        if len(milestones) != len(makers) - 1 or any(a >= b for a, b in pairwise([0, *milestones])):
            raise UserError(
                f"scheduler: a sequence of {len(makers)} schedules has {len(makers) - 1} milestones, each later than "
                f"the one before, not {milestones}"
            )
        super().__init__(optimizer, [maker(optimizer) for maker in makers], milestones, last_epoch)
