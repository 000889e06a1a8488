"""Matching: the kernel, scipy and enumeration agree, on values always and on ties where arithmetic is exact."""

import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dbp.errors import UserError
from dbp.native import ops
from dbp.solvers.matching import Matching, matching, matching_scipy

ORLIB = Path(__file__).parents[3] / "shared/data/combinatorial/orlib.tar.xz"
SHAPES = [(1, 1), (1, 4), (4, 1), (2, 2), (3, 5), (5, 3), (10, 10), (16, 17), (24, 24), (25, 25), (40, 30), (30, 70)]
needs_kernel = pytest.mark.skipif(not ops.serves(torch.zeros(1)), reason="no kernels")
IMPLEMENTATIONS = [pytest.param(matching, marks=needs_kernel), matching_scipy]

SCORES = {
    "uniform": lambda g, *s: torch.rand(*s, generator=g),
    "negative": lambda g, *s: -torch.rand(*s, generator=g),
    "normal": lambda g, *s: torch.randn(*s, generator=g),
    "integer": lambda g, *s: torch.randint(0, 100, s, generator=g),
    "tied": lambda g, *s: torch.randint(0, 3, s, generator=g),
    "zero": lambda g, *s: torch.zeros(*s),
    "huge": lambda g, *s: 1e30 * torch.rand(*s, generator=g),
    "tiny": lambda g, *s: 1e-30 * torch.rand(*s, generator=g),
    "forbidden": lambda g, *s: torch.rand(*s, generator=g).masked_fill(torch.rand(*s, generator=g) < 0.5, -1e30),
    "scales": lambda g, *s: -(10.0 ** torch.randint(-6, 12, s, generator=g)),
}


def value(theta: Tensor, y: Tensor) -> Tensor:
    return (theta.double() * y.double()).sum((-1, -2))


def first_best(theta: Tensor) -> Tensor:
    """By enumeration in lexicographic order."""
    if theta.shape[0] > theta.shape[1]:
        return first_best(theta.T).T
    ys = Matching().vertices(theta.shape).to(theta)
    return ys[value(theta, ys).argmax()]


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_go_to_the_first(function, dtype):
    g = torch.Generator().manual_seed(0)
    for rows, columns in itertools.product(range(1, 6), repeat=2):
        for most in (1, 3):
            theta = torch.randint(-most, most + 1, (4, rows, columns), generator=g).to(dtype)
            for t, y in zip(theta, function(theta), strict=True):
                assert torch.equal(y, first_best(t)), t


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reaches_the_optimum_of_scipy(function, kind, dtype):
    g = torch.Generator().manual_seed(1)
    for shape in SHAPES:
        theta = SCORES[kind](g, 5, *shape).to(dtype)
        y = function(theta)
        assert Matching().is_feasible(y).all()
        best = torch.tensor([t[linear_sum_assignment(t, maximize=True)].sum() for t in theta.double().numpy()])
        slack = (1e-5 if dtype == torch.float32 else 1e-12) * best.abs()
        assert (value(theta, y) >= best - slack).all(), shape


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["integer", "tied", "zero"])
def test_kernel_is_its_twin(kind, dtype):
    g = torch.Generator().manual_seed(2)
    for shape in SHAPES:
        theta = SCORES[kind](g, 5, *shape).to(dtype)
        assert torch.equal(matching(theta), matching_scipy(theta)), shape


@needs_kernel
def test_small_differences_survive_beside_forbidden_edges():
    g = torch.Generator().manual_seed(3)
    for _ in range(100):
        theta = -torch.rand(12, 12, generator=g)
        theta = theta.masked_fill((torch.rand(12, 12, generator=g) < 0.7) & ~torch.eye(12, dtype=torch.bool), -1e9)
        rows, columns = linear_sum_assignment(theta.double().numpy(), maximize=True)
        assert value(theta, matching(theta)) >= theta[rows, columns].double().sum() - 1e-4


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_names_the_row_that_is_not_finite(function):
    theta = torch.zeros(2, 3, 4, 4)
    for bad in (torch.nan, -torch.inf, torch.inf):
        theta[1, 2] = bad
        with pytest.raises(UserError, match=r"row \[1, 2\]"):
            function(theta)


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 3), (3, 0), (0, 0)])
def test_empty(shape):
    assert Matching()(torch.zeros(shape)).shape == shape


def test_leading_dims_strides_and_dtypes():
    theta = torch.randint(0, 50, (6, 5, 3, 4))
    y = Matching()(theta.float())
    assert torch.equal(Matching()(theta.float().permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1)), y)
    assert torch.equal(Matching()(theta.float().flip(0)), y.flip(0))
    for dtype in (torch.float64, torch.bfloat16, torch.float16, torch.int64):
        other = Matching()(theta.to(dtype))
        assert other.dtype == dtype
        assert torch.equal(other.float(), y)


