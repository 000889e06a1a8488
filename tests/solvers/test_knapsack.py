"""Knapsack: the kernel, its torch twin, HiGHS and enumeration agree, on ties too where sums are exact."""

import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import dbp
from dbp.errors import UserError
from dbp.native import ops
from dbp.solvers.highs import maximise
from dbp.solvers.packing import Knapsack, knapsack, knapsack_highs, knapsack_torch

ORLIB = Path(__file__).parents[3] / "shared/data/combinatorial/orlib.tar.xz"
needs_kernel = pytest.mark.skipif(not ops.serves(torch.zeros(1)), reason="no kernels")
PROGRAMS = [pytest.param(knapsack, marks=needs_kernel), knapsack_torch]

SCORES = {
    "normal": lambda g, *s: torch.randn(*s, generator=g),
    "positive": lambda g, *s: torch.rand(*s, generator=g),
    "negative": lambda g, *s: -torch.rand(*s, generator=g),
    "tied": lambda g, *s: torch.randint(-1, 4, s, generator=g).float(),
    "zero": lambda g, *s: torch.zeros(*s),
    "huge": lambda g, *s: 1e30 * torch.randn(*s, generator=g),
    "tiny": lambda g, *s: 1e-30 * torch.randn(*s, generator=g),
}


def value(theta: Tensor, y: Tensor) -> Tensor:
    return (theta.double() * y.double()).sum(-1)


def first_best(theta: Tensor, weights: Tensor, capacity: Tensor) -> Tensor:
    """By enumeration, the first item taken rather than not, then the second; none without value."""
    subsets = torch.tensor(list(itertools.product((1.0, 0.0), repeat=len(theta)))).to(theta)
    subsets = subsets[(subsets @ weights.to(theta) <= capacity) & ((subsets == 0) | (theta > 0)).all(-1)]
    return subsets[value(theta, subsets).argmax()]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_go_to_the_first(program, dtype):
    g = torch.Generator().manual_seed(0)
    for items in range(1, 9):
        theta = torch.randint(-1, 5, (12, items), generator=g).to(dtype)
        weights = torch.randint(0, 9, (12, items), generator=g)
        capacity = torch.randint(0, 20, (12,), generator=g)
        for t, w, c, y in zip(theta, weights, capacity, program(theta, weights, capacity), strict=True):
            assert torch.equal(y, first_best(t, w, c)), (t, w, c)


@needs_kernel
@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_is_its_twin(kind, dtype):
    g = torch.Generator().manual_seed(1)
    for items, capacity in [(1, 1), (5, 0), (10, 30), (32, 100), (50, 333), (20, 10**6)]:
        theta = SCORES[kind](g, 7, items).to(dtype)
        shared = torch.randint(0, 20, (items,), generator=g)
        own = torch.randint(0, 20, (7, items), generator=g)
        for weights in (shared.expand(7, -1), own, (6 * shared).expand(7, -1)):
            limit = torch.tensor(capacity).expand(7)
            y = knapsack(theta, weights, limit)
            assert torch.equal(y, knapsack_torch(theta, weights, limit))
            assert ((y * weights).sum(-1) <= limit).all()
            assert not y[theta <= 0].any()


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("kind", SCORES)
def test_reaches_the_optimum_of_highs(program, kind):
    g = torch.Generator().manual_seed(2)
    for items, capacity in [(6, 12), (20, 60), (40, 100)]:
        theta = SCORES[kind](g, 4, items).double()
        weights, limit = torch.randint(1, 20, (4, items), generator=g), torch.full((4,), capacity)
        y = knapsack_highs(theta, weights.unsqueeze(-2).double(), limit.unsqueeze(-1).double())
        best = value(theta, y)
        assert torch.allclose(value(theta, program(theta, weights, limit)), best, rtol=1e-9, atol=0)
        assert torch.allclose(value(theta, program(theta.float(), weights, limit)), best, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("resources", "integer"), [(1, False), (2, True), (3, False)])
def test_several_resources_and_real_weights(resources, integer):
    g = torch.Generator().manual_seed(3)
    weights = torch.randint(1, 20, (5, resources, 8), generator=g).to(torch.int64 if integer else torch.float64)
    weights = weights if integer else weights + torch.rand(weights.shape, generator=g)
    theta, capacity = torch.randn(5, 8, generator=g, dtype=torch.float64), 3 * weights[..., 0] + 10
    instance = {"weights": weights, "capacity": capacity}
    y = Knapsack()(theta, instance)
    for i in range(5):
        ys = Knapsack().vertices([8], {"weights": weights[i], "capacity": capacity[i]})
        assert torch.allclose(value(theta[i], y[i]), value(theta[i], ys).max())
    assert Knapsack().is_feasible(y, instance).all()


