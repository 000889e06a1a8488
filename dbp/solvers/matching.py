"""Bipartite assignment: who gets what, one to one."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from dbp.core import Instance, Noise, Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.noises import Gumbel
from dbp.scores import require_finite
from dbp.shapes import normalise
from dbp.solvers import masks, pairs
from dbp.solvers.instances import naming, require_whole
from dbp.solvers.listing import listed


@dataclass(frozen=True)
class Matching(Solver):
    """The best assignment of rows to columns: `argmax <theta, y>`, at most a one in each row and column of y.

    theta is `[*leading, n, m]`, and min(n, m) pairs are made, whatever the signs of the scores. Ties, as far as the
    arithmetic is exact, go to the lowest index: among the best assignments the first row takes the first column it can,
    then the second row, and so on (columns and rows change places if n > m).

    The relaxation is the entropic optimum `argmax <theta, y> + temperature H(y)`, by Sinkhorn's iteration on
    log-potentials; rows (or columns) that are too many may stay unmatched (Cuturi, "Sinkhorn distances", NeurIPS 2013;
    Mena et al., "Learning latent permutations with Gumbel-Sinkhorn networks", ICLR 2018). With a mask, pairs that exist
    but are in no assignment vanish slowly, as one over the iterations.

    An `instance` is a mapping of some of
        mask: booleans that broadcast to theta, false for pairs that do not exist. A row or column without any pair
            does not exist either: min(n', m') pairs are made, of n' rows and m' columns that exist;
        unmatched: what it costs that a row stays unmatched, one number for all or one for each row (`[*leading, n]`).
            Then as many pairs are made as pays: `argmax <theta, y> - cost of the rows without a one`, which is
            `argmax <theta + cost, y>`; columns stay unmatched for nothing.

    Args:
        iterations: of the relaxation.

    Raises:
        UserError: the pairs that exist do not allow so many; it names the problem.
    """

    binary = True
    instance_keys = ("mask", "unmatched")
    event_dim = 2
    noise: ClassVar[Noise | None] = Gumbel()
    iterations: int = 50

    def __post_init__(self) -> None:
        require_whole(self, 1, "iterations")

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        if instance:
            return self._solve(theta, instance)
        host = ops.widen(theta).cpu()  # where augmenting paths are at home
        return (matching if ops.serves(host) else matching_scipy)(host).to(theta)

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        if instance:
            return self._project(theta, instance)
        # A constant on a row that is matched whatever happens changes nothing; nor does one on such a column.
        if theta.shape[-2] <= theta.shape[-1]:
            theta = theta - theta.mean(-1, keepdim=True)
        if theta.shape[-1] <= theta.shape[-2]:
            theta = theta - theta.mean(-2, keepdim=True)
        return normalise(theta, 2)

    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0, instance: Instance = None) -> Tensor:
        if instance:
            return self._relax(theta / temperature, temperature, instance)
        scores = theta / temperature
        rows, columns = theta.shape[-2:]
        if rows > columns:
            return self.relax(theta.mT, temperature).mT
        f = torch.zeros_like(scores[..., :1])
        for _ in range(self.iterations):
            g = -torch.logsumexp(scores + f, -2, keepdim=True)  # each column sums to one, or to at most one
            if rows < columns:
                g = g.clamp_max(0)
            f = -torch.logsumexp(scores + g, -1, keepdim=True)  # each row sums to one
        return (scores + f + g).exp()

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        binary = ((y == 0) | (y == 1)).flatten(-2).all(-1)
        once = (y.sum(-1) <= 1).all(-1) & (y.sum(-2) <= 1).all(-1)
        if not instance:
            return binary & once & (y.sum((-2, -1)) == min(y.shape[-2:]))
        mask, cost = self._pairs(y, instance)
        possible = binary & once & (mask | (y == 0)).flatten(-2).all(-1)
        return possible if cost is not None else possible & (y.sum((-2, -1)) == torch.minimum(*_sizes(mask)))

    def vertices(self, shape: Sequence[int], instance: Instance = None) -> Tensor:
        rows, columns = shape
        if instance:
            mask, cost = self._pairs(torch.zeros(rows, columns), instance)
            ys = pairs.partial_matchings(mask)
            return ys if cost is not None else ys[ys.sum((-2, -1)) == torch.minimum(*_sizes(mask))]
        if rows > columns:
            return self.vertices((columns, rows)).mT
        chosen = torch.tensor(listed(itertools.permutations(range(columns), rows)), dtype=torch.int64)
        return torch.nn.functional.one_hot(chosen.reshape(-1, rows), columns).to(torch.get_default_dtype())

    def _pairs(self, theta: Tensor, instance: Any) -> tuple[Tensor, Tensor | None]:
        """The pairs that exist, in theta's shape, and the cost of each row that stays unmatched; null if none may."""
        given = instance.get("unmatched")
        return masks.of(self, theta, instance), None if given is None else pairs.costs(self, given, theta)

    def _solve(self, theta: Tensor, instance: Any) -> Tensor:
        host = ops.widen(theta).cpu()
        if host.device != theta.device:
            require_finite(host, self.event_dim, "Matching")
        mask, cost = self._pairs(host, instance)
        if cost is None:
            return matching_masked(host, mask).to(theta)
        y = self.solve(pairs.with_spare(host, mask, cost), None)[..., : theta.shape[-1]]
        return y.masked_fill(~mask, 0).to(theta)

    def _project(self, theta: Tensor, instance: Instance) -> Tensor:
        mask, cost = self._pairs(theta, instance)
        theta = theta.masked_fill(~mask, 0)
        if cost is not None:  # it is compared with the scores
            return theta
        rows, columns = (size[..., None, None] for size in _sizes(mask))
        theta = torch.where(mask & (rows <= columns), theta - _mean(theta, mask, -1), theta)
        theta = torch.where(mask & (columns <= rows), theta - _mean(theta, mask, -2), theta)
        return normalise(theta, 2, mask)

    def _relax(self, scores: Tensor, temperature: float | Tensor, instance: Instance) -> Tensor:
        mask, cost = self._pairs(scores, instance)
        if cost is not None:
            stay = (-cost / temperature).unsqueeze(-1)
            return pairs.soft_unmatched(scores.masked_fill(~mask, -1e30), stay, self.iterations).masked_fill(~mask, 0)
        return _by_shape(lambda x, exists: self.relax(x.masked_fill(~exists, -torch.inf)), scores, mask)


