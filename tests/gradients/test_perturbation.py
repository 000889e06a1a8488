"""Samples in slices: the same draws, decisions and gradients as all at once, in less memory."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from dbp.core import Target
from dbp.estimators import IMLE, AdaptiveIMLE, FenchelYoung, Perturbed
from dbp.gradients import perturbation
from dbp.gradients.perturbation import Perturbation
from dbp.native import ops
from dbp.noises import Gumbel, LogNormal, Normal, Rademacher
from dbp.solvers import Rank, TopK

S, B, N = 6, 4, 10


ESTIMATORS = {
    "imle": lambda: IMLE(2.0, samples=S),
    "imle, two-sided": lambda: IMLE(2.0, samples=S, two_sided=True, target_temperature=0.5),
    "imle, co": lambda: IMLE(2.0, samples=S, target="co"),
    "imle, no noise": lambda: IMLE(2.0, None, samples=S),
    "imle, kept noise": lambda: IMLE(2.0, Rademacher(), samples=S),
    "adaptive_imle": lambda: AdaptiveIMLE(samples=S, two_sided=True),
    "perturbed": lambda: Perturbed(samples=S),
    "perturbed, gumbel": lambda: Perturbed(Gumbel(0.5), samples=S),
    "perturbed, pairs": lambda: Perturbed(samples=S, antithetic=True),
    "perturbed, multiplicative": lambda: Perturbed(LogNormal(), samples=S),
    "fenchel_young": lambda: FenchelYoung(samples=S),
    "fenchel_young, multiplicative pairs": lambda: FenchelYoung(LogNormal(), samples=S, antithetic=True),
}


def step(estimator, solver, losses_of, loss_scale=1.0):
    theta = torch.linspace(-1, 2, B * N).sin().view(B, N).requires_grad_()
    goal = solver(theta.flip(-1))
    torch.manual_seed(3)
    draw = estimator(solver, theta, None, Target(goal))
    loss = draw.surrogate(losses_of(draw.y - goal)).mean()
    (loss * loss_scale).backward()
    return draw.y.detach(), loss.detach(), theta.grad, torch.rand(1), dict(estimator.named_buffers())


@pytest.mark.parametrize(("rows", "kept"), [(0.5, 0), (1, 0), (2, 0), (4, 0), (4, S * B * N)])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_slices_change_nothing(name, rows, kept, monkeypatch):
    def losses(error):
        return error.square().sum(-1)

    for solver in (TopK(3), Rank()):
        at_once = step(ESTIMATORS[name](), solver, losses)
        with monkeypatch.context() as patch:
            patch.setattr(perturbation, "_NUMBERS", int(rows * B * N))
            patch.setattr(perturbation, "_KEPT", kept)
            sliced = step(ESTIMATORS[name](), solver, losses)
        assert sliced[2].abs().sum() > 0
        torch.testing.assert_close(sliced, at_once)


@pytest.mark.parametrize("name", ["imle", "adaptive_imle"])
def test_what_shares_one_loss_is_not_cut(name, monkeypatch):
    at_once = step(ESTIMATORS[name](), TopK(3), lambda error: error.square().sum())
    monkeypatch.setattr(perturbation, "_NUMBERS", B * N)
    monkeypatch.setattr(perturbation, "_KEPT", 0)
    torch.testing.assert_close(step(ESTIMATORS[name](), TopK(3), lambda error: error.square().sum()), at_once)


@pytest.mark.parametrize("name", ["imle", "adaptive_imle"])
def test_an_overflow_in_one_slice_is_passed_on(name, monkeypatch):
    monkeypatch.setattr(perturbation, "_NUMBERS", B * N)
    monkeypatch.setattr(perturbation, "_KEPT", 0)
    weights = torch.ones(S, B)
    weights[2, 1] = torch.inf
    grad = step(ESTIMATORS[name](), TopK(3), lambda error: error.square().sum(-1) * weights)[2]
    assert not grad.isfinite().any()


@pytest.mark.skipif(ops.status().startswith("torch"), reason=ops.status())
@pytest.mark.parametrize("name", ["imle", "adaptive_imle", "perturbed", "perturbed, pairs", "fenchel_young"])
def test_between_the_passes_only_the_decisions_take_memory(name, monkeypatch):
    monkeypatch.setattr(perturbation, "_NUMBERS", B * N)
    monkeypatch.setattr(perturbation, "_KEPT", 0)
    theta = torch.randn(B, N, requires_grad=True)
    estimator, goal = ESTIMATORS[name](), Target(TopK(3)(torch.randn(B, N)))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        draw = estimator(TopK(3), theta, None, goal)
    held = sum(event.self_cpu_memory_usage for event in profiler.key_averages()) / theta.element_size()
    decisions = 0 if name == "fenchel_young" else S * B * N // (4 if name.startswith("perturbed") else 1)  # bytes
    assert decisions <= held < decisions + 4 * B * N
    assert draw.surrogate(draw.y.sum(-1)).requires_grad


def test_a_decision_that_is_written_into_cannot_be_pulled_back():
    theta = torch.randn(B, N, requires_grad=True)
    draw = IMLE(samples=S)(TopK(3), theta)
    losses = draw.surrogate(draw.y.mul_(2).sum(-1))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        losses.mean().backward()


def test_rows_are_those_of_the_whole():
    theta = torch.zeros(B, N)
    for noise in (Normal(0.7), Rademacher(), None):
        for antithetic in (False, True):
            some = Perturbation(theta, S, noise, torch.Generator().manual_seed(0), antithetic)
            whole = some[...]
            assert whole.shape == (S, B, N)
            for begin, end in ((0, S), (0, 1), (1, 5), (2, 3), (3, 6), (5, 6)):
                assert torch.equal(some[slice(begin, end)], whole[begin:end])
            assert not antithetic or torch.equal(whole[:3], -whole[3:])
    assert Perturbation(torch.zeros(()), None, Normal())[...].shape == ()


class Half(Normal):
    def sample(self, like, generator=None):
        return super().sample(like, generator).abs()


def test_a_subclass_of_a_noise_may_draw_its_own_way():
    assert (Perturbation(torch.zeros(B, N), S, Half())[...] >= 0).all()


class Doubled(Normal):
    def score(self, value):
        return 2 * super().score(value)


def test_a_subclass_of_normal_noise_may_have_its_own_score():
    def gradient(noise):
        return step(Perturbed(noise, samples=S), TopK(3), lambda error: error.square().sum(-1))[2]

    torch.testing.assert_close(gradient(Doubled()), 2 * gradient(Normal()))