def test_capacities_beyond_any_table():
    weights, theta = (10**9, 2 * 10**9 + 1, 3 * 10**9 + 2), torch.tensor([1.0, 2.0, 2.5])
    assert Knapsack(weights, 4 * 10**9 + 2)(theta).tolist() == [1, 0, 1]
    assert Knapsack(weights, 4 * 10**9 + 1)(theta).tolist() == [1, 1, 0]


def test_options_and_instance_say_the_same():
    theta = torch.randn(3, 4, 5)
    by_option = Knapsack(weights=[3, 1, 4, 1, 5], capacity=7)
    y = by_option(theta)
    assert hash(by_option) == hash(Knapsack(weights=(3, 1, 4, 1, 5), capacity=7))
    weights, capacity = torch.tensor([[3, 1, 4, 1, 5]]), torch.tensor([7])
    assert torch.equal(Knapsack()(theta, {"weights": weights, "capacity": capacity}), y)
    assert torch.equal(Knapsack()(theta, {"weights": weights.expand(3, 1, 1, 5), "capacity": capacity}), y)
    assert torch.equal(Knapsack(by_option.weights, 1)(theta, {"capacity": capacity}), y)
    assert torch.equal(Knapsack(by_option.weights, 7.9)(theta), y)
    assert torch.equal(Knapsack([by_option.weights, [0.0] * 5], [7, 0])(theta.double()).float(), y)


@pytest.fixture
def programs(monkeypatch):
    """The rows that HiGHS is given from now on."""
    rows = []

    def spied(scores, *rest):
        rows.append(scores)
        return maximise(scores, *rest)

    monkeypatch.setattr("dbp.solvers.packing.maximise", spied)
    return rows


@pytest.mark.parametrize("kernel", [True, False])
def test_whole_weights_of_any_dtype_take_the_table(kernel, programs, monkeypatch):
    """A configuration turns 3 into 3.0: it took thousands of times as long, and ties went elsewhere."""
    if not kernel:
        monkeypatch.setattr(ops, "serves", lambda theta: False)
    theta = torch.randint(-3, 9, (4, 6, 5)).float()
    whole = Knapsack(weights=(3, 1, 4, 1, 5), capacity=7)
    y = whole(theta)
    named = {"name": "knapsack", "weights": [3, 1, 4, 1, 5], "capacity": 7}
    for solver in (dbp.build("solver", named), Knapsack((3.0, 1.0, 4.0, 1.0, 5.0), 7.5)):
        assert torch.equal(solver(theta), y)
        assert solver._own["weights"].dtype == whole._own["weights"].dtype
    weights, capacity = torch.tensor([[3.0, 1, 4, 1, 5]]), torch.tensor([7.5])
    for dtype in (torch.float16, torch.float32, torch.float64):
        instance = {"weights": weights.to(dtype), "capacity": capacity.to(dtype)}
        assert torch.equal(Knapsack()(theta, instance), y)
    assert torch.equal(Knapsack()(theta, {"weights": weights.long(), "capacity": capacity}), y)
    assert not programs


def test_rows_of_whole_and_of_real_weights_are_each_decided_as_alone(programs):
    theta = torch.randint(-3, 9, (4, 5)).float().abs() + 1
    weights = torch.tensor([3.0, 1, 4, 1, 5]).expand(4, 1, 5).clone()
    weights[1::2] += 0.25
    instance = {"weights": weights, "capacity": torch.full((4, 1), 7.0)}
    y = Knapsack()(theta, instance)
    assert len(programs) == 2
    for row in range(4):
        assert torch.equal(y[row], Knapsack()(theta[row], {name: x[row] for name, x in instance.items()}))
    weights[3, 0, 2] = torch.nan
    with pytest.raises(UserError, match=r"Knapsack: row \[3\] has a weight"):
        Knapsack()(theta, instance)


