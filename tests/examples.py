"""One line for each component, small enough to enumerate: every property test runs over these tables."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dbp.core import Estimator, Noise, Solver
from dbp.estimators import (
    ARMS,
    DAB,
    IMLE,
    REBAR,
    RELAX,
    SIMPLE,
    ZGR,
    AdaptiveIMLE,
    Blackbox,
    Contrastive,
    DisARM,
    Exact,
    FenchelYoung,
    Gapped,
    GumbelRao,
    GumbelSoftmax,
    Identity,
    PerturbationGradient,
    Perturbed,
    Ranking,
    Score,
    SPOPlus,
    StraightThrough,
    StructuredSVM,
    Unordered,
)
from dbp.noises import Gumbel, Logistic, LogNormal, Normal, Rademacher, SumOfGamma, Uniform
from dbp.solvers import FromFunction, OneHot, Permutation, Rank, Sort, Threshold, TopK


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
    "perturbed, multiplicative": lambda: Perturbed(LogNormal(0.5), samples=8),
    "score": lambda: Score(samples=4, noise=Normal()),
    "score, one sample": lambda: Score(samples=None, noise=Gumbel()),
}


def estimator(name: str) -> Estimator:
    return ESTIMATORS[name]()


N = 6  # scores of a decision in the pairs below


class Control(nn.Module):
    """One value for each decision of the last dim."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(N, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, soft: Tensor) -> Tensor:
        return self.layers(soft).squeeze(-1)


def bridge(out: int = N) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(N), nn.Linear(N, 16), nn.Tanh(), nn.Linear(16, out))


SORT, RANK, MATRIX = Sort(), Rank(), Permutation()

# Estimators with the solver that each is for.
Case = tuple[Solver, Callable[[], Estimator]]
PLAIN: dict[str, Case] = {
    "adaptive_imle": (TopK(2), AdaptiveIMLE),
    "adaptive_imle, two-sided": (OneHot(), lambda: AdaptiveIMLE(two_sided=True, samples=3)),
    "blackbox, two-sided": (TopK(2), lambda: Blackbox(3.0, two_sided=True)),
    "imle, two-sided": (TopK(2), lambda: IMLE(3.0, samples=2, two_sided=True)),
    "imle, co": (TopK(2), lambda: IMLE(3.0, target="co", target_temperature=0.5)),
    "straight_through": (OneHot(), lambda: StraightThrough(Gumbel(), anneal=0.1)),
    "gumbel_softmax": (TopK(2), lambda: GumbelSoftmax(anneal=0.1)),
    "gumbel_rao": (OneHot(), lambda: GumbelRao(0.5, 4, samples=2)),
    "gumbel_rao, binary": (Threshold(), GumbelRao),
    "gapped": (OneHot(), lambda: Gapped(samples=2)),
    "gapped, binary": (Threshold(), lambda: Gapped(gap=None)),
    "zgr": (OneHot(), lambda: ZGR(samples=2)),
    "zgr, binary": (Threshold(), ZGR),
    "gumbel_softmax, entmax": (OneHot(relaxation="entmax"), lambda: GumbelSoftmax(Gumbel())),
    "straight_through, sparsemax": (
        OneHot(relaxation="entmax", alpha=2.0),
        lambda: StraightThrough(Gumbel(), samples=2),
    ),
    "straight_through, entmax by bisection": (OneHot(relaxation="entmax", alpha=1.3), StraightThrough),
    "straight_through, budget": (TopK(2, relaxation="budget"), StraightThrough),
    "gumbel_softmax, ranks": (RANK, lambda: GumbelSoftmax(samples=2)),
    "straight_through, values": (Sort(relaxation="network"), StraightThrough),
    "gumbel_softmax, matrix": (Permutation(relaxation="neural_sort"), lambda: GumbelSoftmax(Normal())),
    "straight_through, soft_sort": (Rank(relaxation="soft_sort"), StraightThrough),
    "simple": (TopK(2), lambda: SIMPLE(samples=2)),
    "perturbed, antithetic": (TopK(2), lambda: Perturbed(Normal(), 4, antithetic=True)),
    "perturbed, both": (TopK(2), lambda: Perturbed(LogNormal(), 4, antithetic=True)),
    "score, average": (OneHot(), lambda: Score(2, baseline="average")),
    "score, none": (Threshold(), lambda: Score(2, baseline="none")),
    "disarm": (Threshold(), lambda: DisARM(4)),
    "arms": (Threshold(), lambda: ARMS(3)),
}
CHANGED: dict[str, Case] = {  # their surrogates change the value of the losses, or their shape
    "dab": (TopK(2), lambda: DAB(bridge(), 0.5)),
    "dab, sort": (FromFunction(lambda x: x.sort(-1).values[..., :2]), lambda: DAB(bridge(2), 1.0, True, Normal(), 2)),
    "rebar": (OneHot(), REBAR),
    "rebar, binary": (Threshold(), lambda: REBAR(samples=2)),
    "relax": (OneHot(), lambda: RELAX(Control())),
    "relax, black box": (Threshold(), lambda: RELAX(Control(), black_box=True, samples=2)),
    "exact": (TopK(2), Exact),
    "exact, joint": (Threshold(), lambda: Exact(joint=1)),
    "unordered": (TopK(2), lambda: Unordered(3)),
    "fenchel_young": (TopK(2), lambda: FenchelYoung(Normal(), 4)),
    "fenchel_young, entropy": (TopK(2), lambda: FenchelYoung(None)),
    "fenchel_young, antithetic": (OneHot(), lambda: FenchelYoung(Logistic(), 4, antithetic=True)),
    "spo_plus": (TopK(2), SPOPlus),
    "perturbation_gradient": (TopK(2), PerturbationGradient),
    "structured_svm": (TopK(2), StructuredSVM),
    "contrastive": (TopK(2), lambda: Contrastive(capacity=9)),
    "contrastive, map": (TopK(2), lambda: Contrastive("map", capacity=9, solve_ratio=0.5)),
    "contrastive, binary": (Threshold(), lambda: Contrastive(capacity=9)),
    "ranking, pointwise": (TopK(2), lambda: Ranking("pointwise", capacity=9)),
    "ranking, pairwise": (TopK(2), lambda: Ranking("pairwise", capacity=9, solve_ratio=0.5)),
    "ranking, listwise": (TopK(2), lambda: Ranking("listwise", capacity=9)),
}
