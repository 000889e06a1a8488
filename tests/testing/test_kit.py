"""The kit finds each planted fault and names it."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from dbp import estimators, noises, solvers, testing
from dbp.core import Draw, Estimator, Solver, Target
from dbp.data import SlotsData
from dbp.errors import Unsupported, UserError
from dbp.gradients.rules import only_gradient, straight_through
from dbp.shapes import sum_to
from dbp.tasks import Slots
from dbp.tasks.task import Step

SHAPE = (5,)


class Random(solvers.OneHot):
    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        return super().solve(theta + 1e-3 * torch.rand_like(theta), instance)


class RandomTies(solvers.OneHot):
    calls: ClassVar = [0]

    def solve(self, theta: Tensor, instance: Any) -> Tensor:  # a random choice that torch's generator knows nothing of
        self.calls[0] += 1
        order = torch.arange(theta.shape[-1]).roll(self.calls[0])
        return super().solve(theta[..., order], instance)[..., order.argsort()]


class SecondBest(solvers.OneHot):
    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        return super().solve(theta.masked_fill(super().solve(theta, instance).bool(), -1e4), instance)

    def project(self, theta: Tensor, instance: Any = None) -> Tensor:
        return theta


class TwoDims(solvers.OneHot):
    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        dim = min(1, theta.ndim - 1)
        return torch.zeros_like(theta).scatter(dim, theta.argmax(dim, keepdim=True), 1)


class Away(solvers.OneHot):
    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        y = super().solve(theta, instance)
        return y.to("meta") if theta.dtype == torch.float64 else y


class SinglePrecision(solvers.OneHot):
    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        return super().solve(theta, instance).float()


class Shifted(solvers.Threshold):
    def project(self, theta: Tensor, instance: Any = None) -> Tensor:
        return theta - theta.mean(-1, keepdim=True)


class InPlace(solvers.OneHot):
    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        return super().solve(theta.sub_(theta.mean()), instance)


class WrongProbability(solvers.OneHot):
    def log_prob(self, theta: Tensor, y: Tensor, instance: Any = None) -> Tensor:
        return super().log_prob(2 * theta, y)


class Unlisted(solvers.TopK):
    def vertices(self, shape: Any, instance: Any = None) -> Tensor:
        return super().vertices(shape, instance)[1:]


class NotBinary(solvers.Sort):
    binary = True


class NeverClose(solvers.OneHot):
    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0, instance: Any = None) -> Tensor:
        return theta.softmax(-1)


@dataclass(frozen=True)
class Smallest(Solver):
    """Minimises."""

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        return solvers.OneHot().solve(-theta, instance)


class Shorter(solvers.Sort):
    linear = True


class TakesRewards(solvers.OneHot):
    nonpositive = True


class TakesAnything(solvers.OneHot):
    def __call__(self, theta: Tensor, instance: Any = None) -> Tensor:
        return super().__call__(theta)


class Rounds(solvers.OneHot):
    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        return super().solve(theta.clamp(-100, 100), instance)


class Unforbidden(solvers.OneHot):
    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        return super().solve(theta.masked_fill(theta < -1e8, 9), instance)


class Overflows(solvers.OneHot):
    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0, instance: Any = None) -> Tensor:
        weight = (theta / temperature).exp() if (theta.abs() > 100).any() else (theta / temperature).softmax(-1)
        return weight / weight.sum(-1, keepdim=True)


class HalfPartition(solvers.OneHot):
    def log_partition(self, theta: Tensor, instance: Any = None) -> Tensor:
        return super().log_partition(theta / 2)


class Mode(solvers.OneHot):
    def sample_gibbs(self, theta: Tensor, generator: Any = None, instance: Any = None) -> Tensor:
        return self(theta)


class FarAhead(solvers.OneHot):
    def lead(self, theta: Tensor, instance: Any = None) -> Tensor:
        return 2 * super().lead(theta)


@pytest.mark.parametrize(
    ("solver", "check", "sentence"),
    [
        (Random(), "no_randomness", "uses randomness"),
        (RandomTies(), "no_randomness", "uses randomness"),
        (SecondBest(), "optimal", "is not optimal"),
        (TwoDims(), "leading_dims", "breaks on leading dims"),
        (Away(), "device_and_dtype", "moves to another device"),
        (SinglePrecision(), "device_and_dtype", "changes the dtype"),
        (Shifted(), "invariance", "fails the invariance it claims"),
        (InPlace(), "no_side_effect", "changes the scores"),
        (WrongProbability(), "distribution", "has a log_prob that is not"),
        (Unlisted(k=2), "listed", "not among its vertices"),
        (NotBinary(), "binary", "is not 0 or 1"),
        (NeverClose(), "relaxation", "does not approach the decision"),
        (Smallest(), "linear", "does not maximise <theta, y>"),
        (Shorter(k=2), "linear", "decides .* for scores of shape"),
        (TakesRewards(), "nonpositive", "takes positive scores"),
        (TakesAnything(), "instance_keys", "takes an instance with names besides"),
        (Rounds(), "large_scores", "decides worse for 16384 times its scores"),
        (Unforbidden(), "masked_scores", "is not optimal where scores are -1e9"),
        (Overflows(), "finite_relaxation", "not finite where scores are large"),
        (HalfPartition(), "partition", "not log sum_y exp <theta, y>"),
        (Mode(), "gibbs", "does not draw y by exp <theta, y>"),
        (FarAhead(), "lead", "not that of its two best vertices"),
    ],
)
def test_a_solvers_fault_is_named(solver, check, sentence):
    with pytest.raises(AssertionError, match=rf"^\[{check}\] {type(solver).__name__} .*{sentence}"):
        testing.check_solver(solver, SHAPE)


class IgnoresSamples(estimators.GumbelSoftmax):
    def draw(self, solver: Any, theta: Tensor, instance: Any, target: Target) -> Draw:
        return super().draw(solver, theta if self.samples is None else theta[0], instance, target)


class Unrepeatable(estimators.Identity):
    def draw(self, solver: Any, theta: Tensor, instance: Any, target: Target) -> Draw:
        return super().draw(solver, theta * (1 + torch.rand((), generator=_elsewhere)), instance, target)


_elsewhere = torch.Generator().manual_seed(1)


class DrawsInEvaluation(estimators.GumbelSoftmax):
    def forward(self, solver: Any, theta: Tensor, instance: Any = None, target: Target = Target()) -> Draw:
        return self.draw(solver, theta, instance, target)


class ChangesValue(estimators.Identity):
    def draw(self, solver: Any, theta: Tensor, instance: Any, target: Target) -> Draw:
        return Draw(super().draw(solver, theta, instance, target).y, lambda losses: 2 * losses)


class NotLinear(Estimator):
    """Blackbox differentiation as it is published: lam is in units of whatever gradient arrives."""

    def draw(self, solver: Any, theta: Tensor, instance: Any, target: Target) -> Draw:
        y = solver(theta.detach(), instance)
        soft = theta.clone()
        if soft.requires_grad:
            soft.register_hook(lambda grad: y - solver(theta.detach() - grad, instance))
        return Draw(straight_through(y, soft))


class LosesState(estimators.Score):
    """A moving-average baseline in a plain attribute."""

    mean = 0.0

    def draw(self, solver: Any, theta: Tensor, instance: Any, target: Target) -> Draw:
        y = solver(self.perturb(solver, theta.detach()), instance)
        log_prob = solver.log_prob(theta, y)

        def surrogate(losses: Tensor) -> Tensor:
            reward = losses.detach() - self.mean
            self.mean += 0.5 * reward.mean().item()
            return losses + only_gradient(reward * sum_to(log_prob, losses.ndim))

        return Draw(y, surrogate)


class NaNAtZero(estimators.Identity):
    def project(self, solver: Any, theta: Tensor, instance: Any = None) -> Tensor:
        return theta / theta.norm(dim=-1, keepdim=True)


class GlobalGenerator(estimators.StraightThrough):
    def perturb(self, solver: Any, theta: Tensor, instance: Any = None) -> Tensor:
        return theta + torch.randn_like(theta)


class MixesRows(estimators.Identity):
    def project(self, solver: Any, theta: Tensor, instance: Any = None) -> Tensor:
        return theta / theta.norm().clamp_min(1e-6)


class NoGradient(estimators.Identity):
    def draw(self, solver: Any, theta: Tensor, instance: Any, target: Target) -> Draw:
        return Draw(solver(theta, instance))


class FlatOnly(estimators.StraightThrough):
    def draw(self, solver: Any, theta: Tensor, instance: Any, target: Target) -> Draw:
        return super().draw(solver, theta * torch.linspace(1, 2, theta.shape[-2])[:, None], instance, target)


class Exponential(estimators.Identity):
    def project(self, solver: Any, theta: Tensor, instance: Any = None) -> Tensor:
        return theta.exp()


class DecidesByProjection(estimators.Identity):
    def draw(self, solver: Any, theta: Tensor, instance: Any, target: Target) -> Draw:
        projected = theta - theta.mean(-1, keepdim=True)
        return Draw(straight_through(solver(projected, instance), projected))


class HalfPrecision(estimators.Identity):
    def draw(self, solver: Any, theta: Tensor, instance: Any, target: Target) -> Draw:
        weight = torch.linspace(0.7, 1.3, theta.shape[-1] ** 2, dtype=theta.dtype).view(theta.shape[-1], -1)
        y = solver(theta, instance)
        return Draw(y, lambda losses: losses + only_gradient((theta @ weight).sum(-1) * losses.detach()))


class NeedsGrad(estimators.Identity):
    def draw(self, solver: Any, theta: Tensor, instance: Any, target: Target) -> Draw:
        y, projected = solver(theta, instance), theta * theta
        return Draw(straight_through(y, torch.autograd.grad(projected.sum(), theta, retain_graph=True)[0] + projected))


class SamplesTheMode(estimators.StraightThrough):
    def sample(self, solver: Any, theta: Tensor, instance: Any = None) -> Tensor:
        return solver(theta, instance)


class SamplesWide(estimators.StraightThrough):
    def sample(self, solver: Any, theta: Tensor, instance: Any = None) -> Tensor:
        return super().sample(solver, theta / 3, instance)


class Undemanding(estimators.StraightThrough):
    needs = ()


class Lax(estimators.Identity):
    def _decide(self, solver: Any, theta: Tensor, instance: Any, target: Target) -> Draw:
        if not self.training:
            return Draw(solver(theta, instance))
        theta = theta if self.samples is None else theta.expand(self.samples, *theta.shape)
        return self.draw(solver, theta, instance, target)


class ByBatch(estimators.Identity):
    def project(self, solver: Any, theta: Tensor, instance: Any = None) -> Tensor:
        return theta * theta.shape[0]


@pytest.mark.parametrize(
    ("estimator", "check", "sentence"),
    [
        (IgnoresSamples(), "samples", "ignores samples"),
        (Unrepeatable(), "repeatable", "is not repeatable"),
        (DrawsInEvaluation(), "evaluation", "draws random numbers in evaluation"),
        (ChangesValue(), "value", "changes the value"),
        (NotLinear(), "loss_scale", "is not linear in the loss scale"),
        (LosesState(samples=None), "state", "loses state"),
        (NaNAtZero(), "finite_at_zero", "is not finite at theta = 0"),
        (GlobalGenerator(), "generator", "draws from the global generator"),
        (MixesRows(), "rows", "lets one input influence another"),
        (NoGradient(), "gradient", "without a gradient"),
        (FlatOnly(), "leading_dims", "breaks on leading dims"),
        (Exponential(), "large_scores", "is not finite at 30 times its scores"),
        (DecidesByProjection(), "masked_scores", "decides other than its solver where scores are -1e9"),
        (HalfPrecision(), "autocast", "does not compute in float32"),
        (NeedsGrad(), "no_grad", "raises RuntimeError"),
        (SamplesTheMode(noise=noises.Gumbel()), "sample", "has a sample that does not draw"),
        (SamplesWide(noise=noises.Gumbel()), "sample", "has a sample that is not training's"),
        (Undemanding(), "needs", "needs more of a solver than its needs"),
        (Lax(), "needs", "says that it needs 'linear' of a solver"),
        (ByBatch(), "batch_size", "depends on the size of the batch"),
    ],
)
def test_an_estimators_fault_is_named(estimator, check, sentence):
    with pytest.raises(AssertionError, match=rf"^\[{check}\] {type(estimator).__name__} .*{sentence}"):
        testing.check_estimator(estimator, solvers.OneHot(), SHAPE)


class HalfScale(noises.Normal):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value / 2)


class Skewed(noises.Gumbel):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(-value)


class Unscaled(noises.Normal):
    def sample(self, like: Tensor, generator: Any = None) -> Tensor:
        return torch.empty_like(like).normal_(generator=generator)


class Shared(noises.Normal):
    def sample(self, like: Tensor, generator: Any = None) -> Tensor:
        return super().sample(like[..., :1], generator).expand_as(like)


class Single(noises.Normal):
    def sample(self, like: Tensor, generator: Any = None) -> Tensor:
        return super().sample(like, generator).float()


class OwnGenerator(noises.Normal):
    def sample(self, like: Tensor, generator: Any = None) -> Tensor:
        return super().sample(like)


class DetachedScore(noises.Normal):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value.detach()) + 0 * value


@pytest.mark.parametrize(
    ("noise", "check", "sentence"),
    [
        (HalfScale(), "density", "integrates to 2"),
        (Skewed(), "density", "is not its samples'"),
        (Unscaled(2.0), "scale", "does not follow its scale"),
        (Shared(), "shape_and_dtype", "the same sample"),
        (Single(), "shape_and_dtype", "torch.float32 for"),
        (OwnGenerator(), "repeatable", "is not repeatable"),
        (DetachedScore(), "score", "wrong gradient"),
    ],
)
def test_a_noises_fault_is_named(noise, check, sentence):
    with pytest.raises(AssertionError, match=rf"^\[{check}\] {type(noise).__name__} .*{sentence}"):
        testing.check_noise(noise)


class NoSurrogate(Slots):
    def step(self, batch: Any) -> Step:
        (items,) = batch
        return Step(-self.value(self.decide(self.encode(items)).y @ items))

    def metrics(self, split: str) -> dict[str, Any]:
        return {}


class Detached(Slots):
    def encode(self, items: Tensor) -> Tensor:
        return super().encode(items).detach()


class Constant(Slots):
    def step(self, batch: Any) -> Step:
        losses, seen = super().step(batch)
        return Step(0 * losses, seen)


class Undeclared(Slots):
    def metrics(self, split: str) -> dict[str, Any]:
        return {}


class Fixed(Slots):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize(
    ("cls", "check", "sentence"),
    [
        (NoSurrogate, "surrogate", "does not use draw.surrogate"),
        (Detached, "losses", "are they detached"),
        (Constant, "encoder", "gives its encoder no gradient"),
        (Undeclared, "metrics", r"reports \['best', 'regret'\] in val"),
        (Fixed, "trains", "does not learn"),
    ],
)
def test_a_tasks_fault_is_named(cls, check, sentence):
    task = cls(solvers.OneHot(), estimators.StraightThrough())
    with pytest.raises(AssertionError, match=rf"^\[{check}\] {cls.__name__} .*{sentence}"):
        testing.check_task(task, [torch.rand(16, 8, 1)])


class NoTest(SlotsData):
    def datasets(self) -> Any:
        return {split: data for split, data in super().datasets().items() if split != "test"}


class Undecided(SlotsData):
    def train_dataloader(self) -> Any:
        return [[torch.rand(self.batch_size, 2)]]


class Short(SlotsData):
    def train_dataloader(self) -> Any:
        return [[torch.ones(3, 2)]]


@pytest.mark.parametrize(
    ("cls", "check", "sentence"),
    [
        (NoTest, "splits", "has no test"),
        (Undecided, "repeatable", "is not repeatable"),
        (Short, "batches", r"has a first batch of \[3\] in train, not of 32"),
    ],
)
def test_a_data_sets_fault_is_named(cls, check, sentence):
    with pytest.raises(AssertionError, match=rf"^\[{check}\] {cls.__name__} .*{sentence}"):
        testing.check_data(cls(size=100))


def test_nothing_is_changed_and_no_random_number_used():
    estimator = estimators.Score()
    state, before = torch.random.get_rng_state(), deepcopy(estimator.__dict__)
    testing.check_estimator(estimator, solvers.OneHot(), SHAPE)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert estimator.training
    assert estimator.samples == before["samples"]


def test_an_estimator_that_the_solver_cannot_serve_is_no_fault():
    with pytest.raises(Unsupported, match="has a distribution in closed form, which TopK does not claim"):
        testing.check_estimator(estimators.Score(), solvers.TopK(k=2), SHAPE)


def test_a_check_to_skip_must_exist():
    with pytest.raises(ValueError, match=r"no check .*'speed'"):
        testing.check_solver(solvers.OneHot(), SHAPE, skip=["speed"])


def test_an_exception_is_a_fault_of_the_check_that_met_it():
    class Fails(solvers.OneHot):
        def solve(self, theta: Tensor, instance: Any) -> Tensor:
            return super().solve(theta.view(-1, 5), instance).view(theta.shape) if theta.ndim < 3 else theta[7]

    with pytest.raises(AssertionError, match=r"^\[leading_dims\] Fails raises IndexError"):
        testing.check_solver(Fails(), SHAPE)


@dataclass(frozen=True)
class Costs(solvers.OneHot):
    """Takes minus costs only."""

    nonpositive = True

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        if (theta > 0).any():
            raise UserError("scores are minus costs: they must be negative")
        return super().solve(theta, instance)

    def project(self, theta: Tensor, instance: Any = None) -> Tensor:
        return theta


def test_a_solver_of_costs_is_given_costs():
    testing.check_solver(Costs(), SHAPE, skip=["distribution", "gibbs"])
