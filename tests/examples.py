"""One line for each component, small enough to enumerate: every property test runs over these tables."""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from dbp.core import Estimator, Noise, Solver
from dbp.estimators import IMLE, Blackbox, GumbelSoftmax, Identity, Perturbed, Score, StraightThrough
from dbp.noises import Gumbel, Logistic, Normal, Rademacher, SumOfGamma, Uniform
from dbp.solvers import OneHot, Threshold, TopK


class SolverExample(NamedTuple):
    solver: Solver
    shape: tuple[int, ...]  # of one input
    vertices: Tensor  # the feasible set of a linear solver, [count, *shape]


def zeros_and_ones(n: int) -> Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)))


def subsets(n: int, k: int) -> Tensor:
    cube = zeros_and_ones(n)
    return cube[cube.sum(-1) == k]


SOLVERS = {
    "one_hot": SolverExample(OneHot(), (5,), torch.eye(5)),
    "top_k": SolverExample(TopK(2), (5,), subsets(5, 2)),
    "threshold": SolverExample(Threshold(), (), zeros_and_ones(1)[:, 0]),
}

NOISES: dict[str, Noise] = {
    "normal": Normal(0.7),
    "gumbel": Gumbel(1.3),
    "logistic": Logistic(0.6),
    "uniform": Uniform(2.0),
    "rademacher": Rademacher(0.5),
    "sum_of_gamma": SumOfGamma(2.0, k=5, terms=10),
}

WITH_DENSITY = ("normal", "gumbel", "logistic")

# Each makes its estimator anew: an estimator may have state.
ESTIMATORS = {
    "identity": lambda: Identity(),
    "identity, norm, margin": lambda: Identity(projection="norm", margin=0.2),
    "identity, noise, samples": lambda: Identity(projection="none", noise=Gumbel(), samples=3),
    "straight_through": lambda: StraightThrough(),
    "straight_through, noise, samples": lambda: StraightThrough(Gumbel(), 0.7, samples=3),
    "gumbel_softmax": lambda: GumbelSoftmax(temperature=0.7),
    "blackbox": lambda: Blackbox(2.0),
    "imle": lambda: IMLE(2.0),
    "imle, samples": lambda: IMLE(2.0, SumOfGamma(k=2), samples=3),
    "perturbed": lambda: Perturbed(samples=8),
    "perturbed, gumbel": lambda: Perturbed(Gumbel(0.5), samples=8),
    "perturbed, multiplicative": lambda: Perturbed(Normal(0.5), samples=8, multiplicative=True),
    "score": lambda: Score(samples=4, noise=Normal()),
    "score, one sample": lambda: Score(samples=None, noise=Gumbel()),
}


def estimator(name: str) -> Estimator:
    return ESTIMATORS[name]()
