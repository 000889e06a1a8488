"""The lines of all components, small enough to enumerate: every property test runs over these tables.

A name is that of dbp/components.py, alone or with a comma and what is special about the line. The kit `dbp.testing`
runs over all of it (tests/testing/test_components.py), and a test there says which built-in component has no line.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from graphs import complete
from torch import Tensor, nn

from dbp import data, solvers, tasks
from dbp.core import Estimator, Noise, Solver
from dbp.data import Data
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
    """A solver with a small problem."""

    solver: Solver
    shape: tuple[int, ...]  # of one input
    instance: Mapping[str, Any] | None = None
    other: Mapping[str, Any] | None = None  # another instance, of the same sizes
    count: int | None = None  # how many decisions there are, by a formula
    free: bool = False  # nothing that it computes depends on values: a GPU need not wait for the host
    traced: bool = True  # torch.compile, export and vmap pass through it
    parts: bool = False  # without kernels it takes the rows of a large batch in parts
    linear: bool = True  # y maximises <theta, y>
    skip: tuple[str, ...] = ()  # checks of the kit


LINE, ROUND = ((0, 1), (1, 2), (0, 1), (0, 2), (1, 2)), ((0, 1), (1, 0), (1, 2), (0, 2), (2, 1))
FIVE = ((0, 1), (1, 2), (0, 2), (2, 3), (1, 3))
ACYCLIC = ("nonpositive",)  # the solver takes positive scores where no cycle can gain by them
CLIPPED = ("linear", "optimal", "masked_scores")  # positive scores count as zeros
COARSE = ("masked_scores",)  # HiGHS solves to a tolerance relative to the largest score
FREE, WALL = torch.ones(4, 5, dtype=torch.bool), torch.eye(4, 5, dtype=torch.bool)
WALL[3, 4] = True


def tensors(**instance: Any) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value) for name, value in instance.items()}


SOLVERS: dict[str, SolverExample] = {
    "one_hot": SolverExample(OneHot(), (5,), count=5, free=True),
    "one_hot, entmax": SolverExample(OneHot(relaxation="entmax"), (5,)),
    "top_k": SolverExample(TopK(2), (5,), count=10, free=True),
    "top_k, all": SolverExample(TopK(5), (5,), count=1, skip=("relaxation",)),  # which is the decision at once
    "top_k, budget": SolverExample(TopK(2, relaxation="budget"), (5,)),
    "threshold": SolverExample(Threshold(), (), count=2, free=True),
    "threshold, several": SolverExample(Threshold(), (5,), free=True),
    "binary": SolverExample(solvers.Binary(), (5,), free=True, linear=False),
    "signum": SolverExample(solvers.Signum(), (5,), free=True, linear=False),
    "any": SolverExample(solvers.Or(), (5,), free=True, linear=False),
    "rank": SolverExample(Rank(), (4,), count=24, free=True),
    "rank, soft_sort": SolverExample(Rank(relaxation="soft_sort"), (4,)),
    "sort": SolverExample(Sort(), (5,), free=True, linear=False),
    "sort, k": SolverExample(Sort(False, 2), (5,), free=True, linear=False),
    "sort, network": SolverExample(Sort(relaxation="network"), (5,), linear=False),
    "permutation": SolverExample(Permutation(), (5,), free=True, linear=False),
    "permutation, neural_sort": SolverExample(Permutation(relaxation="neural_sort"), (5,), linear=False),
    "k_means": SolverExample(solvers.KMeans(2), (6, 3), parts=True, linear=False),
    "k_means, members": SolverExample(solvers.KMeans(2, assign=True), (6, 3), parts=True, linear=False),
    "grid_path": SolverExample(solvers.GridPath(), (4, 5), parts=True),
    "grid_path, clip": SolverExample(solvers.GridPath(clip=True), (3, 3), skip=CLIPPED),
    "grid_path, ends": SolverExample(solvers.GridPath(4, (1, 1), (2, -1)), (4, 5)),
    "grid_path, two by two": SolverExample(solvers.GridPath(4), (2, 2), count=2),
    "grid_path, three by three": SolverExample(solvers.GridPath(8), (3, 3), count=3),
    "grid_path, against the grain": SolverExample(solvers.GridPath(8, source=(0, 2)), (2, 3), count=1),
    "grid_path, aside": SolverExample(solvers.GridPath(4, target=(2, 0)), (3, 3), count=3),
    "grid_path, instance": SolverExample(
        solvers.GridPath(), (4, 5), tensors(mask=FREE, target=[2, 3]), tensors(mask=WALL, target=[3, 4]), parts=True
    ),
    "graph_path": SolverExample(solvers.GraphPath(ROUND), (5,), parts=True),
    "graph_path, four nodes": SolverExample(solvers.GraphPath(FIVE), (5,), skip=ACYCLIC),
    "graph_path, clip": SolverExample(solvers.GraphPath(ROUND, clip=True), (5,), skip=CLIPPED),
    "graph_path, instance": SolverExample(
        solvers.GraphPath(),
        (5,),
        tensors(edges=LINE, target=2),
        tensors(edges=ROUND, target=1),
        parts=True,
        skip=ACYCLIC,
    ),
    "spanning_tree": SolverExample(solvers.SpanningTree(ROUND), (5,), count=8, parts=True),
    "spanning_tree, four nodes": SolverExample(solvers.SpanningTree(FIVE), (5,), count=8),
    "spanning_tree, instance": SolverExample(
        solvers.SpanningTree(), (5,), tensors(edges=ROUND), tensors(edges=LINE), parts=True
    ),
    "arborescence": SolverExample(solvers.Arborescence(ROUND), (5,), parts=True),
    "arborescence, four nodes": SolverExample(solvers.Arborescence(FIVE), (5,)),
    "arborescence, instance": SolverExample(
        solvers.Arborescence(), (5,), tensors(edges=ROUND, root=-1), tensors(edges=LINE, root=0), parts=True
    ),
    "matching": SolverExample(solvers.Matching(iterations=500), (3, 4), count=24),
    "perfect_matching": SolverExample(solvers.PerfectMatching(complete(4)), (6,), count=3, traced=False),
    "graph_matching": SolverExample(
        solvers.GraphMatching((3, 3), ((0, 1), (1, 2)), ((0, 1), (1, 0))), (13,), count=6, traced=False, skip=COARSE
    ),
    "knapsack": SolverExample(solvers.Knapsack((1, 2, 3, 4), 6), (4,), count=11, parts=True),
    "knapsack, real": SolverExample(solvers.Knapsack((1.5, 2.0, 3.0, 4.0), 6.0), (4,)),
    "knapsack, instance": SolverExample(
        solvers.Knapsack(),
        (4,),
        tensors(weights=[[2, 1, 3, 2]], capacity=[5]),
        tensors(weights=[[1, 1, 1, 9]], capacity=[2]),
        parts=True,
    ),
    "tour": SolverExample(solvers.Tour(), (6, 6), free=True, parts=True),
    "tour, directed": SolverExample(solvers.Tour(directed=True), (6, 6), free=True, parts=True),
    "tour, long": SolverExample(solvers.Tour(), (14, 14), skip=("no_randomness", "leading_dims")),
    "integer_program": SolverExample(
        solvers.IntegerProgram(((2.0, 3.0, 1.0),), (4.0,)), (3,), traced=False, skip=COARSE
    ),
    "function, linear": SolverExample(FromFunction(lambda x: (x > 0).to(x), linear=True), (4,)),
    "function": SolverExample(FromFunction(lambda x: x.sign()), (5,), linear=False),
}

MANY: dict[str, tuple[Solver, tuple[int, ...]]] = {  # problems of more decisions than are listed
    "grid_path": (solvers.GridPath(), (12, 20)),
    "top_k": (TopK(20), (100,)),
    "rank": (Rank(), (20,)),
    "matching": (solvers.Matching(), (20, 20)),
    "knapsack": (solvers.Knapsack([1.0] * 40, 5.0), (40,)),
    "spanning_tree": (solvers.SpanningTree(complete(12)), (66,)),
    "tour": (solvers.Tour(), (15, 15)),
}

NOISES: dict[str, Noise] = {
    "normal": Normal(0.7),
    "gumbel": Gumbel(1.3),
    "logistic": Logistic(0.6),
    "uniform": Uniform(2.0),
    "rademacher": Rademacher(0.5),
    "sum_of_gamma": SumOfGamma(2.0, k=5, terms=10),
    "log_normal": LogNormal(0.4),
}

N = 6  # scores of an input in the examples of estimators


class Control(nn.Module):
    """One value for each decision of the last dim."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(N, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, soft: Tensor) -> Tensor:
        return self.layers(soft).squeeze(-1)


