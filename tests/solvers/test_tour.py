"""Tour: the kernel, its torch twin, HiGHS and enumeration agree up to 13 cities; above, gaps are small."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dbp.errors import UserError
from dbp.native import ops
from dbp.solvers.tours import Tour, tour, tour_highs, tour_torch

TSPLIB = Path(__file__).parents[3] / "shared/data/combinatorial/tsplib95.tar.xz"
needs_kernel = pytest.mark.skipif(not ops.serves(torch.zeros(1)), reason="no kernels")
directions = pytest.mark.parametrize("directed", [False, True])

SCORES = {
    "normal": lambda g, *s: torch.randn(*s, generator=g),
    "negative": lambda g, *s: -torch.rand(*s, generator=g),
    "tied": lambda g, *s: torch.randint(0, 4, s, generator=g).float(),
    "zero": lambda g, *s: torch.zeros(*s),
    "huge": lambda g, *s: 1e30 * torch.randn(*s, generator=g),
    "tiny": lambda g, *s: 1e-30 * torch.randn(*s, generator=g),
    "forbidden": lambda g, *s: torch.rand(*s, generator=g).masked_fill(torch.rand(*s, generator=g) < 0.3, -1e30),
}


def value(theta: Tensor, y: Tensor) -> Tensor:
    return (theta.double() * y.double()).sum((-1, -2))


def plane(count: int, n: int) -> Tensor:
    """Minus the distances of random points in a square."""
    points = torch.rand(count, n, 2, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    return -torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


@directions
@pytest.mark.parametrize("kind", SCORES)
def test_is_the_best_of_all(directed, kind):
    g, solver = torch.Generator().manual_seed(0), Tour(directed)
    for n in range(1, 7):
        ys = solver.vertices([n, n]).double()
        for dtype in (torch.float32, torch.float64):
            theta = SCORES[kind](g, 8, n, n).to(dtype)
            best = value(theta[:, None], ys).amax(-1)
            for y in (tour_torch(theta, directed), solver(theta)):
                assert solver.is_feasible(y).all()
                assert torch.allclose(value(theta, y), best, rtol=1e-6, atol=0)


@needs_kernel
@directions
@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_is_its_twin(directed, kind, dtype):
    g = torch.Generator().manual_seed(1)
    for n in (*range(1, 12), 13):
        theta = SCORES[kind](g, 3, n, n).to(dtype)
        assert torch.equal(tour(theta, directed, 0), tour_torch(theta, directed)), n


@directions
def test_ties_go_to_the_first(directed):
    """All tours are equal: the first goes from city to city in order."""
    for n in range(4, 14):
        y = Tour(directed)(torch.ones(n, n))
        assert torch.equal(y, Tour(directed).vertices([4, 4])[0] if n == 4 else _ring(n, directed))


def _ring(n: int, directed: bool) -> Tensor:
    ring = torch.eye(n).roll(1, 1)
    return ring if directed else ring + ring.T


@directions
@pytest.mark.parametrize("n", [7, 12])
def test_reaches_the_optimum_of_highs(directed, n):
    theta = torch.randn(6, n, n, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y = tour_highs(theta, directed)
    assert Tour(directed).is_feasible(y).all()
    assert torch.allclose(value(theta, y), value(theta, Tour(directed)(theta)))


@needs_kernel
@pytest.mark.parametrize(("n", "count", "gap"), [(14, 30, 1e-4), (20, 30, 1e-4), (50, 6, 1e-3)])
def test_gap_of_the_local_search(n, count, gap):
    theta = plane(count, n)
    best = value(theta, tour_highs(theta, False))
    for dtype in (torch.float32, torch.float64):
        y = Tour()(theta.to(dtype))
        assert Tour().is_feasible(y).all()
        assert (value(theta, y) / best - 1).mean() <= gap


@needs_kernel
def test_gap_of_the_directed_search():
    theta = -torch.rand(20, 20, 20, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    y = Tour(directed=True)(theta)
    assert Tour(directed=True).is_feasible(y).all()
    assert (value(theta, y) / value(theta, tour_highs(theta, True)) - 1).mean() <= 0.02


@needs_kernel
@directions
@pytest.mark.parametrize("kind", SCORES)
def test_local_search_ends_and_is_the_same_again(directed, kind):
    solver = Tour(directed, kicks=50)
    for n in (14, 17, 40):
        theta = SCORES[kind](torch.Generator().manual_seed(n), 4, n, n)
        y = solver(theta)
        assert solver.is_feasible(y).all()
        assert torch.equal(solver(theta.flip(0)), y.flip(0))


@directions
@pytest.mark.parametrize("n", [5, 13, 14])
def test_names_the_row_that_is_not_finite(directed, n):
    function = Tour(directed).solve
    theta = torch.zeros(2, 3, n, n)
    for bad in (torch.nan, torch.inf):
        theta[1, 2, 0, 1] = bad
        if ops.serves(theta):
            with pytest.raises(UserError, match=r"row \[1, 2\]"):
                function(theta, None)
        with pytest.raises(UserError, match=r"row \[1, 2\]"):
            tour_highs(theta, directed)


def test_says_what_is_wrong():
    with pytest.raises(UserError, match="square"):
        Tour()(torch.zeros(3, 4))
    with pytest.raises(UserError, match="kicks"):
        Tour(kicks=-1)


def test_leading_dims_strides_and_dtypes():
    theta = torch.randint(-20, 20, (2, 3, 6, 6)).float()
    y = Tour()(theta)
    assert torch.equal(Tour()(theta.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1)), y)
    assert torch.equal(Tour()(theta.mT), y)
    assert torch.equal(Tour()(theta[0, 0]), y[0, 0])
    for dtype in (torch.float64, torch.bfloat16, torch.float16, torch.int64):
        assert torch.equal(Tour()(theta.to(dtype)), y.to(dtype))
    for shape in ((0, 5, 5), (2, 0, 0), (0, 20, 20)):
        assert Tour()(torch.zeros(shape)).shape == shape


@directions
def test_compiles_and_maps(directed):
    solver, theta = Tour(directed), torch.randn(4, 5, 5)
    compiled = torch.compile(lambda t: 2 * solver.solve(t, None), fullgraph=True, backend="eager")
    assert torch.equal(compiled(theta), 2 * solver(theta))
    assert torch.equal(torch.vmap(solver)(theta), solver(theta))


@directions
def test_project_drops_what_solve_ignores(directed):
    theta = torch.randn(20, 6, 6, dtype=torch.float64)
    solver = Tour(directed)
    assert torch.equal(solver(solver.project(theta)), solver(theta))
    moved = 3 * theta + 5 + torch.diag_embed(torch.randn(20, 6))
    if not directed:
        skew = torch.randn(20, 6, 6)
        moved = moved + skew - skew.mT
    assert torch.allclose(solver.project(moved), solver.project(theta))


@directions
def test_vertices_and_feasibility(directed):
    solver = Tour(directed)
    for n, count in {1: (1, 1), 2: (1, 1), 3: (1, 2), 4: (3, 6), 5: (12, 24)}.items():
        ys = solver.vertices([n, n])
        assert ys.shape == (count[directed], n, n)
        assert len(ys.unique(dim=0)) == len(ys)
        assert solver.is_feasible(ys).all()
    two_rings = torch.block_diag(_ring(3, directed), _ring(3, directed))
    path = _ring(6, directed)
    path[5, 0] = path[0, 5] = 0
    for wrong in (two_rings, path, torch.zeros(6, 6), 0.5 * _ring(6, directed), _ring(6, not directed)):
        assert not solver.is_feasible(wrong).item()


def _distances(name: str) -> tuple[Tensor, bool]:
    with tarfile.open(TSPLIB) as archive:
        kind = "atsp" if f"tsplib95/atsp/{name}.atsp" in archive.getnames() else "tsp"
        file = archive.extractfile(f"tsplib95/{kind}/{name}.{kind}")
        assert file is not None
        text = file.read().decode()
    if kind == "atsp":
        n = int(text.split("DIMENSION:")[1].split()[0])
        return torch.tensor(np.array(text.split("EDGE_WEIGHT_SECTION")[1].split()[: n * n], float).reshape(n, n)), True
    lines = text.split("NODE_COORD_SECTION")[1].split("EOF")[0].split()
    points = torch.tensor(np.array(lines, float).reshape(-1, 3)[:, 1:])
    return (torch.cdist(points, points) + 0.5).floor(), False


@needs_kernel
@pytest.mark.skipif(not TSPLIB.exists(), reason="the shared data is not here")
@pytest.mark.parametrize(
    ("name", "best", "gap"),
    [
        ("eil51", 426, 0.005),
        ("berlin52", 7542, 0),
        ("st70", 675, 0.005),
        ("br17", 39, 0),
        ("ftv33", 1286, 0.01),
        ("p43", 5620, 0.01),
        ("ry48p", 14422, 0.01),
        ("ftv64", 1839, 0.01),
    ],
)
def test_published_optima(name, best, gap):
    distances, directed = _distances(name)
    length = value(distances, Tour(directed)(-distances)).item() / (1 if directed else 2)
    assert best <= length <= best * (1 + gap)
