"""The whole vocabulary: Noise, Solver, Tractable, Estimator. Read this first.

    x --encoder--> theta --solver--> y --decoder, criterion--> losses

theta are scores: a linear solver returns the y of its feasible set that maximises `<theta, y>`. Every tensor is
`[*samples, *batch, *event]`; a solver takes any leading dims in one call and declares only `event_dim`, the number of
trailing dims that make one input. Losses have the shape of leading dims of y: what is summed into one loss is one
joint decision.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from dbp.errors import Unsupported, UserError
from dbp.scores import require_finite


@dataclass(frozen=True)
class Noise(ABC):
    """An elementwise distribution; `scale` multiplies a standard variable. The only source of randomness."""

    scale: float = 1.0
    symmetric: ClassVar[bool] = False  # whether -Z has the distribution of Z

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise UserError(f"{type(self).__name__}: scale must be positive, got {self.scale}")

    @abstractmethod
    def sample(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws with the shape, dtype and device of `like`."""

    def around(
        self, centre: Tensor, samples: int, generator: torch.Generator | None = None
    ) -> Callable[[int, int], Tensor]:
        """`centre + Z` of so many samples: hands out those from `begin` to `end`, the same whenever they are asked for.

        Noise that is made by a counter does not keep them.
        """
        kept = centre + self.sample(centre.expand(samples, *centre.shape), generator)
        return lambda begin, end: kept[begin:end]

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density of each element, differentiable in `value`."""
        raise Unsupported(
            f"{type(self).__name__} noise has no differentiable density; "
            "use normal, gumbel or logistic noise, or an estimator that needs none (imle, identity, straight_through)"
        )

    @torch.compiler.disable
    def score(self, value: Tensor) -> Tensor:
        """The derivative of the log-density of each element; no gradient."""
        with torch.enable_grad():
            leaf = value.detach().requires_grad_()
            return torch.autograd.grad(self.log_prob(leaf).sum(), leaf)[0]


class Solver(ABC):
    """A hard function of scores: no parameters, no gradient, no randomness. Subclasses are frozen dataclasses."""

    event_dim: int = 1
    binary: bool = False  # whether all decisions consist of zeros and ones
    subset: int | None = None  # k, if the decisions are all the 0/1 vectors of the last dim with k ones
    noise: ClassVar[Noise | None] = None  # under which `solver(theta + noise)` draws the solver's natural distribution

    def __call__(self, theta: Tensor, instance: Any = None) -> Tensor:
        """The decision for each input: `argmax_y <theta, y>`, or any hard function of theta.

        Args:
            theta: `[*leading, *event]`, finite scores. The decision has its dtype and device.
            instance: what else defines the problem (a graph, capacities); it broadcasts against the leading dims.

        Raises:
            UserError: theta has too few dims, or is no dense tensor of real numbers, or has NaN or infinite scores
                (looked for on the CPU, where it costs no synchronisation).
        """
        if not isinstance(theta, Tensor):
            raise UserError(f"{type(self).__name__} takes scores in a tensor, got {type(theta).__name__}")
        if theta.ndim < self.event_dim:
            raise UserError(
                f"{type(self).__name__} takes scores of at least {self.event_dim} dims, got shape {list(theta.shape)}"
            )
        recording = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)  # what torch.no_grad calls, in a fifth of its time
        try:
            require_finite(theta, self.event_dim, type(self).__name__)
            return self.solve(theta, instance)
        finally:
            torch._C._set_grad_enabled(recording)

    @abstractmethod
    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        """What `__call__` returns, for checked scores."""

    def project(self, theta: Tensor) -> Tensor:
        """Drops what `solve` ignores: `solve(project(theta)) == solve(theta)`. Differentiable."""
        return theta

    def relax(self, theta: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """A differentiable stand-in with the shape of y, closer to it the lower the temperature."""
        raise Unsupported(
            f"{type(self).__name__} has no relaxation; estimators that need none: identity, blackbox, imle, perturbed"
        )

    def is_feasible(self, y: Tensor, instance: Any = None) -> Tensor:
        """Whether each y of `[*leading, *event]` is a decision that some scores get; booleans of the leading dims."""
        raise Unsupported(f"{type(self).__name__} cannot tell which decisions are feasible")

    def vertices(self, shape: tuple[int, ...], instance: Any = None) -> Tensor:
        """All decisions for scores of this event shape, `[count, *event]`; for small sizes, as there are many."""
        raise Unsupported(
            f"{type(self).__name__} cannot enumerate its decisions; estimators that need not: identity, imle, "
            "perturbed, and dab for solvers that do not maximise <theta, y>"
        )


class Tractable(Solver):
    """A solver for which `y = solver(theta + noise)` has a distribution in closed form."""

    noise: ClassVar[Noise]

    @abstractmethod
    def log_prob(self, theta: Tensor, y: Tensor) -> Tensor:
        """`log P(solver(theta + noise) = y)`, of the leading dims, differentiable in theta."""

    @abstractmethod
    def conditional(self, theta: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A draw of `theta + noise`, given that it solves to y; differentiable in theta."""


