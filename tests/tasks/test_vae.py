"""The variational autoencoder with bits: its bound, summed by hand over all codes, and that any estimator trains it."""

import math

import pytest
import torch
from steps import zeros_and_ones
from torch import nn

from dbp.errors import UserError
from dbp.estimators import REBAR, DisARM, Exact, Score, StraightThrough
from dbp.noises import Logistic
from dbp.solvers import Threshold, TopK
from dbp.tasks import VAE
from tests.training import train

BITS = 3


def vae(estimator=None, **options):
    return VAE(Threshold(), estimator or StraightThrough(Logistic()), shape=(2, 2), latents=BITS, **options).double()


def images(count):
    return torch.rand(count, 2, 2, dtype=torch.float64).round()


def log_bernoulli(logits, bits):
    return torch.distributions.Bernoulli(logits=logits).log_prob(bits).sum(-1)


def exact_bound(model, x):
    """E_q log p(x, b) / q(b | x) over all codes of all layers, by the definition."""
    codes = zeros_and_ones(BITS).double()
    total, layers = torch.zeros(len(x), dtype=torch.float64), len(model.encoder)
    for picks in torch.cartesian_prod(*[torch.arange(len(codes))] * layers).view(-1, layers):
        below, log_q, log_p = x.flatten(1), 0.0, 0.0
        for encoder, decoder, pick in zip(model.encoder, model.decoder, picks, strict=True):
            bits = codes[pick].expand(len(x), -1)
            log_q = log_q + log_bernoulli(encoder(2 * below - 1), bits)
            log_p = log_p + log_bernoulli(decoder(2 * bits - 1), below)
            below = bits
        log_p = log_p + log_bernoulli(model.prior, below)
        total = total + log_q.exp() * (log_p - log_q)
    return total


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_bound_and_its_gradient_are_those_of_the_sum_over_all_codes(layers):
    model, x = vae(Score(samples=200_000), layers=layers), images(2)
    nn.init.normal_(model.prior)
    exact = exact_bound(model, x)
    names, parameters = zip(*model.named_parameters(), strict=True)
    expected = torch.autograd.grad(-exact.mean(), parameters)
    if layers == 2:
        model.estimator.samples = 1000
    with torch.no_grad():
        weights = model.log_weights(x.flatten(1), 200_000)
    torch.testing.assert_close(weights.mean(0), exact.detach(), atol=0.02, rtol=0)
    loss = model.step([x]).losses.mean()
    assert loss.item() == pytest.approx(-exact.mean().item(), abs=0.03)
    for name, got, wanted in zip(names, torch.autograd.grad(loss, parameters), expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=0.03, rtol=0.03, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("layers", [1, 2])
def test_with_exact_expectations_bound_and_gradient_are_exact(layers):
    model, x = vae(Exact(joint=1), layers=layers), images(5)
    exact = exact_bound(model, x)
    parameters = list(model.parameters())
    loss = model.step([x]).losses.mean()
    torch.testing.assert_close(loss, -exact.mean())
    torch.testing.assert_close(torch.autograd.grad(loss, parameters), torch.autograd.grad(-exact.mean(), parameters))


def test_more_samples_give_a_tighter_bound():
    model, x = vae(samples=500).eval(), images(20)
    seen = model.step([x]).seen
    assert set(seen) == set(model.metrics("test")) == {"elbo", "iwae"}
    codes = zeros_and_ones(BITS).double().unsqueeze(1)
    joint = log_bernoulli(model.decoder[0](2 * codes - 1), x.flatten(1)) + log_bernoulli(model.prior, codes)
    assert (seen["elbo"] < seen["iwae"]).all()
    torch.testing.assert_close(seen["iwae"].mean(), joint.logsumexp(0).mean(), atol=0.05, rtol=0)


@pytest.mark.parametrize("estimator", [REBAR, DisARM, StraightThrough])
def test_two_layers_train_with_estimators_that_draw_several_decisions(estimator):
    model = VAE(Threshold(), estimator(), shape=(2, 2), latents=BITS, layers=2)
    model.step([images(6).float()]).losses.mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in [*model.encoder.parameters(), *model.decoder.parameters()])


def test_its_pictures_show_codes_and_new_images(tmp_path):
    figures = VAE(Threshold(), REBAR(), shape=(8, 8), latents=12).figures([torch.rand(10, 8, 8)])
    assert {name: len(figure.axes) for name, figure in figures.items()} == {"reconstructions": 30, "samples": 1}
    for name, figure in figures.items():
        figure.savefig(tmp_path / name)


def test_bits_need_a_solver_of_bits():
    with pytest.raises(UserError, match="it needs solver=threshold, not TopK"):
        VAE(TopK(2), REBAR())
    with pytest.raises(UserError, match="layers=0"):
        VAE(Threshold(), REBAR(), layers=0)
    with pytest.raises(UserError, match=r"set task.shape=\[3,3\]"):
        vae().step([torch.rand(1, 3, 3)])


def test_the_prior_and_the_bound_improve_together():
    from dbp.data import Digits

    model = VAE(Threshold(), DisARM(), shape=(8, 8), latents=20, samples=5)
    trainer = train(model, Digits(batch_size=50), epochs=3)
    assert trainer.callback_metrics["val/elbo"] > -8 * 8 * math.log(2)  # that of a model that knows nothing
    assert trainer.callback_metrics["val/iwae"] > trainer.callback_metrics["val/elbo"]
    assert model.prior.any()
