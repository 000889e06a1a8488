"""Factories: optimizers with groups of parameters, and learning-rate schedules with their interval."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal

from pytorch_lightning import Trainer
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dbp.errors import UserError
from dbp.registry import did_you_mean


class OptimizerFactory:
    """Makes an optimizer, with options of their own for groups of parameters.

    Args:
        cls: makes the optimizer of parameters: a class of torch.optim, or any such function.
        groups: maps prefixes of parameter names, such as `encoder` or `encoder.0`, to options of these parameters; the
            longest prefix wins.
        options: handed to `cls`.
    """

    def __init__(
        self,
        cls: Callable[..., Optimizer],
        *,
        groups: dict[str, dict[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        self.cls, self.options = _unwrapped(cls, options)
        self.groups = dict(groups or {})

    def described_by(self) -> tuple[Any, dict[str, Any]]:
        """The class, and all options that this factory was given."""
        return self.cls, {**self.options, **({"groups": self.groups} if self.groups else {})}

    def __call__(self, parameters: Iterable[Any], **options: Any) -> Optimizer:
        return self.cls(parameters, **{**self.options, **options})

    def configure(self, module: nn.Module, lr: float | None = None) -> Optimizer:
        """The optimizer of a module's parameters; `lr` replaces the learning rate of those in no group with its own.

        Raises:
            UserError: a group has no parameters, or an option unknown to the optimizer.
        """
        more = {} if lr is None else {"lr": lr}
        if not self.groups:
            return self(module.parameters(), **more)
        optimizer = self(self._grouped(module), **more)
        for prefix, options in self.groups.items():
            for option in options.keys() - optimizer.defaults.keys():
                raise UserError(
                    f"optimizer.groups.{prefix}: {type(optimizer).__name__} has no option {option!r}."
                    f"{did_you_mean(option, optimizer.defaults)}"
                )
        return optimizer

    def _grouped(self, module: nn.Module) -> list[dict[str, Any]]:
        members: dict[str, list[nn.Parameter]] = {prefix: [] for prefix in ["", *self.groups]}
        for name, parameter in module.named_parameters():
            prefixes = [prefix for prefix in self.groups if name.startswith(f"{prefix}.") or name == prefix]
            members[max(prefixes, key=len, default="")].append(parameter)
        for prefix in self.groups:
            if not members[prefix]:
                raise UserError(_unknown(prefix, [name for name, _ in module.named_parameters()]))
        return [{"params": found, **self.groups.get(prefix, {})} for prefix, found in members.items() if found]


def _unknown(prefix: str, names: list[str]) -> str:
    first = list(dict.fromkeys(name.partition(".")[0] for name in names))
    return (
        f"optimizer.groups: no parameters of their own begin with {prefix!r}.{did_you_mean(prefix, [*first, *names])}\n"
        f"  names begin with: {', '.join(first)}"
    )


class SchedulerFactory:
    """Makes a learning-rate schedule, and declares when it is stepped.

    Args:
        cls: makes the scheduler of an optimizer: a class of torch.optim.lr_scheduler, or any such function. It may
            declare an `interval`, a `monitor`, and `needs_length`: the number of steps in the run, None if endless.
        interval: `step` (of the optimizer) or `epoch`; null for the interval that `cls` declares, else an epoch.
        frequency: the schedule is stepped once in so many intervals.
        monitor: the metric that `plateau` watches; without validation, the one of training.
        options: handed to `cls`.
    """

    def __init__(
        self,
        cls: Callable[..., LRScheduler],
        *,
        interval: Literal["step", "epoch"] | None = None,
        frequency: int = 1,
        monitor: str | None = None,
        **options: Any,
    ) -> None:
        self.cls, self.options = _unwrapped(cls, options)
        self.interval, self.frequency, self.monitor = interval, frequency, monitor
        watches = getattr(self.cls, "monitor", None)
        if frequency < 1:
            raise UserError(f"scheduler: frequency={frequency} must be at least 1")
        if monitor and not watches:
            raise UserError("scheduler.monitor: only plateau watches a metric")
        if watches and interval == "step":
            raise UserError("scheduler.interval: plateau watches a metric of an epoch, and is stepped after it")

    def described_by(self) -> tuple[Any, dict[str, Any]]:
        """The class, and all options that this factory was given."""
        when = {"interval": self.interval, "frequency": self.frequency, "monitor": self.monitor}
        return self.cls, {**self.options, **{key: value for key, value in when.items() if value not in (None, 1)}}

    def __call__(self, optimizer: Optimizer, length: int | None = None) -> LRScheduler:
        """The scheduler, for a run in which it is stepped `length` times.

        Raises:
            UserError: the class refuses its options.
        """
        known = {"length": length} if getattr(self.cls, "needs_length", False) else {}
        try:
            return self.cls(optimizer, **self.options, **known)
        except UserError:
            raise
        except (TypeError, ValueError) as error:
            raise UserError(f"scheduler: {error}") from error

    def configure(self, optimizer: Optimizer, trainer: Trainer) -> Any:
        """The scheduler as Lightning takes it from `configure_optimizers`."""
        interval = self.interval or getattr(self.cls, "interval", "epoch")
        needs = getattr(self.cls, "needs_length", False)
        steps = _length(trainer, str(interval)) if needs else math.inf
        scheduler = self(optimizer, math.ceil(steps / self.frequency) if math.isfinite(steps) else None)
        monitor = self.monitor or getattr(self.cls, "monitor", None)
        if monitor and not trainer.enable_validation:
            monitor = monitor.replace("val/", "train/")
        found = {"scheduler": scheduler, "interval": interval, "frequency": self.frequency, "monitor": monitor}
        return found | {"strict": False}  # `step_watching` says if the metric is missing


def _unwrapped(cls: Any, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """`partial(Adam, lr=...)` is the class with the option."""
    wraps = isinstance(cls, partial) and not cls.args
    return (cls.func, {**cls.keywords, **options}) if wraps else (cls, dict(options))


def step_watching(trainer: Trainer) -> None:
    """Steps the schedules that watch a metric.

    Called at the end of an epoch before its checkpoint. Lightning steps them after it, and a resumed run loses a step.

    Raises:
        UserError: there is no such metric.
    """
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau and (trainer.current_epoch + 1) % config.frequency == 0:
            metrics, name = trainer.callback_metrics, config.monitor or ""
            if name not in metrics:
                raise UserError(
                    f"scheduler.monitor: there is no metric {name!r}.{did_you_mean(name, metrics)}\n"
                    f"  metrics: {', '.join(sorted(metrics))}"
                )
            config.scheduler.step(metrics[name])  # type: ignore[arg-type]


def _length(trainer: Trainer, interval: str) -> float:
    """The number of steps or epochs in the run."""
    if interval == "epoch":
        return trainer.max_epochs if trainer.max_epochs not in (None, -1) else math.inf
    steps = trainer.estimated_stepping_batches
    # That set up the loop at the first batch. It is set up again once a checkpoint has restored the position.
    trainer.fit_loop._combined_loader = None
    return math.inf if steps == -1 else steps
