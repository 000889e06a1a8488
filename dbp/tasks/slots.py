"""Slots: selecting one item for each slot, given only the value of the whole selection."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from dbp.core import Estimator, Solver
from dbp.errors import UserError
from dbp.networks.mlp import MLP
from dbp.tasks import losses
from dbp.tasks.task import Mean, Step, Task

_ENUMERABLE = 10_000  # evaluation enumerates up to so many configurations of an example to find the best one


class Slots(Task):
    """N items of dimension d, S slots, and a differentiable value of the items in the slots.

        theta = encoder(items) [S, N],   y = solver(theta),   chosen = y items [S, d],   loss = -value(chosen)

    An item may fill several slots. All slots of an example share one loss, so they are one joint decision.

    Metrics in evaluation, if all N^S configurations can be enumerated: `regret`, the value of the best configuration
    minus that of the chosen one, and `best`, the share of examples for which the best one was chosen.

    Args:
        items: N, as the data has them.
        slots: S.
        dim: d, as the data has it.
        hidden: widths of the encoder's hidden layers.
        value: a module that maps `[*leading, S, d]` to `[*leading]`, not trained; null for a fixed random MLP.
    """

    def __init__(
        self,
        solver: Solver,
        estimator: Estimator,
        *,
        items: int = 8,
        slots: int = 4,
        dim: int = 1,
        hidden: tuple[int, ...] = (64, 64),
        value: nn.Module | None = None,
        **training: Any,
    ) -> None:
        super().__init__(solver, estimator, **training)
        self.size, self.dim = (slots, items), dim
        self.encoder = MLP([items * dim, *hidden, slots * items])
        self.value = (value or _RandomValue(slots * dim)).requires_grad_(False)

    def step(self, batch: Any) -> Step:
        items = self._checked(batch)  # [B, N, d]
        draw = self.decide(self.encode(items))  # [*samples, B, S, N]
        with losses.without_autocast(items.device.type):  # the chosen items and their value are as exact as the items
            value = losses.widened(self.value(draw.y @ items))  # [*samples, B]
            seen = {} if self.training else self._compare(value, items)
        return Step(draw.surrogate(-value), seen)

    def metrics(self, split: str) -> Mapping[str, Metric]:
        slots, items = self.size
        return {} if split == "train" or items**slots > _ENUMERABLE else {"regret": Mean(), "best": Mean()}

    def encode(self, items: Tensor) -> Tensor:
        """Scores `[B, S, N]` of items `[B, N, d]`."""
        return self.encoder(items.flatten(1)).unflatten(-1, self.size)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        items = self._checked(batch)
        y = self.decide(self.encode(items)).y
        return {"items": items, "choice": y.argmax(-1), "chosen": y @ items, "value": self.value(y @ items)}

    def _checked(self, batch: Any) -> Tensor:
        (items,) = batch
        count, dim = items.shape[1:]
        if (count, dim) != (self.size[1], self.dim):
            raise UserError(
                f"the data have {count} items of dimension {dim}, the model was made for {self.size[1]} of {self.dim}: "
                f"set task.items={count} task.dim={dim}"
            )
        return items

    def _compare(self, value: Tensor, items: Tensor) -> dict[str, Tensor | tuple[Tensor, ...]]:
        slots, count = self.size
        if count**slots > _ENUMERABLE:
            return {}
        choices = torch.cartesian_prod(*[torch.arange(count, device=items.device)] * slots).view(-1, slots)
        every = F.one_hot(choices, count).to(items)  # [N^S, S, N]
        best = torch.stack([losses.widened(self.value(every @ example)).max() for example in items])
        return {"regret": best - value, "best": (value >= best - 1e-5 * best.abs().clamp_min(1)).to(value)}


class _RandomValue(nn.Module):
    """A fixed random function of the items in all slots."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = MLP([width, 32, 32, 1], "tanh")

    def forward(self, chosen: Tensor) -> Tensor:
        return self.mlp(chosen.flatten(-2)).squeeze(-1)
