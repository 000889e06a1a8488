"""The variational autoencoder with Bernoulli latent variables, in one stochastic layer or several."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from dbp.core import Estimator, Solver
from dbp.errors import UserError
from dbp.networks.mlp import MLP, Activation
from dbp.shapes import mean_to
from dbp.tasks import losses
from dbp.tasks.images import flattened
from dbp.tasks.task import Mean, Step, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class VAE(Task):
    """A variational autoencoder of binary images whose latent variables are Bernoulli, each an independent decision.

        b_0 = x,   theta_l = encoder_l(b_{l-1}),   q(b_l | b_{l-1}) = Bernoulli(sigmoid(theta_l))
        p(b_{l-1} | b_l) = Bernoulli(sigmoid(decoder_l(b_l))),   p(b_L) = Bernoulli(sigmoid(prior))
        loss = -ELBO = E_q sum_l -log p(b_{l-1} | b_l) - sum_{l<L} H(q(b_l | b_{l-1})) + KL(q(b_L | b_{L-1}) || p)

    in nats. The entropies and the divergence are exact, given the layer below. Only the reconstructions depend on the
    decisions, which keeps the variance of the gradient low. The networks read bits and pixels as -1 and 1. In training
    the estimator makes the decisions. In evaluation they are drawn from q, whatever the estimator: `elbo` is the bound
    with fresh samples (in training too), and with several samples `iwae` is the tighter bound
    log mean_s p(x, b_s) / q(b_s | x).

    `linear`: hidden=[]; `two-layer`: layers=2, hidden=[]; `nonlinear`: hidden=[200, 200], activation=tanh.

    Source: Tucker et al., "REBAR", NeurIPS 2017, section 5.2; Grathwohl et al., "Backpropagation through the void",
    ICLR 2018, section 5.2; Ramapuram, Webb, "Improving discrete latent representations with differentiable
    approximation bridges", WCCI 2020, section 4.2.1.

    Args:
        shape: height and width of an image, with values in [0, 1]; the bound holds for values 0 and 1 (data.binarise).
        latents: bits in each stochastic layer.
        layers: stochastic layers, L.
        hidden: widths of the hidden layers of every encoder; the decoders have the same, reversed.
        activation: of the hidden layers.
        samples: draws from q for each image in evaluation.
    """

    def __init__(
        self,
        solver: Solver,
        estimator: Estimator,
        *,
        shape: tuple[int, ...] = (28, 28),
        latents: int = 200,
        layers: int = 1,
        hidden: tuple[int, ...] = (),
        activation: Activation = "tanh",
        samples: int = 1,
        **training: Any,
    ) -> None:
        super().__init__(solver, estimator, **training)
        if not all(map(solver.offers, ("elementwise", "log_prob", "sample_gibbs"))):
            raise UserError(
                f"vae: the latent variables are bits: it needs solver=threshold, not {type(solver).__name__}"
            )
        if min(latents, layers, samples) < 1:
            raise UserError(f"vae: latents={latents}, layers={layers} and samples={samples} must be at least 1")
        self.posterior, self.shape, self.samples = solver, tuple(shape), samples
        widths = [math.prod(shape)] + layers * [latents]
        pairs = list(pairwise(widths))
        self.encoder = nn.ModuleList(MLP([wide, *hidden, bits], activation) for wide, bits in pairs)
        self.decoder = nn.ModuleList(MLP([bits, *reversed(hidden), wide], activation) for wide, bits in pairs)
        self.prior = nn.Parameter(torch.zeros(latents))

    def step(self, batch: Any) -> Step:
        images = flattened(batch, self.shape)  # [B, pixels]
        with torch.no_grad():
            weights = self.log_weights(images, 1 if self.training else self.samples)  # [samples, B]
        seen = {"elbo": weights.mean(0)}
        if not self.training and self.samples > 1:
            seen["iwae"] = weights.logsumexp(0) - math.log(self.samples)
        return Step(self.free_energy(images) if self.training else -seen["elbo"], seen)

    def metrics(self, split: str) -> Mapping[str, Metric]:
        return {"elbo": Mean()} | ({} if split == "train" or self.samples == 1 else {"iwae": Mean()})

    def free_energy(self, below: Tensor, layer: int = 0) -> Tensor:
        """A bound on -log p(below), with the estimator's decisions: `[*leading, bits] -> [*leading]`."""
        theta = self.encoder[layer](_signs(below))
        draw = self.decide(theta)
        nats = losses.bernoulli(self.decoder[layer](_signs(draw.y)), below)  # [*samples, *leading]
        if layer + 1 < len(self.encoder):
            nats = nats + self.free_energy(draw.y, layer + 1)
            closing = losses.bernoulli(theta, losses.widened(theta).sigmoid()).neg()
        else:
            closing = _divergence(losses.widened(theta), self.prior)
        return mean_to(draw.surrogate(nats), theta.ndim - 1) + closing

    def log_weights(self, images: Tensor, samples: int) -> Tensor:
        """log p(x, b) / q(b | x) of `samples` draws b from q: `[B, pixels] -> [samples, B]`."""
        below = images.expand(samples, *images.shape)
        total: Tensor | float = 0.0
        for encoder, decoder in zip(self.encoder, self.decoder, strict=True):
            theta = losses.widened(encoder(_signs(below)))
            bits = self.posterior.sample_gibbs(theta).to(images.dtype)
            log_q = self.posterior.log_prob(theta, bits.to(theta.dtype)).sum(-1)
            total = total - losses.bernoulli(decoder(_signs(bits)), below) - log_q
            below = bits
        return total - losses.bernoulli(self.prior, below)

    @torch.no_grad()
    def generate(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Images drawn from the model, as probabilities of the pixels: `[count, *shape]`."""
        bits = torch.bernoulli(self.prior.sigmoid().expand(count, -1), generator=generator)
        for decoder in reversed(self.decoder):
            means = decoder(_signs(bits)).sigmoid()
            bits = torch.bernoulli(means, generator=generator)
        return means.unflatten(-1, self.shape)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """The images, the likeliest bits of the first layer, and the reconstructions from them."""
        images = flattened(batch, self.shape)
        codes = self.posterior(self.encoder[0](_signs(images)))
        reconstructions = self.decoder[0](_signs(codes)).sigmoid().unflatten(-1, self.shape)
        return {"images": images.unflatten(-1, self.shape), "codes": codes, "reconstructions": reconstructions}

    @torch.no_grad()
    def figures(self, batch: Any) -> "dict[str, Figure]":
        from dbp.tasks.plots import image_grid, reconstructions

        seen = self.predict_step(batch, 0)
        generator = torch.Generator(self.device).manual_seed(0)
        return {
            "reconstructions": reconstructions(seen["images"], _tiles(seen["codes"]), seen["reconstructions"]),
            "samples": image_grid(self.generate(40, generator)),
        }


def _signs(bits: Tensor) -> Tensor:
    return 2 * bits - 1


def _divergence(theta: Tensor, prior: Tensor) -> Tensor:
    """KL(Bernoulli(sigmoid(theta)) || Bernoulli(sigmoid(prior))) in nats, summed over the last dim."""
    mean = theta.sigmoid()
    return losses.bernoulli(prior, mean) - losses.bernoulli(theta, mean)


def _tiles(codes: Tensor) -> Tensor:
    """Bits as a picture, as nearly square as their number allows."""
    bits = codes.shape[-1]
    height = next(h for h in range(math.isqrt(bits), 0, -1) if bits % h == 0)
    return codes.unflatten(-1, (height, -1))