_by_shape = ops.eager(pairs.by_shape)  # the sizes of tensors depend on the mask


def _sizes(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers of rows and of columns that have a pair."""
    return mask.any(-1).sum(-1), mask.any(-2).sum(-1)


def _mean(theta: Tensor, mask: Tensor, dim: int) -> Tensor:
    return theta.sum(dim, keepdim=True) / mask.sum(dim, keepdim=True).clamp_min(1)


@ops.operator
def matching_masked(theta: Tensor, mask: Tensor) -> Tensor:
    """`Matching` of pairs that exist, on the host, by the kernel or scipy."""
    solve = matching if ops.serves(theta) else matching_scipy

    def each(x: Tensor, exists: Tensor) -> Tensor:
        return solve(x) if bool(exists.all()) else solve(pairs.avoiding(x, exists)).to(x)

    y = pairs.by_shape(each, theta, mask)
    wrong = ((y != 0) & ~mask).flatten(-2).any(-1)
    if wrong.any():
        where = naming("Matching", wrong.shape)(int(wrong.flatten().nonzero()[0]))
        raise UserError(
            f"{where}: the mask leaves no assignment of every row or every column; allow more pairs, "
            "or give a cost `unmatched` at which rows may stay without"
        )
    return y


@ops.operator
def matching(theta: Tensor) -> Tensor:
    """`Matching` by the kernel: the shortest augmenting paths of Jonker and Volgenant."""
    theta = theta.contiguous()
    y = ops.empty_like(theta)
    if theta.numel():
        rows, columns = theta.shape[-2:]
        status = ops.call("matching", (theta, y), theta.numel() // (rows * columns), rows, columns)
        if status:
            raise _not_finite(status // 8, theta.shape[:-2])
    return y


@ops.operator
def matching_scipy(theta: Tensor) -> Tensor:
    """`Matching` by scipy, one problem after the other, for machines without the kernel."""
    if not theta.numel():
        return torch.empty_like(theta)
    scores = theta.detach().cpu().double().resolve_neg().numpy().reshape(-1, *theta.shape[-2:])
    y = np.zeros_like(scores)
    for row, (score, out) in enumerate(zip(scores, y, strict=True)):
        if not np.isfinite(score).all():
            raise _not_finite(row, theta.shape[:-2])
        if np.abs(score).max() > 2.0**960:  # sums of such numbers overflow
            score = np.ldexp(score, -64)
        cost, chosen = (-score, out) if score.shape[0] <= score.shape[1] else (-score.T, out.T)
        chosen[np.arange(len(cost)), _first_of_the_best(cost)] = 1
    return torch.from_numpy(y).reshape(theta.shape).to(theta)


def _first_of_the_best(cost: np.ndarray) -> np.ndarray:
    """The columns of the rows in the optimal assignment that comes first in lexicographic order; `[n, m]`, n <= m.

    Optimal assignments use edges of zero reduced cost only, for any optimal potentials.
    """
    n, m = cost.shape
    square = np.vstack([cost, np.zeros((m - n, m))])
    x = linear_sum_assignment(cost)[1]
    x = np.concatenate([x, np.setdiff1d(np.arange(m), x)])
    change = square[:, x] - square[np.arange(m), x][:, None]  # [row, of which row it takes the column]
    potential = np.zeros(m)
    for _ in range(m):
        shorter = np.minimum(potential, (potential[:, None] + change).min(0))
        if (shorter == potential).all():
            break
        potential = shorter
    tight = potential[:, None] + change <= potential
    if connected_components(tight, directed=True, connection="strong")[0] < m:
        can_take = np.empty_like(tight)
        can_take[:, x] = tight
        for row in range(n):
            _exchange(row, x, can_take)
    return x[:n]


def _exchange(row: int, x: np.ndarray, can_take: np.ndarray) -> None:
    """Gives a row the first column that it can have while the rows before it keep theirs."""
    owner = np.argsort(x)
    before: dict[int, int] = {}  # by whom the column of a row is taken
    for column in np.flatnonzero(can_take[row, : x[row]]):
        stack = [] if owner[column] < row or owner[column] in before else [int(owner[column])]
        before.update(dict.fromkeys(stack, row))
        while stack:
            last = stack.pop()
            if can_take[last, x[row]]:
                goal = x[row]
                while last != row:
                    x[last], goal = goal, x[last]
                    last = before[last]
                x[row] = goal
                return
            nexts = [int(k) for k in owner[can_take[last]] if k > row and int(k) not in before]
            before.update(dict.fromkeys(nexts, last))
            stack += nexts


def _not_finite(row: int, leading: torch.Size) -> UserError:
    return UserError(f"{naming('Matching', leading)(row)}: scores are NaN or infinite: they must be finite")
