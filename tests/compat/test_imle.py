"""torch-imle: its calls and its arithmetic."""

import pytest
import torch

import dbp
from dbp.compat.imle import BaseNoiseDistribution, SumOfGammaNoiseDistribution, TargetDistribution, imle
from dbp.errors import UserError
from dbp.solvers import TopK


class Recorded:
    """A solver that keeps what it was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, weights):
        self.calls.append(weights.clone())
        return TopK(2)(weights)


@pytest.mark.parametrize("decorate", [True, False])
def test_imle_takes_the_calls_of_torch_imle_and_has_its_arithmetic(decorate):
    solver = Recorded()
    options = {
        "target_distribution": dbp.TargetDistribution(alpha=0.5, beta=10.0),
        "noise_distribution": dbp.SumOfGammaNoiseDistribution(k=2, nb_iterations=100),
        "nb_samples": 3,
        "input_noise_temperature": 1.0,
        "target_noise_temperature": 0.25,
    }

    if decorate:

        @dbp.imle(**options)
        def imle_solver(weights_batch):
            return solver(weights_batch)
    else:
        imle_solver = dbp.imle(solver, **options)

    theta = torch.randn(4, 6, requires_grad=True)
    y = imle_solver(theta)
    assert y.shape == (12, 6)
    many = theta.detach().repeat_interleave(3, 0)
    noise = solver.calls[0] - many
    torch.testing.assert_close(y, TopK(2)(solver.calls[0]))
    w = torch.randn(12, 6)
    (y * w).sum().backward()
    torch.testing.assert_close(solver.calls[1], 0.5 * many - 10 * w + 0.25 * noise)
    torch.testing.assert_close(theta.grad, (y.detach() - TopK(2)(solver.calls[1])).view(4, 3, 6).mean(1))


def test_imle_without_options_is_torch_imles_default():
    theta, w = torch.randn(4, 6), torch.randn(4, 6)
    leaf = theta.clone().requires_grad_()
    y = dbp.imle(TopK(2))(leaf)
    assert torch.equal(y, TopK(2)(theta))
    (y * w).sum().backward()
    assert torch.equal(leaf.grad, TopK(2)(theta) - TopK(2)(theta - w))


def test_the_published_readme_runs_with_one_import_changed():
    def torch_solver(weights_batch):
        weights = weights_batch.detach().cpu().numpy()
        return torch.tensor((weights >= 0).astype("float32"), requires_grad=False)

    @imle(
        target_distribution=TargetDistribution(alpha=0.0, beta=10.0),
        noise_distribution=SumOfGammaNoiseDistribution(k=3, nb_iterations=100),
        nb_samples=10,
        input_noise_temperature=0.1,
        target_noise_temperature=0.1,
    )
    def imle_solver(weights_batch):
        return torch_solver(weights_batch)

    theta = torch.tensor([[5.0, -5.0, 5.0], [-5.0, 5.0, -5.0]], requires_grad=True)
    y = imle_solver(theta)
    assert torch.equal(y, torch_solver(theta).repeat_interleave(10, 0))
    (y * torch.tensor([1.0, 2.0, -3.0])).sum().backward()
    better = torch.tensor([0.0, 0.0, 1.0])  # alpha is zero: -10 dy alone decides
    torch.testing.assert_close(theta.grad, torch_solver(theta) - better)


def test_noise_by_shape_or_of_ones_own():
    noise = SumOfGammaNoiseDistribution(k=5, nb_iterations=100)
    assert (noise.k, noise.nb_iterations, noise.device) == (5, 100, None)
    assert noise.sample(torch.Size([5])).shape == noise.sample(shape=torch.Size([5])).shape == (5,)

    class Alternating(BaseNoiseDistribution):
        def sample(self, shape):
            return torch.tensor([1.0, -1.0]).expand(shape)

    seen = []
    solve = imle(lambda x: seen.append(x) or x, noise_distribution=Alternating(), nb_samples=3)
    solve(torch.zeros(4, 2, dtype=torch.float64))
    assert torch.equal(seen[0], torch.tensor([1.0, -1.0], dtype=torch.float64).expand(12, 2))


def test_sum_of_gamma_has_the_moments_of_its_series():
    z = SumOfGammaNoiseDistribution(k=4, nb_iterations=10).sample(torch.Size([200_000]))
    i = torch.arange(1.0, 11)
    mean, variance = ((1 / i).sum() - torch.tensor(10.0).log()) / 4, (4 / i**2).sum() / 16
    assert z.mean().item() == pytest.approx(mean.item(), abs=5 * (variance.item() / 200_000) ** 0.5)
    assert z.var().item() == pytest.approx(variance.item(), rel=0.03)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_noise_has_its_distribution_in_every_precision(dtype):
    seen = []

    @imle(noise_distribution=dbp.noises.Logistic(), nb_samples=200)
    def positive(x):
        seen.append(x.double())
        return (x > 0).to(x)

    theta = torch.zeros(10, 100, dtype=dtype, requires_grad=True)
    y = positive(theta)
    y.sum().backward()
    assert y.dtype == theta.grad.dtype == dtype
    assert seen[0].std().item() == pytest.approx(torch.pi / 3**0.5, rel=0.01)


def test_a_target_may_change_between_steps():
    target = TargetDistribution()
    solve = imle(TopK(2), target_distribution=target)
    theta, w = torch.randn(4, 6), torch.randn(4, 6)
    target.beta = 7.0
    leaf = theta.clone().requires_grad_()
    (solve(leaf) * w).sum().backward()
    assert torch.equal(leaf.grad, TopK(2)(theta) - TopK(2)(theta - 7 * w))


def test_further_arguments_reach_the_function_by_position_and_by_name():
    @imle(nb_samples=2)
    def pick(x, scale=1.0):
        return scale * TopK(1)(x)

    theta = torch.randn(4, 5, requires_grad=True)
    assert pick(theta).sum() == 8
    y = pick(theta, scale=2.0)
    assert y.sum() == pick(theta, 2.0).sum() == 16
    y.backward(torch.randn(8, 5))  # the target is solved with the same arguments
    assert (theta.grad % 1 == 0).all()


def test_imle_says_what_it_cannot_do():
    with pytest.raises(UserError, match=r"a batch of at least two dims, got shape \[5\]"):
        imle(TopK(1), nb_samples=2)(torch.randn(5))
    with pytest.raises(UserError, match="nb_samples must be at least 1, got 0"):
        imle(TopK(1), nb_samples=0)