def bridge(out: int = N) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(N), nn.Linear(N, 16), nn.Tanh(), nn.Linear(16, out))


class EstimatorExample(NamedTuple):
    """An estimator with solvers that it works with, for inputs of N scores."""

    make: Callable[[], Estimator]  # anew each time: an estimator may have state
    solvers: tuple[Solver, ...]
    skip: tuple[str, ...] = ()  # checks of the kit


def works(make: Callable[[], Estimator], *on: Solver, skip: tuple[str, ...] = ()) -> EstimatorExample:
    """A line; without a solver, one that works with any of these."""
    return EstimatorExample(make, on or (TopK(2), OneHot(), Threshold()), skip)


LISTED = ("value", "masked_scores")  # it decides each decision of them all
OWN = ("value",)  # its surrogate adds a loss of its own, or replaces the losses
POOL = ("value", "rows", "batch_size")  # its inputs share a pool
LAZY = (*POOL, "masked_scores")  # it decides for the best of the pool
ESTIMATORS: dict[str, EstimatorExample] = {
    "identity": works(Identity),
    "identity, norm, margin": works(lambda: Identity(projection="norm", margin=0.2)),
    "identity, noise, samples": works(lambda: Identity(projection="none", noise=Gumbel(), samples=3)),
    "straight_through": works(StraightThrough),
    "straight_through, noise, samples": works(lambda: StraightThrough(Gumbel(), 0.7, samples=3)),
    "gumbel_softmax": works(lambda: GumbelSoftmax(temperature=0.7)),
    "blackbox": works(lambda: Blackbox(2.0)),
    "imle": works(lambda: IMLE(2.0)),
    "imle, samples": works(lambda: IMLE(2.0, SumOfGamma(k=2), samples=3)),
    "perturbed": works(lambda: Perturbed(samples=8)),
    "perturbed, gumbel": works(lambda: Perturbed(Gumbel(0.5), samples=8)),
    "perturbed, multiplicative": works(lambda: Perturbed(LogNormal(0.5), samples=8)),
    "score": works(lambda: Score(samples=4, noise=Normal())),
    "score, one sample": works(lambda: Score(samples=None, noise=Gumbel())),
    "adaptive_imle": works(AdaptiveIMLE, TopK(2)),
    "adaptive_imle, two-sided": works(lambda: AdaptiveIMLE(two_sided=True, samples=3), OneHot()),
    "blackbox, two-sided": works(lambda: Blackbox(3.0, two_sided=True), TopK(2)),
    "imle, two-sided": works(lambda: IMLE(3.0, samples=2, two_sided=True), TopK(2)),
    "imle, co": works(lambda: IMLE(3.0, target="co", target_temperature=0.5), TopK(2)),
    "straight_through, annealed": works(lambda: StraightThrough(Gumbel(), anneal=0.1), OneHot()),
    "gumbel_softmax, annealed": works(lambda: GumbelSoftmax(anneal=0.1), TopK(2)),
    "gumbel_rao": works(lambda: GumbelRao(0.5, 4, samples=2), OneHot()),
    "gumbel_rao, binary": works(GumbelRao, Threshold()),
    "gapped": works(lambda: Gapped(samples=2), OneHot()),
    "gapped, binary": works(lambda: Gapped(gap=None), Threshold()),
    "zgr": works(lambda: ZGR(samples=2), OneHot()),
    "zgr, binary": works(ZGR, Threshold()),
    "gumbel_softmax, entmax": works(lambda: GumbelSoftmax(Gumbel()), OneHot(relaxation="entmax")),
    "straight_through, sparsemax": works(
        lambda: StraightThrough(Gumbel(), samples=2), OneHot(relaxation="entmax", alpha=2.0)
    ),
    "straight_through, entmax by bisection": works(StraightThrough, OneHot(relaxation="entmax", alpha=1.3)),
    "straight_through, budget": works(StraightThrough, TopK(2, relaxation="budget")),
    "gumbel_softmax, ranks": works(lambda: GumbelSoftmax(samples=2), Rank()),
    "straight_through, values": works(StraightThrough, Sort(relaxation="network")),
    "gumbel_softmax, matrix": works(lambda: GumbelSoftmax(Normal()), Permutation(relaxation="neural_sort")),
    "straight_through, soft_sort": works(StraightThrough, Rank(relaxation="soft_sort")),
    "simple": works(lambda: SIMPLE(samples=2), TopK(2)),
    "perturbed, antithetic": works(lambda: Perturbed(Normal(), 4, antithetic=True), TopK(2)),
    "perturbed, both": works(lambda: Perturbed(LogNormal(), 4, antithetic=True), TopK(2)),
    "score, average": works(lambda: Score(2, baseline="average"), OneHot()),
    "score, none": works(lambda: Score(2, baseline="none"), Threshold()),
    "disarm": works(lambda: DisARM(4), Threshold()),
    "arms": works(lambda: ARMS(3), Threshold()),
    "dab": works(lambda: DAB(bridge(), 0.5), TopK(2), skip=OWN),
    "dab, sort": works(
        lambda: DAB(bridge(2), 1.0, True, Normal(), 2), FromFunction(lambda x: x.sort(-1).values[..., :2]), skip=OWN
    ),
    "rebar": works(REBAR, OneHot(), skip=OWN),
    "rebar, binary": works(lambda: REBAR(samples=2), Threshold(), skip=OWN),
    "relax": works(lambda: RELAX(Control()), OneHot(), skip=OWN),
    "relax, black box": works(lambda: RELAX(Control(), black_box=True, samples=2), Threshold(), skip=OWN),
    "exact": works(Exact, TopK(2), skip=LISTED),
    "exact, joint": works(lambda: Exact(joint=1), Threshold(), skip=LISTED),
    "unordered": works(lambda: Unordered(3), TopK(2), skip=OWN),
    "fenchel_young": works(lambda: FenchelYoung(Normal(), 4), TopK(2), skip=OWN),
    "fenchel_young, entropy": works(lambda: FenchelYoung(None), TopK(2), skip=("value", "samples")),
    "fenchel_young, antithetic": works(lambda: FenchelYoung(Logistic(), 4, antithetic=True), OneHot(), skip=OWN),
    "spo_plus": works(SPOPlus, TopK(2), skip=OWN),
    "perturbation_gradient": works(PerturbationGradient, TopK(2), skip=OWN),
    "structured_svm": works(StructuredSVM, TopK(2), skip=OWN),
    "contrastive": works(lambda: Contrastive(capacity=9), TopK(2), skip=POOL),
    "contrastive, map": works(lambda: Contrastive("map", capacity=9, solve_ratio=0.5), TopK(2), skip=LAZY),
    "contrastive, binary": works(lambda: Contrastive(capacity=9), Threshold(), skip=POOL),
    "ranking, pointwise": works(lambda: Ranking("pointwise", capacity=9), TopK(2), skip=POOL),
    "ranking, pairwise": works(lambda: Ranking("pairwise", capacity=9, solve_ratio=0.5), TopK(2), skip=LAZY),
    "ranking, listwise": works(lambda: Ranking("listwise", capacity=9), TopK(2), skip=POOL),
}
GENERAL = [name for name, example in ESTIMATORS.items() if len(example.solvers) > 1]

