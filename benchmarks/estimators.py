"""Estimators against other projects' code for them: `python -m benchmarks.estimators [WORK ...]` writes estimators.md.

A step is forward, squared error and backward for a batch of 32, with the same solver of ours in every layer. `least`
is what no layer can do without (benchmarks/layers.py). How to add a work, and `--check`: as in benchmarks/solvers.py.
"""

import platform
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks import estimators_memory
from benchmarks.layers import Layer, gammas, least, perturbed_optimizer, pyepo, torch_imle
from benchmarks.report import Case, Work, run
from benchmarks.timing import Candidates
from dbp.core import Estimator, Solver
from dbp.estimators import IMLE, Blackbox, Identity, Perturbed
from dbp.native import ops
from dbp.noises import Normal, SumOfGamma
from dbp.solvers import GridPath, OneHot, TopK

BATCH = 32
LAM = 10.0
K = 10


class Problem(NamedTuple):
    name: str
    solver: Solver
    theta: Tensor  # [BATCH, *event]
    goal: Tensor


def problems() -> Iterator[Problem]:
    solvers: dict[str, tuple[Solver, tuple[int, ...]]] = {
        "grid_path 12 x 12": (GridPath(clip=True), (12, 12)),
        "one_hot of 100": (OneHot(), (100,)),
        "top 10 of 1000": (TopK(10), (1000,)),
    }
    for name, (solver, shape) in solvers.items():
        theta, other = -1 - 4 * torch.rand(2, BATCH, *shape)
        yield Problem(name, solver, theta.requires_grad_(), solver(other))


def losses(y: Tensor, problem: Problem, goal: Tensor) -> Tensor:
    return (y - goal).square().flatten(y.ndim - problem.solver.event_dim).sum(-1)


def ours(problem: Problem, estimator: Estimator) -> Callable[[], None]:
    def step() -> None:
        problem.theta.grad = None
        draw = estimator(problem.solver, problem.theta)
        draw.surrogate(losses(draw.y, problem, problem.goal)).mean().backward()

    return step


def theirs(problem: Problem, layer: Layer, folded: int = 1) -> Callable[[], None]:
    """The step of a layer whose batch holds so many samples of each input."""
    goal = problem.goal.repeat_interleave(folded, 0)

    def step() -> None:
        problem.theta.grad = None
        losses(layer(problem.theta), problem, goal).mean().backward()

    return step


def imle() -> Iterator[Case]:
    for problem in problems():
        solver, shape, noise = problem.solver, tuple(problem.theta.shape[1:]), SumOfGamma(k=K)
        for s in (1, 10, 100):
            candidates: Candidates = {
                "ours": ours(problem, IMLE(LAM, noise, s)),
                "least": theirs(problem, least(solver, noise, s, calls=2, mean=False)),
                "torch-imle": theirs(problem, torch_imle(solver, K, LAM / BATCH, s), folded=s),
                "PyEPO": theirs(problem, pyepo("implicitMLE", solver, shape, n_samples=s, lambd=LAM)),
            }
            targets = {"least": 1 / 1.6} if s == 1 else {"least": 1 / 1.3, "torch-imle": 50, "PyEPO": 50}
            yield Case(f"{problem.name}, S = {s}", 1, candidates, targets=targets, limit="least")


def perturbed() -> Iterator[Case]:
    for problem in problems():
        solver, shape, noise = problem.solver, tuple(problem.theta.shape[1:]), Normal()
        for s in (1, 10, 100):
            candidates: Candidates = {
                "ours": ours(problem, Perturbed(noise, s)),
                "least": theirs(problem, least(solver, noise, s, calls=1, mean=True)),
                "published": theirs(problem, perturbed_optimizer(solver, 1.0, s)),
                "PyEPO": theirs(problem, pyepo("perturbedOpt", solver, shape, n_samples=s)),
            }
            targets = {"least": 1 / (1.6 if s == 1 else 1.3), "published": 2, "PyEPO": 7}
            yield Case(f"{problem.name}, S = {s}", 1, candidates, targets=targets, limit="least")


def one_decision(estimator: Callable[[], Estimator], calls: int, kind: str) -> Iterator[Case]:
    for problem in problems():
        candidates: Candidates = {
            "ours": ours(problem, estimator()),
            "least": theirs(problem, least(problem.solver, None, None, calls, mean=False)),
            "PyEPO": theirs(problem, pyepo(kind, problem.solver, tuple(problem.theta.shape[1:]))),
        }
        yield Case(problem.name, 1, candidates, targets={"least": 1 / 1.6, "PyEPO": 4}, limit="least")


def sum_of_gamma() -> Iterator[Case]:
    for size in (10_000, 100_000, 1_000_000):
        like, noise = torch.empty(size), SumOfGamma(k=K)
        candidates: Candidates = {
            "ours": partial(noise.sample, like),
            "ten Gamma draws": partial(gammas, like.shape, K),
            "one normal draw": partial(Normal().sample, like),
        }
        yield Case(f"{size} numbers", 1, candidates, targets={"ten Gamma draws": 50})


WORKS: dict[str, Work] = {
    "imle": imle,
    "perturbed": perturbed,
    "identity": partial(one_decision, partial(Identity, "none"), 1, "negativeIdentity"),
    "blackbox": partial(one_decision, partial(Blackbox, LAM), 2, "blackboxOpt"),
    "sum_of_gamma": sum_of_gamma,
}


if __name__ == "__main__":
    words = sys.argv[1:]
    head = (
        "# Estimators, side by side\n\nMicroseconds for one step (forward and backward of a batch of "
        f"{BATCH}) on one thread, float32; the others as\nmultiples of it. `least` is what no layer can do without: "
        "noise, solver calls, one copy, a bare step of autograd.\nWritten by `python -m benchmarks.estimators`. "
        f"{platform.machine()}, torch {torch.__version__}, {ops.status()}.\n"
    )
    head += "" if words else "\n" + estimators_memory.table()
    sys.exit(run(WORKS, head, Path(__file__).with_name("estimators.md"), words))
