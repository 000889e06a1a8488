"""Checks of the promises of a task."""

import warnings
from collections.abc import Collection
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from dbp.core import Draw
from dbp.tasks.task import Step, Task
from dbp.testing.checks import require, run, table


def check_task(task: Task, batch: Any, *, skip: Collection[str] = ()) -> None:
    """Checks that a task learns through its decision, and that a trainer can train, validate and test it.

    Args:
        task: what is checked, a copy of it.
        batch: as its data gives it.
        skip: checks to leave out, by name.

    Raises:
        AssertionError: a fault, named.
    """
    run(TASK_CHECKS, TaskCase(task, batch), task, skip)


@dataclass(frozen=True)
class TaskCase:
    """A task and a batch of its data."""

    task: Task
    batch: Any

    def copy(self) -> Task:
        return deepcopy(self.task).train()

    def watched_step(self) -> tuple[Step, list[Tensor], list[Tensor]]:
        """A training step, the scores that it decided on, and the losses that went through a surrogate."""
        task, scores, losses = self.copy(), list[Tensor](), list[Tensor]()

        def watch(module: Any, args: Any, kwargs: Any, draw: Draw) -> Draw:
            theta = kwargs["theta"] if "theta" in kwargs else args[1]
            require(theta.requires_grad, "decides on scores that have no gradient: are they detached?")
            theta.retain_grad()
            scores.append(theta)
            return Draw(draw.y, lambda x: (losses.append(x), draw.surrogate(x))[1])  # type: ignore[func-returns-value]

        with task.estimator.register_forward_hook(watch, with_kwargs=True):
            step = task.step(self.batch)
        return step, scores, losses


def losses(case: TaskCase) -> None:
    step, scores, _ = case.watched_step()
    require(scores, "never calls its estimator: use self.decide(theta)")
    require(step.losses.requires_grad, "has losses without a gradient")
    require(step.losses.isfinite().all(), "has losses that are not finite")


def surrogate(case: TaskCase) -> None:
    _, scores, seen = case.watched_step()
    require(
        len(seen) >= len(scores),
        "does not use draw.surrogate: without it, score-function estimators give no gradient and others a wrong one",
    )


def encoder(case: TaskCase) -> None:
    step, scores, _ = case.watched_step()
    step.losses.mean().backward()
    for theta in scores:
        grad = theta.grad
        require(
            grad is not None and grad.any(),
            "gives its encoder no gradient: that at theta is zero (if the estimator has few of them, as imle with a "
            "small lam, check with another)",
        )
        assert grad is not None
        require(grad.isfinite().all(), "gives its encoder a gradient that is not finite")


def metrics(case: TaskCase) -> None:
    task = case.copy()
    for split in ("train", "val"):
        task.train(split == "train")
        with torch.no_grad():
            seen = set(task.step(case.batch).seen)
        declared = set(task.metrics(split))
        require(seen == declared, f"reports {sorted(seen)} in {split}, but has the metrics {sorted(declared)}")


def trains(case: TaskCase) -> None:
    task = case.copy()
    before = [p.detach().clone() for p in task.parameters() if p.requires_grad]
    trainer, loader = _trainer(), DataLoader[Any]([case.batch], batch_size=None)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric)")
        trainer.fit(task, loader, loader)
        seen = dict(trainer.callback_metrics)
        trainer.test(task, loader, verbose=False)
    after = [p for p in task.parameters() if p.requires_grad]
    changed = any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    require(changed, "does not learn: one step of its optimizer changes no parameter")
    value = seen.get("val/loss")
    require(value is not None and value.isfinite(), f"has a validation loss of {value}")


def _trainer() -> Trainer:
    return Trainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=1,
    )  # fmt: skip


TASK_CHECKS = table(losses, surrogate, encoder, metrics, trains)
