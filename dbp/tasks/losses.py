"""Cross-entropies in nats, in float32 or more: under autocast, networks hand over bfloat16."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dbp.scores import widened, without_autocast

__all__ = ["bernoulli", "categorical", "widened", "without_autocast"]


def bernoulli(logits: Tensor, bits: Tensor) -> Tensor:
    """-log p(bits) under Bernoulli(sigmoid(logits)), summed over the last dim; the rest broadcasts."""
    logits, bits = torch.broadcast_tensors(widened(logits), widened(bits))
    return F.binary_cross_entropy_with_logits(logits, bits, reduction="none").sum(-1)


def categorical(logits: Tensor, classes: Tensor) -> Tensor:
    """-log p(classes) under softmax(logits), summed over places: `[*leading, T, C], [T] -> [*leading]`; broadcasts."""
    every = classes.expand(logits.shape[:-1])
    nats = F.cross_entropy(widened(logits).flatten(0, -2), every.flatten(), reduction="none")
    return nats.unflatten(0, every.shape).sum(-1)
