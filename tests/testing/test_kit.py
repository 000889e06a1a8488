"""The kit finds each planted fault and names it, and no fault in what dbp ships."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from dbp import estimators, noises, solvers, testing
from dbp.core import Draw, Estimator, Noise, Target
from dbp.data import SlotsData
from dbp.errors import Unsupported
from dbp.gradients.rules import only_gradient, straight_through
from dbp.shapes import sum_to
from dbp.tasks import DVAE, VAE, Slots, Sorting
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
        return super().solve(theta.masked_fill(super().solve(theta, instance).bool(), -1e9), instance)

    def project(self, theta: Tensor) -> Tensor:
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
    def project(self, theta: Tensor) -> Tensor:
        return theta - theta.mean(-1, keepdim=True)


class InPlace(solvers.OneHot):
    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        return super().solve(theta.sub_(theta.mean()), instance)


class WrongProbability(solvers.OneHot):
    def log_prob(self, theta: Tensor, y: Tensor) -> Tensor:
        return super().log_prob(2 * theta, y)


class Unlisted(solvers.TopK):
    def vertices(self, shape: Any, instance: Any = None) -> Tensor:
        return super().vertices(shape, instance)[1:]


class NotBinary(solvers.Sort):
    binary = True


class NeverClose(solvers.OneHot):
    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        return theta.softmax(-1)


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
    def project(self, solver: Any, theta: Tensor) -> Tensor:
        return theta / theta.norm(dim=-1, keepdim=True)


class GlobalGenerator(estimators.StraightThrough):
    def perturb(self, solver: Any, theta: Tensor) -> Tensor:
        return theta + torch.randn_like(theta)


class MixesRows(estimators.Identity):
    def project(self, solver: Any, theta: Tensor) -> Tensor:
        return theta / theta.norm().clamp_min(1e-6)


class NoGradient(estimators.Identity):
    def draw(self, solver: Any, theta: Tensor, instance: Any, target: Target) -> Draw:
        return Draw(solver(theta, instance))


class FlatOnly(estimators.StraightThrough):
    def draw(self, solver: Any, theta: Tensor, instance: Any, target: Target) -> Draw:
        return super().draw(solver, theta * torch.linspace(1, 2, theta.shape[-2])[:, None], instance, target)


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
        (NoGradient(), "gradient", "gives theta no gradient"),
        (FlatOnly(), "leading_dims", "breaks on leading dims"),
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


@pytest.mark.parametrize("estimator", [estimators.IMLE(lam=100.0), estimators.Score(), estimators.Perturbed()])
def test_the_tasks_pass(estimator):
    testing.check_task(Slots(solvers.OneHot(), estimator), [torch.rand(16, 8, 1)])
    dvae = DVAE(solvers.OneHot(), estimator, shape=(4, 4), rows=2, columns=3, hidden=(8,))
    testing.check_task(dvae, [torch.rand(16, 4, 4)])


@pytest.mark.parametrize("estimator", [estimators.REBAR(), estimators.DisARM(), estimators.Score()])
def test_tasks_with_decisions_in_a_row_pass(estimator):
    vae = VAE(solvers.Threshold(), estimator, shape=(4, 4), latents=6, layers=2)
    testing.check_task(vae, [torch.rand(16, 4, 4).round()])
    numbers = torch.rand(16, 3)
    sorting = Sorting(solvers.Threshold(), estimator, length=3, model="lstm", hidden=(8,), width=6, ponder=2)
    testing.check_task(sorting, [numbers, numbers.argsort()])


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


def test_the_data_pass():
    testing.check_data(SlotsData(size=100))


SOLVERS = [
    (solvers.OneHot(), (5,)),
    (solvers.OneHot(), (2, 4)),
    (solvers.TopK(k=2), (5,)),
    (solvers.Threshold(), ()),
    (solvers.Threshold(), (4,)),
    (solvers.FromFunction(lambda theta: theta.sort(-1).values[:, :2].round()), (5,)),
]
ESTIMATORS = [
    estimators.Identity(),
    estimators.Identity(noise=noises.Gumbel(), margin=0.1, samples=2),
    estimators.StraightThrough(),
    estimators.StraightThrough(noise=noises.Normal(), temperature=0.5, samples=2),
    estimators.GumbelSoftmax(),
    estimators.Blackbox(),
    estimators.IMLE(),
    estimators.IMLE(lam=10.0, noise=noises.SumOfGamma(k=2), samples=2),
    estimators.Perturbed(),
    estimators.Perturbed(noises.LogNormal(), samples=4),
    estimators.Score(),
    estimators.Score(samples=None, noise=noises.Normal()),
]
NOISES: list[Noise] = [
    noises.Normal(0.3),
    noises.Gumbel(2.0),
    noises.Logistic(),
    noises.Uniform(),
    noises.Rademacher(),
    noises.SumOfGamma(k=3),
]


@pytest.mark.parametrize(("solver", "shape"), SOLVERS)
def test_the_solvers_pass(solver, shape):
    testing.check_solver(solver, shape)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_estimators_pass(estimator):
    passed = 0
    for solver, shape in SOLVERS[:-1]:
        try:
            testing.check_estimator(estimator, solver, shape)
            passed += 1
        except Unsupported:
            continue
    assert passed >= 3


@pytest.mark.parametrize("noise", NOISES, ids=repr)
def test_the_noises_pass(noise):
    testing.check_noise(noise)


def test_nothing_is_changed_and_no_random_number_used():
    estimator = estimators.Score()
    state, before = torch.random.get_rng_state(), deepcopy(estimator.__dict__)
    testing.check_estimator(estimator, solvers.OneHot(), SHAPE)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert estimator.training
    assert estimator.samples == before["samples"]


def test_an_estimator_that_the_solver_cannot_serve_is_no_fault():
    with pytest.raises(Unsupported, match="TopK has no distribution in closed form"):
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

    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        if (theta > 0).any():
            raise Unsupported("scores are minus costs: they must be negative")
        return super().solve(theta, instance)

    def project(self, theta: Tensor) -> Tensor:
        return theta

    def log_prob(self, theta: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError


def test_a_solver_of_costs_is_given_costs():
    testing.check_solver(Costs(), SHAPE, skip=["distribution"])
