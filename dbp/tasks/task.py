"""The base class of tasks: the training loop around one `step`, with metrics of each epoch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.saving import load_hparams_from_yaml
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric, Metric

from dbp.core import Draw, Estimator, Solver, Target
from dbp.errors import NonFinite, UserError
from dbp.tasks import hparams
from dbp.tasks.factories import OptimizerFactory, SchedulerFactory, step_watching

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Mean(MeanMetric):
    """The mean of all elements; it does not look for NaN, as torchmetrics does, which would wait for the device."""

    def __init__(self) -> None:
        super().__init__(nan_strategy="disable")


class Step(NamedTuple):
    """The result of a batch.

    `losses` have been through `draw.surrogate`; their mean is minimised. `seen` maps each metric to its update: a
    tensor, or a tuple for metrics that compare two.
    """

    losses: Tensor
    seen: Mapping[str, Tensor | tuple[Tensor, ...]] = {}


class Task(LightningModule, ABC):
    """A network with a discrete decision, trained end to end, with any solver and any estimator.

    Args:
        solver: makes the decision.
        estimator: gives the decision a gradient.
        optimizer: makes the optimizer of the parameters; an `OptimizerFactory` can give groups of them other options.
        scheduler: makes the learning-rate schedule of the optimizer, stepped once an epoch unless a `SchedulerFactory`
            declares a different interval; null for none.
    """

    lr: float | None = None  # instead of the optimizer's; set by Lightning's learning-rate finder
    skips_nonfinite = False  # a step with scores that are not finite gets a NaN loss, for a callback to skip

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        task = super().__new__(cls)
        task.__dict__["_given"] = args, kwargs  # a subclass's own arguments, for `hparams`
        return task

    def __init__(
        self,
        solver: Solver,
        estimator: Estimator,
        *,
        optimizer: Callable[..., Optimizer] = torch.optim.Adam,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    ) -> None:
        super().__init__()
        self.solver, self.estimator = solver, estimator
        self._optimizer = optimizer if isinstance(optimizer, OptimizerFactory) else OptimizerFactory(optimizer)
        wrapped = scheduler is None or isinstance(scheduler, SchedulerFactory)
        self._scheduler: Any = scheduler if wrapped else SchedulerFactory(scheduler)  # type: ignore[arg-type]
        self._meters: dict[str, nn.ModuleDict] = {}
        given, named = self.__dict__.pop("_given", ((), {}))
        parts = {"optimizer": self._optimizer, "scheduler": self._scheduler}
        self.save_hyperparameters(hparams.described(self, given, {**named, **parts}))

    @classmethod
    def load_from_checkpoint(
        cls, checkpoint_path: Any, map_location: Any = "cpu", hparams_file: Any = None, strict: bool | None = None,
        weights_only: bool | None = True, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """The task in a checkpoint, built from the hyperparameters stored there; `kwargs` replace some of them.

        Raises:
            UserError: they do not describe a task of this class.
        """
        if weights_only is False:
            raise UserError("checkpoints of dbp hold plain data and tensors: weights_only=False is refused")
        checkpoint = torch.load(checkpoint_path, map_location, weights_only=True)
        held = checkpoint.get(cls.CHECKPOINT_HYPER_PARAMS_KEY, {})
        task = hparams.build(load_hparams_from_yaml(hparams_file) if hparams_file else held, cls, kwargs)
        task.load_state_dict(checkpoint["state_dict"], strict=task.strict_loading if strict is None else strict)
        return task

    @abstractmethod
    def step(self, batch: Any) -> Step:
        """The losses of a batch and the updates of its metrics, for training, validation and test alike."""

    def metrics(self, split: str) -> Mapping[str, Metric]:
        """New metrics of a split (train, val, test), in addition to `loss`; each is updated with `Step.seen[name]`."""
        return {}

    def figures(self, batch: Any) -> "dict[str, Figure]":
        """Pictures of the model's output for a batch, by name."""
        return {}

    def decide(self, theta: Tensor, instance: Any = None, target: Target = Target()) -> Draw:
        """The decision for theta, and the surrogate for its losses."""
        return self.estimator(self.solver, theta, instance, target)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Predictions for a batch, by name; each of `[B, ...]`."""
        raise UserError(f"{type(self).__name__} has nothing to predict: give it a predict_step")

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """The predictions of `predict_step`: for calls, and for torch.export."""
        return self.predict_step(batch, 0)

    def configure_optimizers(self) -> Any:
        optimizer = self._optimizer.configure(self, self.lr)
        if self._scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self._scheduler.configure(optimizer, self.trainer)}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if metric is None:  # schedules that watch a metric are stepped by `step_watching`
            scheduler.step()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        try:
            loss = self._update("train", batch)
        except NonFinite:
            if not self.skips_nonfinite:
                raise
            # A NaN loss, so that all processes skip the step: each has to take part in the backward pass.
            loss = torch.nan * torch.stack([p.sum() for p in self.parameters() if p.requires_grad]).sum()
        self.log("train/loss_step", loss.detach(), prog_bar=True, on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._update("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._update("test", batch)

    def on_train_epoch_end(self) -> None:
        self._report("train")
        step_watching(self.trainer)

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves the metrics of an unfinished epoch, of every rank, so that a resumed run reports the same values."""
        own = {
            split: {name: meter.metric_state for name, meter in meters.items()}
            for split, meters in self._meters.items()
        }
        ranks: list[Any] = [own]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            ranks = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(ranks, own)
        checkpoint["meters"] = ranks

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        ranks = checkpoint.get("meters", [])
        if self.global_rank < len(ranks):
            for split, states in ranks[self.global_rank].items():
                for name, state in states.items():
                    _restore(self._meters_of(split)[name], state)

    def _update(self, split: str, batch: Any) -> Tensor:
        losses, seen = self.step(batch)
        meters = self._meters_of(split)
        meters["loss"].update(losses.detach())
        for name, values in seen.items():
            meters[name].update(*(values if isinstance(values, tuple) else (values,)))
        return losses.mean()

    def _report(self, split: str) -> None:
        meters = self._meters_of(split)
        for name, meter in meters.items():
            self.log(f"{split}/{name}", meter.compute(), prog_bar=(split, name) == ("val", "loss"))
            meter.reset()

    def _meters_of(self, split: str) -> Any:
        if split not in self._meters:
            self._meters[split] = nn.ModuleDict({"loss": Mean(), **self.metrics(split)}).to(self.device)
        return self._meters[split]


def _restore(meter: Metric, state: Mapping[str, Any]) -> None:
    for name, value in state.items():
        setattr(meter, name, value.to(meter.device) if isinstance(value, Tensor) else value)
    meter._update_count = 1  # otherwise `compute` warns that the metric was never updated
