"""Metrics of the decision during training: collapse, dead gradients, drifting parameters of the estimator."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.solvers.counting import Call, counted

_QUANTILES = (10, 50, 90)  # per cent


class Monitor(Callback):
    """Looks at every n-th training step, and logs its means over the epoch to every logger; under DDP, of rank 0.

    decision/theta_norm: the norm of an input's scores, which shrinks or grows without bound when costs collapse;
    decision/gradient_norm: the norm of the gradient that they receive, as it arrives (a mean over the batch, and the
    loss scale, are in it); decision/zero_gradients: the share of inputs that receive none; decision/solver_calls and
    decision/solver_seconds: in a step, backward included (on CUDA the time until the work was queued, as nothing waits
    for the device; a time, so it differs from run to run); decision/margin_10, _50 and _90: quantiles of how much the
    best decision is ahead of the second best, `<theta, y - y'>`, for one_hot, top_k and threshold; and
    `estimator/<name>`: every scalar buffer and parameter of the estimator (adaptive lambda, temperature, the error of a
    bridge). TensorBoard also gets the histogram of the margins in the epoch's last look.

    It turns on with `callbacks.monitor={}` and needs no help from tasks or estimators. A run that is resumed within an
    epoch has the means of what it looked at since.

    Args:
        every_n_steps: how often it looks.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise UserError(f"monitor: every_n_steps must be at least 1, got {every_n_steps}")
        self.every = every_n_steps
        self._hook: RemovableHandle | None = None
        self._margins: list[Tensor] = []
        self._seen: dict[str, list[Tensor | float]] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx % self.every == 0:
            self._norms: list[Tensor] = []
            self._gradients: list[Tensor] = []
            self._calls: list[list[Call]] = []
            self._margins = []
            self._hook = pl_module.estimator.register_forward_pre_hook(self._watch)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._hook is None:
            return
        self._hook.remove()
        self._hook = None
        for name, value in {**self._of_decisions(), **_of_estimator(pl_module.estimator)}.items():
            self._seen.setdefault(name, []).append(value)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        # Lightning's own log() takes as long as a tenth of a small step for each value.
        means = {name: float(sum(values) / len(values)) for name, values in self._seen.items()}
        self._seen = {}
        trainer.callback_metrics.update({name: torch.tensor(mean) for name, mean in means.items()})
        for logger in trainer.loggers:
            logger.log_metrics({"epoch": trainer.current_epoch, **means}, trainer.global_step - 1)
        if self._margins and trainer.is_global_zero:
            for board in (logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)):
                board.experiment.add_histogram("decision/margin", torch.cat(self._margins), trainer.global_step)

    def _watch(self, module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        solver, theta, *rest = args
        twin, calls = counted(solver)
        self._calls.append(calls)
        self._norms.append(_norms(theta.detach(), solver.event_dim))
        self._margins += _margins(solver, theta.detach(), *rest[:1])
        if theta.requires_grad:
            theta.register_hook(lambda grad: self._gradients.append(_norms(grad.detach(), solver.event_dim)))
        return (twin, theta, *rest)

    def _of_decisions(self) -> dict[str, Tensor | float]:
        calls = [call for calls in self._calls for call in calls]
        values: dict[str, Tensor | float] = {
            "decision/solver_calls": float(len(calls)),
            "decision/solver_seconds": sum(call.seconds for call in calls),
        }
        if self._norms:
            values["decision/theta_norm"] = torch.cat(self._norms).mean()
        if self._gradients:
            norms = torch.cat(self._gradients)
            values["decision/gradient_norm"] = norms.mean()
            values["decision/zero_gradients"] = (norms == 0).float().mean()
        if self._margins:
            ordered = torch.cat(self._margins).sort().values
            for percent in _QUANTILES:
                values[f"decision/margin_{percent}"] = ordered[(len(ordered) - 1) * percent // 100]
        return values


def _norms(x: Tensor, event_dim: int) -> Tensor:
    """The norm of each input, `[inputs]`."""
    event = x.shape[x.ndim - event_dim :].numel()
    return torch.linalg.vector_norm(x.float().reshape(-1, event), dim=-1)


def _margins(solver: Solver, theta: Tensor, instance: Instance = None) -> list[Tensor]:
    """The lead of each input's best decision, `[inputs]`; none where the solver does not tell, or has one decision."""
    if not solver.offers("lead"):
        return []
    lead = solver.lead(theta.float(), instance).flatten()
    return [found] if len(found := lead[lead.isfinite()]) else []


def _of_estimator(estimator: torch.nn.Module) -> dict[str, Tensor]:
    state = [*estimator.named_buffers(), *estimator.named_parameters()]
    return {f"estimator/{name}": value.detach().clone().float() for name, value in state if value.ndim == 0}
