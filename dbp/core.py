"""The whole vocabulary: Noise, Solver, Estimator, Draw, Target. Read this first.

    x --encoder--> theta --solver--> y --decoder, criterion--> losses

theta are scores: a linear solver returns the y of its feasible set that maximises `<theta, y>`. Every tensor is
`[*samples, *batch, *event]`; a solver takes any leading dims in one call. Losses have the shape of leading dims of y:
everything summed into one loss is one joint decision. A solver declares what it is, an estimator what it needs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from dbp.errors import Unsupported, UserError
from dbp.native.ops import eager
from dbp.native.torch_private import set_grad_enabled
from dbp.registry.described import described
from dbp.scores import (
    keeping_scalars,
    losses_of,
    require_instance,
    require_scores,
    unsupported,
    untaught,
    widened,
    without_autocast,
)
from dbp.shapes import align

Instance = Mapping[str, Any] | None  # problem data besides the scores, by name; null for none
Slices = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class Noise(ABC):
    """An elementwise distribution; `scale` multiplies a standard variable. The only source of randomness."""

    scale: float = 1.0
    symmetric: ClassVar[bool] = False  # -Z has the distribution of Z

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise UserError(f"{type(self).__name__}: scale must be positive, got {self.scale}")

    @abstractmethod
    def sample(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws with the shape, dtype and device of `like`."""

    def perturb(self, theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The perturbed scores `theta + Z`; differentiable in theta. Noise that multiplies overrides it."""
        return theta + self.sample(theta, generator)

    def around(self, theta: Tensor, samples: int, generator: torch.Generator | None = None) -> Slices:
        """A function that returns samples `begin` to `end` of the perturbed scores, the same ones at every call."""
        kept = self.perturb(theta.expand(samples, *theta.shape), generator)
        return lambda begin, end: kept[begin:end]

    def opposite(self, theta: Tensor, noisy: Tensor) -> Tensor:
        """The scores perturbed by -Z instead of Z."""
        return 2 * theta - noisy

    def slope(self, theta: Tensor, noisy: Tensor, y: Tensor) -> Tensor:
        """The gradient of `<noisy, y>` in theta, of each sample."""
        return y

    def weighted_score(self, theta: Tensor, noisy: Tensor, weight: Tensor) -> Tensor:
        """`sum_s weight_s` times minus the gradient in theta of the log-density of sample s of the perturbed scores."""
        score = self.score(noisy - theta)
        return (align(weight, score.ndim) * score).sum(0)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density of each element, differentiable in `value`."""
        raise Unsupported(f"{type(self).__name__} noise has no differentiable density; normal, gumbel and logistic do")

    @eager
    def score(self, value: Tensor) -> Tensor:
        """The derivative of the log-density of each element; no gradient."""
        with torch.enable_grad():
            leaf = value.detach().requires_grad_()
            return torch.autograd.grad(self.log_prob(leaf).sum(), leaf)[0]


class Solver(ABC):
    """A hard function of scores: no parameters, no gradient, no randomness. Subclasses are frozen dataclasses.

    The attributes declare what it is; the optional methods what it offers. All of them take the instance.
    """

    event_dim: int = 1  # trailing dims of theta that make one input
    linear: bool = True  # y maximises <theta, y> over a set that does not depend on theta
    nonpositive: bool = False  # theta are minus costs: positive scores are refused
    binary: bool = False  # decisions consist of zeros and ones
    instance_keys: tuple[str, ...] | None = ()  # names that an instance may have; null for any
    noise: ClassVar[Noise | None] = None  # under which `solver(theta + Z)` has the solver's own distribution

    def __call__(self, theta: Tensor, instance: Instance = None) -> Tensor:
        """The decision for each input: `argmax_y <theta, y>`, or any hard function of theta.

        Args:
            theta: `[*leading, *event]`, finite scores. The decision has its dtype and device.
            instance: a mapping from names to tensors, shared by all inputs or with leading dims of their own.

        Raises:
            UserError: theta has too few dims, is no dense tensor of real numbers, or has NaN or infinite scores
                (looked for on the CPU, where it costs no synchronisation); or the instance does not fit.
        """
        require_scores(theta, self.event_dim, self)
        if instance is not None:
            require_instance(instance, self.instance_keys, self)
        recording = torch.is_grad_enabled()
        set_grad_enabled(False)
        try:
            return self.solve(theta, instance)
        except Exception as error:
            error.scores = theta  # type: ignore[attr-defined]  # whoever reports the error may keep them
            raise
        finally:
            set_grad_enabled(recording)

    @abstractmethod
    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        """Returns what `__call__` promises, for scores that have been checked."""

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        """theta without what `solve` ignores: `solve(project(theta)) == solve(theta)`. Differentiable."""
        return theta

    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0, instance: Instance = None) -> Tensor:
        """A differentiable stand-in with the shape of y, closer to it the lower the temperature."""
        raise unsupported(self, "relax")

    def log_partition(self, theta: Tensor, instance: Instance = None) -> Tensor:
        """`log sum_y exp <theta, y>`, of the leading dims, up to a constant; its gradient are the marginals."""
        raise unsupported(self, "log_partition")

    @eager  # compiled graphs have no second derivative
    def marginals(self, theta: Tensor, instance: Instance = None) -> Tensor:
        """The mean decision if y has probability proportional to `exp <theta, y>`; differentiable in theta."""
        wanted = torch.is_grad_enabled() and theta.requires_grad
        with torch.enable_grad():
            leaf = theta if wanted else theta.detach().requires_grad_()
            (mean,) = torch.autograd.grad(self.log_partition(leaf, instance).sum(), leaf, create_graph=wanted)
            return mean + 0 * leaf if wanted and not mean.requires_grad else mean  # constant, as of no edges

    def log_prob(self, theta: Tensor, y: Tensor, instance: Instance = None) -> Tensor:
        """`log P(solver(theta + Z) = y)` for its own noise Z, of the leading dims, differentiable in theta."""
        raise unsupported(self, "log_prob")

    def conditional(
        self, theta: Tensor, y: Tensor, generator: torch.Generator | None = None, instance: Instance = None
    ) -> Tensor:
        """A draw of `theta + Z`, for its own noise Z, given that it solves to y; differentiable in theta."""
        raise unsupported(self, "conditional")

    def sample_gibbs(
        self, theta: Tensor, generator: torch.Generator | None = None, instance: Instance = None
    ) -> Tensor:
        """A decision y with probability proportional to `exp <theta, y>`; no gradient."""
        raise unsupported(self, "sample_gibbs")

    def lead(self, theta: Tensor, instance: Instance = None) -> Tensor:
        """`<theta, y - y'>`, of the best decision y and the second best y', of the leading dims."""
        raise unsupported(self, "lead")

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        """True where y of `[*leading, *event]` is a decision that some scores get; booleans of the leading dims."""
        raise Unsupported(f"{type(self).__name__} cannot tell which decisions are feasible")

    def vertices(self, shape: tuple[int, ...], instance: Instance = None) -> Tensor:
        """All decisions for scores of this event shape, `[count, *event]`; for small sizes, as there are many."""
        raise unsupported(self, "vertices")

    @property
    def elementwise(self) -> bool:
        """It decides each score for itself."""
        return self.event_dim == 0

    def offers(self, what: str) -> bool:
        """True if the solver declares this property, or implements this optional method."""
        own = getattr(type(self), what)
        return own is not getattr(Solver, what) if callable(own) else bool(getattr(self, what))