def test_leading_dims_strides_and_dtypes():
    solver = Knapsack(weights=(3, 1, 4, 1, 5), capacity=7)
    theta = torch.randint(-3, 9, (4, 6, 5)).float()
    y = solver(theta)
    assert torch.equal(solver(theta.permute(2, 0, 1).contiguous().permute(1, 2, 0)), y)
    assert torch.equal(solver(theta[0, 0]), y[0, 0])
    for dtype in (torch.float64, torch.bfloat16, torch.float16, torch.int64):
        assert torch.equal(solver(theta.to(dtype)), y.to(dtype))
    assert solver(theta[:0]).shape == (0, 6, 5)
    assert torch.equal(solver(solver.project(theta.double())), y.double())


def test_compiles_and_maps():
    solver, theta = Knapsack(weights=(3, 1, 4, 1, 5), capacity=7), torch.randn(4, 6, 5)
    compiled = torch.compile(lambda t: 2 * solver.solve(t, None), fullgraph=True, backend="eager")
    assert torch.equal(compiled(theta), 2 * solver(theta))
    assert torch.equal(torch.vmap(solver)(theta), solver(theta))


@pytest.mark.parametrize("program", [*PROGRAMS, lambda t, w, c: knapsack_highs(t, w.unsqueeze(-2), c.unsqueeze(-1))])
def test_names_the_row_without_a_solution(program):
    theta, weights, capacity = torch.ones(2, 3, 4), torch.ones(2, 3, 4).long(), torch.ones(2, 3).long()
    capacity[1, 2] = -1
    with pytest.raises(UserError, match=r"row \[1, 2\]"):
        program(theta, weights, capacity)
    weights[0, 1, 3] = -5
    with pytest.raises(UserError, match=r"row \[0, 1\]"):
        program(theta, weights, capacity)


def test_says_what_is_wrong():
    for options, message in {
        ((1, 2), None): "together",
        ((1, -2), 3): "negative",
        ((1, 2), -3): "negative",
        ((1, 2), torch.inf): "finite",
        ((1, torch.nan), 3.0): "finite",
        ((), 3): "list of numbers",
        (((1, 2), (3,)), (1, 1)): "one length",
        (((1, 2), (3, 4)), 1): "2 lists of weights, but 1 capacities",
    }.items():
        with pytest.raises(UserError, match=message):
            Knapsack(*options)
    weights, capacity = torch.tensor([[[1.0, 2]], [[torch.nan, 2]]]), torch.tensor([[3.0], [torch.inf]])
    for wrong in ((weights, capacity[:1]), (torch.ones(1, 2), capacity), (torch.ones(1, 2).long(), capacity)):
        with pytest.raises(UserError, match=r"row \[1\] has a weight or a capacity that is negative or not finite"):
            Knapsack()(torch.ones(2, 2), dict(zip(("weights", "capacity"), wrong, strict=True)))
    with pytest.raises(UserError, match="arrays of numbers"):
        Knapsack()(torch.ones(2, 2), {"weights": weights, "capacity": "much"})
    for lacking in (None, {"weights": weights}):
        with pytest.raises(UserError, match="no weights or no capacity"):
            Knapsack()(torch.zeros(3), lacking)
    for nonsense in ((weights, capacity), {"weight": weights}):
        with pytest.raises(UserError, match="of weights, capacity; got"):
            Knapsack()(torch.ones(2, 2), nonsense)
    with pytest.raises(UserError, match=r"\[5\] need weights \[\*leading, resources, 5\]"):
        Knapsack((1, 2), 3)(torch.zeros(5))


def test_vertices_and_feasibility():
    solver = Knapsack(weights=(3, 1, 4), capacity=4)
    assert solver.vertices([3]).tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 0]]
    assert solver.is_feasible(torch.tensor([[1.0, 1, 0], [1, 0, 1], [0.5, 0, 0]])).tolist() == [True, False, False]


@pytest.mark.skipif(not ORLIB.exists(), reason="the shared data is not here")
def test_published_optima():
    with tarfile.open(ORLIB) as archive:
        file = archive.extractfile("orlib/mknap1.txt")
        assert file is not None
        numbers = iter(np.array(file.read().split(), dtype=np.float64))
    for _ in range(int(next(numbers))):
        items, resources, best = int(next(numbers)), int(next(numbers)), next(numbers)
        theta, *rest = (torch.tensor([next(numbers) for _ in range(items)]) for _ in range(1 + resources))
        capacity = torch.tensor([next(numbers) for _ in range(resources)])
        y = Knapsack()(theta, {"weights": torch.stack(rest), "capacity": capacity})
        assert value(theta, y).item() == pytest.approx(best)
