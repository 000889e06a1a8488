"""Sorting numbers with a network that has a hard layer inside."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassExactMatch

from dbp.core import Draw, Estimator, Solver
from dbp.errors import UserError
from dbp.networks.mlp import MLP
from dbp.shapes import mean_to
from dbp.tasks import losses
from dbp.tasks.task import Step, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Sorting(Task):
    """A network reads a sequence of T numbers and predicts the index of the t-th smallest, for every t.

        theta = network(x),   y = solver(theta),   loss = -sum_t log softmax(output(y)_t)[order_t]

    `dense` reads all numbers at once, with a tanh MLP. `lstm` reads one number after another and then ponders: it takes
    further steps without a number, each of which ends in a decision that the next step reads; the output reads the last
    one. So a training step has `ponder` decisions in a row, each with its own surrogate.

    Metrics: `sorted`, the share of sequences whose whole order is right, and `accuracy`, the share of places that are.

    Source: Ramapuram, Webb, "Improving discrete latent representations with differentiable approximation bridges",
    WCCI 2020, section 4.1; the solver there is `signum`.

    Args:
        length: T, as the data has it.
        model: `dense` or `lstm`.
        hidden: widths of the hidden layers of `dense`; the last of them is the state of `lstm`.
        width: scores in the hard layer.
        ponder: decisions of the `lstm`.
        soft: a smooth function instead of the decision, for comparison; null for the solver.
    """

    def __init__(
        self,
        solver: Solver,
        estimator: Estimator,
        *,
        length: int = 5,
        model: Literal["dense", "lstm"] = "dense",
        hidden: tuple[int, ...] = (128, 128),
        width: int = 256,
        ponder: int = 1,
        soft: Literal["tanh", "elu"] | None = None,
        **training: Any,
    ) -> None:
        super().__init__(solver, estimator, **training)
        if min(length, width, ponder) < 1 or (model == "dense" and ponder > 1):
            raise UserError(
                f"sorting: length={length}, width={width} and ponder={ponder} must be positive, ponder 1 for dense"
            )
        self.length, self.soft = length, soft
        self.encoder = _Dense(length, hidden, width) if model == "dense" else _LSTM(hidden[-1], width, ponder)
        self.output = nn.Linear(width, length * length)

    def step(self, batch: Any) -> Step:
        sequences, order = self._checked(batch)
        logits, draws = self.predict(sequences)  # [*samples, B, T, T]
        nats = losses.categorical(logits, order)
        for draw in reversed(draws):
            nats = draw.surrogate(mean_to(nats, draw.y.ndim - 1))
        said = logits.detach().flatten(0, -4)[0] if logits.ndim > 3 else logits.detach()  # of the first sample
        seen = (said.argmax(-1), order)
        return Step(nats, {"sorted": seen, "accuracy": seen})

    def metrics(self, split: str) -> Mapping[str, Metric]:
        return {
            "sorted": MulticlassExactMatch(self.length, validate_args=False),
            "accuracy": MulticlassAccuracy(self.length, average="micro", validate_args=False),
        }

    def predict(self, sequences: Tensor) -> tuple[Tensor, list[Draw]]:
        """For every place, the logits of the numbers, `[*samples, B, T, T]`; and the decisions made on the way."""
        draws = self.encoder(sequences, self.decide if self.soft is None else self._smooth)
        return self.output(draws[-1].y).unflatten(-1, (self.length, self.length)), draws

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """The sequences, and the predicted order that sorts them."""
        sequences, _ = self._checked(batch)
        return {"sequences": sequences, "order": self.predict(sequences)[0].argmax(-1)}

    @torch.no_grad()
    def figures(self, batch: Any) -> "dict[str, Figure]":
        from dbp.tasks.plots import sequences

        seen = self.predict_step(batch, 0)
        return {"sequences": sequences(seen["sequences"].gather(-1, seen["order"]))}

    def _smooth(self, theta: Tensor) -> Draw:
        return Draw(theta.tanh() if self.soft == "tanh" else F.elu(theta))

    def _checked(self, batch: Any) -> tuple[Tensor, Tensor]:
        sequences, order = batch
        if sequences.shape[-1] != self.length:
            raise UserError(
                f"the sequences have {sequences.shape[-1]} numbers, the model was made for {self.length}: "
                f"set task.length={sequences.shape[-1]}"
            )
        return sequences, order


Decide = Callable[[Tensor], Draw]


class _Dense(nn.Module):
    """Reads all numbers at once, then makes one decision."""

    def __init__(self, length: int, hidden: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.mlp = MLP([length, *hidden, width], "tanh")

    def forward(self, sequences: Tensor, decide: Decide) -> list[Draw]:
        return [decide(self.mlp(sequences))]


class _LSTM(nn.Module):
    """Reads one number after another, then makes decisions, each of which the next step reads."""

    def __init__(self, hidden: int, width: int, ponder: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(1 + width, hidden)
        self.scores = nn.Linear(hidden, width)
        self.ponder = ponder

    def forward(self, sequences: Tensor, decide: Decide) -> list[Draw]:
        empty = sequences.new_zeros(len(sequences), self.scores.out_features)
        state = (sequences.new_zeros(len(sequences), self.cell.hidden_size),) * 2
        for number in sequences.unbind(-1):
            state = self.read(number, empty, state)
        draws, y = list[Draw](), empty
        for _ in range(self.ponder):
            state = self.read(y.new_zeros(y.shape[:-1]), y, state)
            draws.append(decide(self.scores(state[0])))
            y = draws[-1].y
        return draws

    def read(self, number: Tensor, y: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The state, two of `[*leading, hidden]`, after a number `[*leading]` and a decision `[*leading, width]`."""
        leading = y.shape[:-1]
        flat = [part.expand(*leading, -1).flatten(0, -2) for part in state]  # a decision may add dims of samples
        hidden, memory = self.cell(torch.cat([number.unsqueeze(-1), y], -1).flatten(0, -2), flat)
        return hidden.unflatten(0, leading), memory.unflatten(0, leading)
