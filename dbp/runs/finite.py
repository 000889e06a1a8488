"""Steps whose loss or gradient is NaN or infinite: the run ends, or the step is skipped."""

from __future__ import annotations

import math
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, distributed

from dbp.errors import NonFinite


class Finite(Callback):
    """Looks at the loss and the gradient of every parameter before each step of the optimizer.

    `raise` ends the run. On a GPU it looks at a step when the next one is made, so that nothing waits for the device;
    no checkpoint is written before. `skip` leaves parameters and optimizer as they are and counts: `train/skipped` of
    the epoch; it waits for the device once a step, and all processes skip together. With a gradient scaler (16-mixed),
    gradients that are not finite are the scaler's business, which skips and adapts; only the loss is looked at.

    Args:
        names: of the parts of the run, for the message.
        skip: skip the step instead of ending the run.

    Raises:
        NonFinite: says which step, process and parameter.
    """

    def __init__(self, names: str, skip: bool = False) -> None:
        self.names, self.skip = names, skip
        self.skipped = 0
        self._loss: Tensor | None = None
        self._unread: tuple[int, list[str], Tensor, Any] | None = None  # a step, and its norms on their way to the host

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped = state_dict["skipped"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        pl_module.skips_nonfinite = self.skip
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        self._named = [] if scaled else [(n, p) for n, p in pl_module.named_parameters() if p.requires_grad]

    def on_before_backward(self, trainer: pl.Trainer, pl_module: Any, loss: Tensor) -> None:
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()  # of accumulated batches

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        assert self._loss is not None
        loss, self._loss = self._loss, None
        named = [(name, p.grad) for name, p in self._named if p.grad is not None]
        names, grads = ["", *(name for name, _ in named)], [grad for _, grad in named]
        if loss.is_cuda and not self.skip:
            self._read(trainer)
            norms, ready = _norms(loss, grads, math.inf).to("cpu", non_blocking=True), torch.cuda.Event()
            ready.record()
            self._unread = trainer.global_step, names, norms, ready
            return
        # On a CPU the largest entry takes forty times as long as the Euclidean norm, which can overflow.
        faults = _faults(names, _norms(loss, grads, 2)) and _faults(names, _norms(loss, grads, math.inf))
        if self.skip:
            self._skip(trainer, bool(faults))
        elif faults:
            self._raise(trainer, trainer.global_step, faults)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._read(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._read(trainer)
        if self.skip:
            pl_module.log("train/skipped", float(self.skipped))
            self.skipped = 0

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        if isinstance(exception, NonFinite) and not exception.located:  # scores, which their solver complained of
            exception.args = (f"{self._where(trainer, trainer.global_step)}: {exception}",)

    def _read(self, trainer: pl.Trainer) -> None:
        if self._unread:
            step, names, norms, ready = self._unread
            self._unread = None
            ready.synchronize()
            if faults := _faults(names, norms):
                self._raise(trainer, step, faults)

    def _skip(self, trainer: pl.Trainer, bad: bool) -> None:
        if trainer.world_size > 1:
            flag = torch.tensor(bad, dtype=torch.uint8, device=trainer.strategy.root_device)
            distributed.all_reduce(flag, distributed.ReduceOp.MAX)
            bad = bool(flag)
        if bad:
            self.skipped += 1
            for _, parameter in self._named:
                parameter.grad = None  # which optimizers leave alone, their averages too

    def _raise(self, trainer: pl.Trainer, step: int, faults: list[str]) -> None:
        if trainer.world_size > 1 and not faults[0].startswith("the loss"):
            time.sleep(1)  # the gradient is everyone's: let the process speak whose loss it was
        more = f" (and {len(faults) - 2} more)" if len(faults) > 2 else ""
        raise NonFinite(
            f"{self._where(trainer, step)}: {', '.join(faults[:2])}{more}. "
            "A lower optimizer.lr or trainer.gradient_clip_val may help; on_nonfinite=skip leaves such steps out",
            located=True,
        )

    def _where(self, trainer: pl.Trainer, step: int) -> str:
        return f"step {step}, rank {trainer.global_rank} ({self.names})"


def _norms(loss: Tensor, grads: list[Tensor], order: float) -> Tensor:
    """The loss, and a norm of each gradient."""
    return torch.stack([loss, *torch._foreach_norm(grads, order)])


def _faults(names: list[str], norms: Tensor) -> list[str]:
    values = norms.tolist()
    if all(map(math.isfinite, values)):
        return []
    found = [(name, value) for name, value in zip(names, values, strict=True) if not math.isfinite(value)]
    return [f"the gradient of {name} is {value}" if name else f"the loss is {value}" for name, value in found]