# Options that do not go, and what is said.
WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: GumbelRao(draws=0), "gumbel_rao: needs temperature > 0 and draws >= 1, got 1.0 and 0"),
    (lambda: Gapped(-1.0), "gapped: needs temperature > 0 and gap >= 0, got 1.0 and -1.0"),
    (lambda: AdaptiveIMLE(rate=-1.0), "adaptive_imle: needs alpha > 0, rate >= 0"),
    (lambda: IMLE(target="co", two_sided=True), "imle: the co target .* use two_sided=false"),
    (lambda: DAB(bridge(), 0.0), "dab: gamma must be positive"),
    (lambda: REBAR(0.0), "rebar: temperature must be positive, got 0.0"),
    (lambda: DisARM(3), "disarm: samples come in pairs: an even number, at least 2, not 3"),
    (lambda: ARMS(1), "arms: samples must be at least 2, got 1"),
    (lambda: Unordered(9), "unordered: samples must be from 2 to 8, got 9"),
    (lambda: Exact(-1), "exact: joint counts dims, so it is at least 0, not -1"),
    (lambda: Exact(limit=5)(TopK(2), torch.ones(2, N)), r"exact: 15\^1 decisions are more than 5"),
    (
        lambda: Perturbed(Gumbel(), antithetic=True),
        "antithetic samples need symmetric noise .* not 16 of Gumbel",
    ),
    (
        lambda: Perturbed(Normal(), 3, antithetic=True),
        "antithetic samples .* come in pairs, not 3 of Normal",
    ),
    (lambda: Score(decay=1.0), r"score: decay must be in \[0, 1\), got 1.0"),
    (lambda: SPOPlus(0.0), "spo_plus: alpha must be positive, got 0.0"),
    (lambda: PerturbationGradient(0.0), "perturbation_gradient: sigma must be positive, got 0.0"),
    (lambda: StructuredSVM(-1.0), "structured_svm: margin must not be negative, got -1.0"),
    (lambda: Contrastive(capacity=1), r"contrastive: needs capacity >= 2 and solve_ratio in \[0, 1\], got 1 and 1.0"),
    (lambda: Ranking(temperature=0.0), "ranking: needs margin >= 0 and temperature > 0, got 0.0 and 0.0"),
    (lambda: OneHot(relaxation="entmax", alpha=0.5), "OneHot: alpha must be at least 1, got 0.5"),
    (lambda: Exact(joint=3)(TopK(2), torch.ones(2, N)), "exact: joint=3, but theta has 1 batch dims"),
    (lambda: Unordered(8)(OneHot(), torch.ones(2, N)), "unordered: 6 decisions in all, so no 8 different ones"),
    (lambda: GumbelSoftmax(minimum=0.0), "minimum must be positive, got 0.0 and 0.0"),
    (
        lambda: Exact()(Threshold(), torch.ones(2, N)).surrogate(torch.zeros(2, 2)),
        "exact: losses of shape .* for joint decisions",
    ),
    (
        lambda: RELAX(Control())(Threshold(), torch.ones(2, N)).surrogate(torch.zeros(3, 2, N)),
        r"relax: the network gives \[2\]",
    ),
]


