"""Supervised losses over a pool of known decisions instead of the whole feasible set: few solver calls, or none."""

from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dbp.core import Draw, Estimator, Solver, Target
from dbp.errors import UserError
from dbp.estimators.targets import instead, right_decision, right_scores
from dbp.scores import require_scored
from dbp.shapes import sum_to


class Pool(nn.Module):
    """The latest `capacity` different decisions, in buffers; `known` says which rows are filled.

    It is shared by all inputs, so it is for solvers whose feasible set does not change with the instance.
    """

    decisions: Tensor
    known: Tensor
    cursor: Tensor

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.register_buffer("decisions", torch.empty(0))  # [capacity + 1, *event] from the first call of add on
        self.register_buffer("known", torch.zeros(capacity + 1, dtype=torch.bool))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))

    def scores(self, theta: Tensor) -> Tensor:
        """`<theta, s>` for every row s of the pool, `[*batch, capacity + 1]`; -inf for rows that are not filled."""
        rows = self.decisions.to(theta).reshape(self.capacity + 1, -1)
        flat = theta.reshape(*theta.shape[: theta.ndim - self.decisions.ndim + 1], rows.shape[1])
        return (flat @ rows.T).masked_fill(~self.known, -torch.inf)

    def best(self, theta: Tensor) -> Tensor:
        """The decision of the pool that has the largest score."""
        return self.decisions[self.scores(theta.detach()).argmax(-1)].to(theta)

    def mean(self, terms: Tensor, leaving_out: int = 0) -> Tensor:
        """The mean of `[*batch, capacity + 1]` over the filled rows, less some; terms of the others count as zero."""
        return terms.masked_fill(~self.known, 0).sum(-1) / (self.known.sum() - leaving_out).clamp_min(1)

    @torch.no_grad()
    def add(self, y: Tensor, event_dim: int) -> None:
        """Puts new decisions into the pool, over the oldest; no wait for the device."""
        event = y.shape[y.ndim - event_dim :]
        if self.decisions.shape[1:] != event or not len(self.decisions):
            self.decisions.resize_(self.capacity + 1, *event).zero_()  # in place: DDP holds on to the tensor
        new = y.reshape(-1, *event)[-self.capacity :].to(self.decisions)
        rows = self.decisions.reshape(self.capacity + 1, -1)
        flat = new.reshape(len(new), rows.shape[1])
        repeated = ((flat.unsqueeze(1) == rows).all(-1) & self.known).any(1)
        repeated |= (flat.unsqueeze(1) == flat).all(-1).tril(-1).any(1)
        position = (self.cursor + (~repeated).cumsum(0) - 1) % self.capacity
        position = torch.where(repeated, self.capacity, position)  # the last row is for what is not wanted
        self.decisions[position] = new
        self.known[position] = True
        self.known[-1] = False
        self.cursor.add_((~repeated).sum()).remainder_(self.capacity)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        saved = state_dict.get(prefix + "decisions")
        if saved is not None:
            self.decisions.resize_(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class _Pooled(Estimator):
    """A supervised loss over a pool, which gets every right decision and, now and then, the solver's."""

    needs: tuple[str, ...] = ("linear",)
    supervised: str = "decision"

    def __init__(self, capacity: int, solve_ratio: float) -> None:
        super().__init__()
        name = type(self).__name__.lower()
        if capacity < 2 or not 0 <= solve_ratio <= 1:
            raise UserError(f"{name}: needs capacity >= 2 and solve_ratio in [0, 1], got {capacity} and {solve_ratio}")
        self.pool, self.solve_ratio = Pool(capacity), solve_ratio

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        best = right_decision(solver, instance, target).to(theta)
        require_scored(theta, best, solver.event_dim)
        self.pool.add(best, solver.event_dim)
        if self.solves():
            y = solver(theta, instance)
            self.pool.add(y, solver.event_dim)
        else:
            y = self.pool.best(theta)
        return Draw(y, instead(self.loss(theta, best, target)))

    @property
    def capacity(self) -> int:
        return self.pool.capacity

    def solves(self) -> bool:
        """True if the solver is to be called this time, with probability solve_ratio."""
        device = None if self.generator is None else self.generator.device
        return torch.rand((), generator=self.generator, device=device).item() < self.solve_ratio

    @abstractmethod
    def loss(self, theta: Tensor, best: Tensor, target: Target) -> Tensor:
        """The loss of each input, `[*batch]`."""


class Contrastive(_Pooled):
    """The right decision against a pool of others: noise-contrastive, or against the best of them.

        variant `nce`:  loss = mean_s <theta, s - y*>,   `map`:  loss = max_s <theta, s - y*>

    s over the pool, which gets every right decision and, with probability solve_ratio, those of the current scores.

    Source: Mulamba, Mandi, Diligenti, Lombardi, Bucarey, Guns, "Contrastive losses and solution caching for
    predict-and-optimize", IJCAI 2021.

    Args:
        variant: which of the two.
        capacity: how many decisions the pool holds; the oldest make room.
        solve_ratio: how often the solver is called; else y is the best of the pool.
    """

    def __init__(self, variant: Literal["nce", "map"] = "nce", capacity: int = 256, solve_ratio: float = 1.0) -> None:
        super().__init__(capacity, solve_ratio)
        self.variant = variant

    def loss(self, theta: Tensor, best: Tensor, target: Target) -> Tensor:
        scores = self.pool.scores(theta)
        right = sum_to(theta * best, scores.ndim - 1)
        return (scores.amax(-1) if self.variant == "map" else self.pool.mean(scores)) - right


class Ranking(_Pooled):
    """Learns to rank the decisions of a pool as the right scores do.

        a_s = <theta, s>,  b_s = <theta*, s>, s over the pool
        variant `pointwise`:  loss = mean_s (a_s - b_s)^2
        variant `pairwise`:   loss = mean_s max(0, margin + a_s - a_t),  t the best by b, s the others
        variant `listwise`:   loss = -sum_s softmax(b / temperature)_s log softmax(a / temperature)_s

    Source: Mandi, Bucarey, Mulamba, Guns, "Decision-focused learning: through the lens of learning to rank", ICML 2022.

    Args:
        variant: which of the three.
        capacity: how many decisions the pool holds; the oldest make room.
        solve_ratio: how often the solver is called; else y is the best of the pool.
        margin: of pairwise.
        temperature: of listwise.
    """

    supervised: str = "scores"

    def __init__(
        self,
        variant: Literal["pointwise", "pairwise", "listwise"] = "listwise",
        capacity: int = 256,
        solve_ratio: float = 1.0,
        margin: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(capacity, solve_ratio)
        if not (margin >= 0 and temperature > 0):
            raise UserError(f"ranking: needs margin >= 0 and temperature > 0, got {margin} and {temperature}")
        self.variant, self.margin, self.temperature = variant, margin, temperature

    def loss(self, theta: Tensor, best: Tensor, target: Target) -> Tensor:
        a, b = self.pool.scores(theta), self.pool.scores(right_scores(target).to(theta).expand_as(theta))
        match self.variant:
            case "pointwise":
                return self.pool.mean((a - b).masked_fill(~self.pool.known, 0).square())
            case "pairwise":
                top = b.argmax(-1, keepdim=True)
                return self.pool.mean((self.margin + a - a.gather(-1, top)).relu().scatter(-1, top, 0), leaving_out=1)
            case _:
                log_likely = (a / self.temperature).log_softmax(-1).masked_fill(~self.pool.known, 0)
                return -((b / self.temperature).softmax(-1) * log_likely).sum(-1)