def test_compiles_and_maps():
    theta = torch.randn(3, 4, 4)
    y = Matching()(theta)
    compiled = torch.compile(lambda t: 2 * Matching().solve(t, None), fullgraph=True, backend="eager")
    assert torch.equal(compiled(theta), 2 * y)
    assert torch.equal(torch.vmap(Matching())(theta), y)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_project_drops_what_solve_ignores(shape):
    theta = torch.randn(20, *shape, dtype=torch.float64)
    projected = Matching().project(theta)
    assert torch.equal(Matching()(projected), Matching()(theta))
    moved = theta
    if shape[0] <= shape[1]:
        moved = moved + torch.randn(20, shape[0], 1)
    if shape[0] >= shape[1]:
        moved = moved + torch.randn(20, 1, shape[1])
    assert torch.allclose(Matching().project(3 * moved), projected)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_relaxation(shape):
    solver = Matching(iterations=500)
    theta = torch.randn(8, *shape, dtype=torch.float64)
    soft = solver.relax(theta)
    short, long = (-1, -2) if shape[0] <= shape[1] else (-2, -1)
    assert torch.allclose(soft.sum(short), torch.ones(()).double())
    assert (soft.sum(long) <= 1 + 1e-6).all()
    clear = 0.1 * theta + solver(theta)
    assert torch.allclose(solver.relax(clear, 0.05), solver(clear), atol=0.02)
    if shape[0] == shape[1]:  # at the optimum of <theta, y> + H(y), no swap of mass between rows and columns gains
        gradient = theta - soft.log()
        gradient = gradient - gradient.mean(-1, keepdim=True)
        assert torch.allclose(gradient, gradient.mean(-2, keepdim=True).expand_as(gradient))


def test_vertices_and_feasibility():
    for shape, count in {(3, 3): 6, (2, 4): 12, (4, 2): 12, (1, 1): 1}.items():
        ys = Matching().vertices(shape)
        assert ys.shape == (count, *shape)
        assert len(ys.unique(dim=0)) == count
        assert Matching().is_feasible(ys).all()
    wrong = torch.eye(3).repeat(4, 1, 1)
    wrong[0, 0, 1], wrong[1, 0, 0], wrong[2] = 1, 0, torch.full((3, 3), 1 / 3)
    assert Matching().is_feasible(wrong).tolist() == [False, False, False, True]


@pytest.mark.skipif(not ORLIB.exists(), reason="the shared data is not here")
@pytest.mark.parametrize(("name", "best"), [("assign100", 305), ("assign500", 991), ("assign600", 1176)])
def test_published_optima(name, best):
    with tarfile.open(ORLIB) as archive:
        file = archive.extractfile(f"orlib/{name}.txt")
        assert file is not None
        numbers = np.array(file.read().split(), dtype=np.float32)
    cost = torch.from_numpy(numbers[1:]).reshape(int(numbers[0]), int(numbers[0]))
    assert (Matching()(-cost) * cost).sum() == best


SKEWED = {
    "softmax": lambda g: (30 * torch.randn(60, 9, 9, generator=g)).softmax(-1),
    "wide": lambda g: (30 * torch.randn(60, 5, 9, generator=g)).softmax(-1),
    "tall": lambda g: (30 * torch.randn(60, 9, 5, generator=g)).softmax(-2),
    "large": lambda g: (30 * torch.randn(3, 40, 40, generator=g)).softmax(-1),
    "forbidden": lambda g: SCORES["normal"](g, 60, 8, 8).masked_fill(torch.rand(60, 8, 8, generator=g) < 0.5, -3.4e38),
    "ends": lambda g: 3.4e38 * torch.randn(60, 6, 6, generator=g).sign(),
    "denormal": lambda g: 1e-42 * torch.randn(60, 6, 6, generator=g),
    "ends of float64": lambda g: 1.7e308 * torch.randn(60, 6, 6, generator=g).double().sign(),
}


@needs_kernel
@pytest.mark.parametrize("name", SKEWED)
def test_the_kernel_is_as_exact_as_its_twin(name):
    """In float32 sums are rounded to 1e-7 of the largest score, and overflow; the decision must not depend on it."""
    theta = SKEWED[name](torch.Generator().manual_seed(0))
    scaled = theta.double() * 2.0**-100  # sums that do not overflow
    lost = value(scaled, matching_scipy(theta)) - value(scaled, matching(theta))
    assert (lost.abs() <= 1e-15 * scaled.abs().sum((-1, -2))).all()
    assert Matching().is_feasible(matching(theta)).all()