class Target(NamedTuple):
    """What a supervised estimator may learn from: the right decision, or the right scores."""

    y: Tensor | None = None
    theta: Tensor | None = None


_AS_IT_IS = nullcontext()


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Turns autocast off, if it is on: to enter a context takes as long as two small operations."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else _AS_IT_IS


def widened(theta: Tensor) -> Tensor:
    """Scores in float32 or more."""
    return theta if theta.dtype == torch.float32 else theta.to(torch.promote_types(theta.dtype, torch.float32))


def unchanged(losses: Tensor) -> Tensor:
    """The surrogate of an estimator whose gradient needs nothing but autograd through y."""
    return losses


class Draw(NamedTuple):
    """A decision, and the map of the losses it causes to losses of the same value with the right gradient."""

    y: Tensor
    surrogate: Callable[[Tensor], Tensor] = unchanged


class Estimator(nn.Module, ABC):
    """A stand-in for the derivative of a solver. In eval mode it is the plain solver and draws nothing.

    What matters later is a parameter or a buffer: what is not in `state_dict` does not survive a resumed run.
    """

    samples: int | None = None  # decisions drawn for each input, in a new leading dim; None adds no dim
    noise: Noise | None = None
    generator: torch.Generator | None = None
    repeats: bool = True  # whether `draw` gets theta once for each sample; else it makes the samples itself
    averages: bool = False  # whether y is the mean of samples that `draw` makes, and has no dim for them
    gibbs: bool = False  # whether y has probability proportional to exp <theta, y>; else it is solver(theta + noise)

    def forward(self, solver: Solver, theta: Tensor, instance: Any = None, target: Target = Target()) -> Draw:
        """Decides, and says how the losses of the decision reach theta.

        Args:
            solver: the hard function.
            theta: `[*batch, *event]` scores. What is computed with them is in float32 or more; the decision has their
                dtype again, and under autocast that of the computation.
            instance: handed to the solver.
            target: for estimators that learn from the right answer.

        Returns:
            A `Draw`: `y` of `[*samples, *batch, *event]`, and the `surrogate` to apply to its losses.
        """
        device = theta.device.type
        with without_autocast(device):
            y, surrogate = self._decide(solver, widened(theta), instance, target)
        if y.dtype != theta.dtype and not torch.is_autocast_enabled(device):
            y = y.to(theta.dtype)
        return Draw(y, lambda losses: surrogate(_of_leading_dims(losses, y)))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Estimator":
        """Scalars of its state keep their precision: in a model of bfloat16 throughout, small steps would be lost."""
        scalars = {
            name: x for name, x in self._buffers.items() if x is not None and x.is_floating_point() and not x.ndim
        }
        super()._apply(fn, recurse)
        for name, x in scalars.items():
            moved = self._buffers[name]
            if moved is not None and moved.dtype.itemsize < x.dtype.itemsize:
                self._buffers[name] = x.to(moved.device)
        return self

    def _decide(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        if not self.training:
            return Draw(solver(theta, instance))
        if self.samples is not None and self.repeats and not self.averages:
            theta = theta.expand(self.samples, *theta.shape)
        return self.draw(solver, theta, instance, target)

    @abstractmethod
    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        """The decision and the surrogate, for theta that has its samples dim, if `repeats` and not `averages`."""

    def perturb(self, solver: Solver, theta: Tensor) -> Tensor:
        """`theta + Z`, or theta itself where the estimator has no noise."""
        return theta if self.noise is None else theta + self.noise.sample(theta, self.generator)

    @torch.no_grad()
    def sample(self, solver: Solver, theta: Tensor, instance: Any = None) -> Tensor:
        """A decision as training draws it, `solver(theta + Z)`, in eval mode too; no gradient."""
        with without_autocast(theta.device.type):
            return solver(self.perturb(solver, widened(theta)), instance).to(theta.dtype)


def _of_leading_dims(losses: Tensor, y: Tensor) -> Tensor:
    if losses.shape != y.shape[: losses.ndim]:
        raise UserError(
            f"losses of shape {list(losses.shape)} do not match decisions of shape {list(y.shape)}: "
            "reduce them to one loss for each decision (leading dims of y), and take the mean afterwards"
        )
    return losses