class Target(NamedTuple):
    """The right decision, or the right scores, for estimators that learn from them."""

    y: Tensor | None = None
    theta: Tensor | None = None


def unchanged(losses: Tensor) -> Tensor:
    """The surrogate of an estimator whose gradient needs nothing but autograd through y."""
    return losses


class Draw(NamedTuple):
    """A decision, and the map of the losses it causes to losses of the same value with the right gradient."""

    y: Tensor
    surrogate: Callable[[Tensor], Tensor] = unchanged


class Estimator(nn.Module, ABC):
    """A stand-in for the derivative of a solver. In eval mode it is the plain solver and draws nothing.

    State that matters later is a parameter or a buffer: anything outside of `state_dict` does not survive a resume.
    """

    needs: tuple[str, ...] = ()  # of a solver: names of properties and optional methods
    remedies: Mapping[str, str] = {}  # the end of the message that a solver lacks one of them
    supervised: str = ""  # the target that it cannot do without: "decision" (or the scores of one) or "scores"
    samples: int | None = None  # decisions drawn for each input, in a new leading dim; null adds no dim
    noise: Noise | None = None
    generator: torch.Generator | None = None
    repeats: bool = True  # `draw` gets theta once for each sample; else it makes the samples itself
    gibbs: bool = False  # y has probability proportional to exp <theta, y>; else it is solver(theta + noise)

    def forward(self, solver: Solver, theta: Tensor, instance: Instance = None, target: Target = Target()) -> Draw:
        """Decides, and says how the losses of the decision reach theta.

        Args:
            solver: the hard function.
            theta: `[*batch, *event]` scores. Computation is in float32 or more; the decision has theta's dtype again,
                and under autocast that of the computation.
            instance: handed to the solver.
            target: for estimators that learn from the right answer.

        Returns:
            A `Draw`: `y` of `[*samples, *batch, *event]`, and the `surrogate` to apply to its losses.

        Raises:
            Unsupported: the solver lacks what this estimator needs; the message names estimators that work.
        """
        require_scores(theta, solver.event_dim, solver)
        device = theta.device.type
        with without_autocast(device):
            y, surrogate = self._decide(solver, widened(theta), instance, target)
        if y.dtype != theta.dtype and not torch.is_autocast_enabled(device):
            y = y.to(theta.dtype)
        return Draw(y, lambda losses: surrogate(losses_of(y, losses)))

    def _decide(self, solver: Solver, theta: Tensor, instance: Instance, target: Target) -> Draw:
        if not self.training:
            return Draw(solver(theta, instance))
        for what in self.needs:
            if not solver.offers(what):
                raise unsupported(solver, what, self)
        if self.supervised and target.theta is None and (self.supervised == "scores" or target.y is None):
            raise untaught(self, solver)
        if self.samples is not None and self.repeats:
            theta = theta.expand(self.samples, *theta.shape)
        draw = self.draw(solver, theta, instance, target)
        if not isinstance(draw, Draw):
            raise UserError(f"{type(self).__name__}.draw returned {type(draw).__name__}: return dbp.Draw(y)")
        lost = theta.requires_grad and draw.surrogate is unchanged and not draw.y.requires_grad
        if lost and torch.is_grad_enabled():
            raise UserError(f"{type(self).__name__}.draw returned a y without a gradient and no surrogate")
        return draw

    @abstractmethod
    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        """The decision and the surrogate, for theta that has its samples dim if the estimator `repeats`."""

    def perturb(self, solver: Solver, theta: Tensor, instance: Instance = None) -> Tensor:
        """`theta + Z`, or theta itself where the estimator has no noise."""
        return theta if self.noise is None else self.noise.perturb(theta, self.generator)

    @torch.no_grad()
    def sample(self, solver: Solver, theta: Tensor, instance: Instance = None) -> Tensor:
        """A decision as training draws it, `solver(theta + Z)`, in eval mode too; no gradient."""
        with without_autocast(theta.device.type):
            return solver(self.perturb(solver, widened(theta), instance), instance).to(theta.dtype)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        try:
            signature(cls.draw).bind(None, None, None, None, None)
        except TypeError:
            raise UserError(f"{cls.__name__}.draw must take (solver, theta, instance, target)") from None

    def __getattr__(self, name: str) -> Any:
        if "_parameters" not in self.__dict__ and not name.startswith("__"):
            raise UserError(f"{type(self).__name__}.__init__ must call super().__init__() first")
        return super().__getattr__(name)

    def extra_repr(self) -> str:
        return described(self)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Estimator":
        return keeping_scalars(self, lambda: super(Estimator, self)._apply(fn, recurse))
