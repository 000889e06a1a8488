"""The exponential family over k-subsets, `p(y) ~ exp <theta, y>` over 0/1 vectors with k ones, by dynamic programs.

Source: Ahmed, Zeng, Niepert, Van den Broeck, "SIMPLE: a gradient estimator for k-subset sampling", ICLR 2023.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dbp.native.ops import eager


def log_partition(theta: Tensor, k: int) -> Tensor:
    """`log sum_y exp <theta, y>`, of the leading dims: the log of the k-th elementary symmetric polynomial."""
    return _tables(theta, k)[-1][..., k]


def log_partition_of_first(theta: Tensor, k: Tensor, size: Tensor) -> Tensor:
    """`log_partition` of the first `size` scores of each row, with a k for each; both are `[*leading]`."""
    most = largest(k)
    tables = [F.pad(table, (0, most + 1 - table.shape[-1])) for table in _tables(theta, most)]
    entry = (size * (most + 1) + k).unsqueeze(-1)
    nothing = theta[..., :0].sum(-1)  # makes it part of the graph where every k is 0
    return torch.cat(tables, -1).gather(-1, entry).squeeze(-1) + nothing


@eager  # compiled graphs have no second derivative
def marginals(theta: Tensor, k: int) -> Tensor:
    """`P(y_i = 1)`: the gradient of the log-partition, and itself differentiable. They add up to k."""
    wanted = torch.is_grad_enabled() and theta.requires_grad
    with torch.enable_grad():
        theta = theta if wanted else theta.detach().requires_grad_()
        (mu,) = torch.autograd.grad(log_partition(theta, k).sum(), theta, create_graph=wanted)
    return mu


def entropy(theta: Tensor, k: int) -> Tensor:
    """The entropy in nats, `log_partition - <theta, marginals>`, of the leading dims."""
    return log_partition(theta, k) - (theta * marginals(theta, k)).sum(-1)


@torch.no_grad()
def sample(theta: Tensor, k: int | Tensor, noise: Tensor) -> Tensor:
    """An exact draw: from the last score to the first, each is chosen with its probability given those after it.

    Args:
        theta: `[*leading, n]`.
        k: how many are chosen, of all rows or of each.
        noise: independent logistic noise with the shape of theta; -inf for last scores that do not exist.
    """
    left = torch.zeros_like(theta[..., :1], dtype=torch.long)  # how many are still to be chosen
    left, k = (left + k.unsqueeze(-1), largest(k)) if isinstance(k, Tensor) else (left + k, k)
    tables = _tables(theta, k)
    chosen = []
    for i in reversed(range(theta.shape[-1])):
        table = F.pad(tables[i], (1, k + 1 - tables[i].shape[-1]), value=-torch.inf)  # j = -1..k; no such subset: log 0
        logit = theta[..., i : i + 1] + table.gather(-1, left) - table.gather(-1, left + 1)
        y = (logit + noise[..., i : i + 1] > 0).to(theta)
        left = left - y.long()
        chosen.append(y)
    return torch.cat(chosen[::-1], -1)


def largest(k: Tensor) -> int:
    """The largest of these numbers, 0 if there are none."""
    return int(k.max()) if k.numel() else 0


def _tables(theta: Tensor, k: int) -> list[Tensor]:
    """For the first i scores, i = 0..n, the log of the sum of exp <theta, y> over their j-subsets, j = 0..min(i, k)."""
    table = torch.zeros_like(theta[..., :1])
    tables = [table]
    for i, score in enumerate(theta.unsqueeze(-2).unbind(-1)):
        more = table + score
        both = logaddexp(table[..., 1:], more[..., :-1])
        table = torch.cat([table[..., :1], both, more[..., -1:]][: 3 if i < k else 2], -1)
        tables.append(table)
    return tables


def logaddexp(a: Tensor, b: Tensor) -> Tensor:
    """`log(e^a + e^b)`; unlike torch's, its second derivative is finite however far apart they are."""
    above = a >= b  # chosen by a mask: with |a - b|, the second derivative at a tie would be lost
    high, low = torch.where(above, a, b), torch.where(above, b, a)
    return high + F.softplus(low - high)
