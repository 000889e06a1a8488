"""The discrete variational autoencoder: image -> rows of chosen bits -> image."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import Metric

from dbp.core import Estimator, Solver
from dbp.networks.mlp import MLP, Activation
from dbp.tasks import losses
from dbp.tasks.images import flattened
from dbp.tasks.task import Mean, Step, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class DVAE(Task):
    """A variational autoencoder whose code is a decision, one for each row of theta.

        theta = encoder(x),   y = solver(theta),   loss = -log p(x | y) + sum_rows KL(softmax(theta_row) || uniform)

    p(x | y) is Bernoulli for every pixel, with logits decoder(y). All terms are in nats, summed over pixels and rows.
    With `top_k` it is the k-subset DVAE, by default with 20 rows of 20; with `one_hot`, the categorical VAE with one
    variable a row.

    Metrics: `bce` is -log p(x | y), in evaluation for the solver's own code; `kl`; and in evaluation `bce_sampled`, for
    a code drawn as in training.

    Source: Niepert, Minervini, Franceschi, NeurIPS 2021, section 6.2 (rows = columns = 20, k = 10, hidden 512, 256);
    Liu, Dong, Liu, Yu, Gao, "Bridging discrete and backpropagation: straight-through and beyond", NeurIPS 2023.

    Args:
        shape: height and width of an image, with values in [0, 1].
        rows: decisions in a code.
        columns: scores of a decision.
        hidden: widths of the encoder's hidden layers; the decoder has the same, reversed.
        activation: of the hidden layers.
        kl: weight of the divergence in the loss; 1 is the evidence lower bound.
    """

    def __init__(
        self,
        solver: Solver,
        estimator: Estimator,
        *,
        shape: tuple[int, ...] = (28, 28),
        rows: int = 20,
        columns: int = 20,
        hidden: tuple[int, ...] = (512, 256),
        activation: Activation = "relu",
        kl: float = 1.0,
        **training: Any,
    ) -> None:
        super().__init__(solver, estimator, **training)
        pixels = torch.Size(shape).numel()
        self.shape, self.code, self.kl = tuple(shape), (rows, columns), kl
        self.encoder = MLP([pixels, *hidden, rows * columns], activation)
        self.decoder = MLP([rows * columns, *reversed(hidden), pixels], activation)

    def step(self, batch: Any) -> Step:
        images = flattened(batch, self.shape)  # [B, pixels]
        theta = self.encode(images)
        draw = self.decide(theta)
        bce = draw.surrogate(losses.bernoulli(self.decode(draw.y), images))  # [*samples, B]
        kl = _divergence_from_uniform(theta).sum(-1)  # [B]
        seen = {"bce": bce.detach(), "kl": kl.detach()}
        if not self.training:
            code = self.estimator.sample(self.solver, theta)
            seen["bce_sampled"] = losses.bernoulli(self.decode(code), images)
        return Step(bce + self.kl * kl, seen)

    def metrics(self, split: str) -> Mapping[str, Metric]:
        return {"bce": Mean(), "kl": Mean()} | ({} if split == "train" else {"bce_sampled": Mean()})

    def encode(self, images: Tensor) -> Tensor:
        """Scores `[B, rows, columns]` of flat images."""
        return self.encoder(images).unflatten(-1, self.code)

    def decode(self, code: Tensor) -> Tensor:
        """Logits `[*leading, pixels]` of codes `[*leading, rows, columns]`."""
        return self.decoder(code.flatten(-2))

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        images = flattened(batch, self.shape)
        code = self.decide(self.encode(images)).y
        reconstructions = self.decode(code).sigmoid().unflatten(-1, self.shape)
        return {"images": images.unflatten(-1, self.shape), "codes": code, "reconstructions": reconstructions}

    @torch.no_grad()
    def figures(self, batch: Any) -> "dict[str, Figure]":
        from dbp.tasks.plots import reconstructions

        seen = self.predict_step(batch, 0)
        return {"reconstructions": reconstructions(seen["images"], seen["codes"], seen["reconstructions"])}


def _divergence_from_uniform(theta: Tensor) -> Tensor:
    """KL(softmax(theta) || uniform) in nats over the last dim; in bfloat16 it could be negative."""
    log_p = losses.widened(theta).log_softmax(-1)
    return (log_p.exp() * log_p).sum(-1) + math.log(theta.shape[-1])
