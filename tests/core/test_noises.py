import math

import pytest
import torch
from examples import NOISES
from torch import distributions

from dbp.core import Noise
from dbp.errors import UserError
from dbp.noises import Counted, Gumbel, Logistic, Normal, SumOfGamma

WITH_DENSITY = ("normal", "gumbel", "logistic")
MOMENTS = {  # mean and variance
    "normal": (0, 0.7**2),
    "gumbel": (1.3 * 0.5772156649, 1.3**2 * math.pi**2 / 6),
    "logistic": (0, 0.6**2 * math.pi**2 / 3),
    "uniform": (0, 2.0**2 / 3),
    "rademacher": (0, 0.5**2),
    "sum_of_gamma": (
        2.0 / 5 * (sum(1 / i for i in range(1, 11)) - math.log(10)),
        2.0**2 / 5 * sum(1 / i**2 for i in range(1, 11)),
    ),
}


@pytest.mark.parametrize("by", ["sample", "draw"])
@pytest.mark.parametrize("name", MOMENTS)
def test_mean_and_variance_are_the_analytic_ones(name, by):
    """Both of what a kernel makes, if there is one, and of torch's own draws."""
    n, noise = 400_000, NOISES[name]
    like = torch.zeros(n, dtype=torch.float64)
    z = noise.draw(like, None) if by == "draw" and isinstance(noise, Counted) else noise.sample(like)
    mean, variance = MOMENTS[name]
    assert abs(z.mean() - mean) < 4 * math.sqrt(variance / n)
    fourth = (z - z.mean()).pow(4).mean()
    assert abs(z.var() - variance) < 4 * math.sqrt((fourth - variance**2).clamp_min(1e-12) / n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MOMENTS)
def test_a_draw_looks_like_its_model_and_repeats_under_a_generator(name, dtype):
    like = torch.zeros(3, dtype=dtype).expand(4, 3)
    first, again = (NOISES[name].sample(like, torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.shape == like.shape
    assert first.dtype == dtype
    assert first.isfinite().all()
    assert torch.equal(first, again)
    assert first.unique().numel() > 1


@pytest.mark.parametrize("name", MOMENTS)
def test_traced_code_draws_anew(name):
    noise, like = NOISES[name], torch.zeros(3, 50)
    apart = torch.vmap(noise.sample, randomness="different")(like)
    assert apart.shape == like.shape
    assert not torch.equal(apart[0], apart[1])
    compiled = torch.compile(noise.sample, backend="aot_eager")
    assert not torch.equal(compiled(like), compiled(like))


@pytest.mark.parametrize(
    ("noise", "reference"),
    [
        (Normal(0.7), distributions.Normal(0.0, 0.7)),
        (Gumbel(1.3), distributions.Gumbel(torch.tensor(0.0), torch.tensor(1.3))),
        (
            Logistic(0.6),
            distributions.TransformedDistribution(
                distributions.Uniform(torch.tensor(0.0), torch.tensor(1.0)),
                [distributions.SigmoidTransform().inv, distributions.AffineTransform(0, 0.6)],
            ),
        ),
    ],
    ids=["normal", "gumbel", "logistic"],
)
def test_log_prob_is_the_density(noise, reference):
    value = torch.linspace(-3, 3, 31)
    torch.testing.assert_close(noise.log_prob(value), reference.log_prob(value), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WITH_DENSITY)
def test_the_score_is_the_derivative_of_the_log_density(name):
    noise, value = NOISES[name], torch.linspace(-3, 3, 31, dtype=torch.float64)
    torch.testing.assert_close(noise.score(value), Noise.score(noise, value))


@pytest.mark.parametrize("name", sorted(set(MOMENTS) - set(WITH_DENSITY)))
def test_a_noise_without_a_density_says_what_to_use(name):
    with pytest.raises(UserError, match="no differentiable density; normal, gumbel and logistic do"):
        NOISES[name].log_prob(torch.zeros(1))


@pytest.mark.parametrize(("k", "terms"), [(10, 10), (1, 1), (5, 10), (20.8, 100)])
def test_sum_of_gamma_agrees_with_draws_of_gammas(k, terms):
    from scipy.stats import ks_2samp

    n = 100_000
    ours = SumOfGamma(k=k, terms=terms).sample(torch.zeros(n))
    shape = torch.full((n,), 1 / k)
    gammas = sum(torch._standard_gamma(shape) * (k / i) for i in range(1, terms + 1))
    assert ks_2samp(ours, (gammas - math.log(terms)) / k).pvalue > 1e-3


@pytest.mark.parametrize(("k", "terms"), [(10, 10), (5, 10), (20.8, 100), (1, 1), (200, 10), (0.05, 10), (0.4, 150)])
def test_the_table_of_sum_of_gamma_has_the_moments_to_five_digits(k, terms):
    from dbp.native.quantiles import of_sum_of_gamma

    value = of_sum_of_gamma(k, terms, torch.float64, torch.device("cpu"))[..., 0]
    octaves = 2.0 ** torch.arange(-33, -1, dtype=torch.float64)
    p = torch.cat([torch.zeros(1), torch.outer(octaves, 1 + torch.arange(128) / 128).flatten(), torch.tensor([0.5])])
    width, value = p.diff(), torch.cat([value[:, :1], value], 1)  # flat beyond the ends
    a, b = value[:, :-1], value[:, 1:]
    mean = (width * (a + b) / 2).sum()
    variance = (width * (a * a + a * b + b * b) / 3).sum() - mean**2
    assert mean.item() == pytest.approx((sum(1 / i for i in range(1, terms + 1)) - math.log(terms)) / k, abs=1e-5)
    assert variance.item() == pytest.approx(sum(1 / i**2 for i in range(1, terms + 1)) / k, rel=1e-5)


def test_k_copies_of_sum_of_gamma_add_up_to_a_gumbel():
    total = SumOfGamma(k=5, terms=100).sample(torch.zeros(100_000, 5)).sum(-1)
    assert total.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert total.var().item() == pytest.approx(math.pi**2 / 6, rel=0.03)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_must_be_positive(scale):
    with pytest.raises(UserError, match="scale must be positive"):
        Normal(scale)
    with pytest.raises(UserError, match="k must be positive"):
        SumOfGamma(k=0)
    with pytest.raises(UserError, match="terms / k must be at most 500"):
        SumOfGamma(k=1, terms=1000)