def build(name: str) -> tuple[Solver, Estimator]:
    """A line's first solver, and its estimator with the same parameters every time."""
    torch.manual_seed(1)
    return ESTIMATORS[name].solvers[0], ESTIMATORS[name].make()


class TaskExample(NamedTuple):
    """A task with a small batch."""

    make: Callable[[Estimator], tasks.Task]
    batch: Callable[[], list[Tensor]]
    estimators: tuple[Callable[[], Estimator], ...]


def sequences() -> list[Tensor]:
    numbers = torch.rand(16, 3)
    return [numbers, numbers.argsort()]


ANY, BITS = (lambda: IMLE(lam=100.0), Score, Perturbed), (REBAR, DisARM, Score)
TASKS: dict[str, TaskExample] = {
    "slots": TaskExample(lambda est: tasks.Slots(OneHot(), est), lambda: [torch.rand(16, 8, 1)], ANY),
    "dvae": TaskExample(
        lambda est: tasks.DVAE(OneHot(), est, shape=(4, 4), rows=2, columns=3, hidden=(8,)),
        lambda: [torch.rand(16, 4, 4)],
        ANY,
    ),
    "vae": TaskExample(
        lambda est: tasks.VAE(Threshold(), est, shape=(4, 4), latents=6, layers=2),
        lambda: [torch.rand(16, 4, 4).round()],
        BITS,
    ),
    "sorting": TaskExample(
        lambda est: tasks.Sorting(Threshold(), est, length=3, model="lstm", hidden=(8,), width=6, ponder=2),
        sequences,
        BITS,
    ),
}


def small(cls: type[Data], **options: Any) -> Data:
    """A set of images without its files: a few images of noise."""

    def read(self: Any, part: str) -> tuple[Tensor, Tensor]:
        size = {"train": 60, "test": 20}[part]
        generator = torch.Generator().manual_seed(size)
        images = torch.randint(0, 256, (size, 28, 28), generator=generator, dtype=torch.uint8)
        return images, torch.arange(size) % 10

    return type(cls.__name__, (cls,), {"read": read, "prepare_data": lambda self: None})(**options)


DATA: dict[str, Callable[[], Data]] = {
    "slots": lambda: data.SlotsData(size=100),
    "digits": lambda: data.Digits(),
    "mnist": lambda: small(data.MNIST, val_size=20),
    "fashion_mnist": lambda: small(data.FashionMNIST, val_size=20),
    "omniglot": lambda: small(data.Omniglot, val_size=20),
    "sequences": lambda: data.Sequences(length=4, size=200),
}
