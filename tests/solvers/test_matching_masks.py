"""Matchings with pairs that do not exist, and with rows that may stay unmatched: against rows alone and enumeration."""

import pytest
import torch
from torch import Tensor

from dbp import estimators
from dbp.errors import UserError
from dbp.native import ops
from dbp.scores import dot
from dbp.solvers import Matching

GRID = [torch.float32, torch.float64]
SHAPES = [(1, 1), (3, 3), (4, 6), (6, 4), (20, 25)]


@pytest.fixture(params=["kernel", "twin"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "twin":
        monkeypatch.setattr(ops, "serves", lambda theta: False)


def junk(theta: Tensor, mask: Tensor) -> Tensor:
    most = torch.finfo(theta.dtype).max
    worst = torch.tensor([most, -most, 0.0, 1e9], dtype=theta.dtype)[torch.randint(0, 4, theta.shape)]
    return torch.where(mask, theta, worst)


def padding(count: int, n: int, m: int) -> tuple[Tensor, Tensor]:
    """Which rows and which columns exist; one at least, anywhere among the others."""
    rows, columns = torch.rand(count, n) < 0.6, torch.rand(count, m) < 0.6
    rows[:, -1] = columns[:, 0] = True
    return rows, columns


def sparse(count: int, n: int, m: int) -> Tensor:
    """A mask that leaves an assignment: some pairs of a hidden one exist, and others."""
    mask = torch.rand(count, n, m) < 0.5
    return mask | Matching()(torch.randn(count, n, m)).bool()


@pytest.mark.parametrize("dtype", GRID)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("kernels")
def test_padded_problems_are_those_alone(dtype: torch.dtype, tied: bool, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    theta = (torch.randint(-2, 3, (6, *shape)) if tied else torch.randn(6, *shape)).to(dtype)
    rows, columns = padding(6, *shape)
    mask = rows[:, :, None] & columns[:, None]
    solver, cost = Matching(), torch.rand(6, shape[0]).round(decimals=1)
    y = solver(junk(theta, mask), {"mask": mask})
    partial = solver(junk(theta, mask), {"mask": mask, "unmatched": cost})
    assert solver.is_feasible(y, {"mask": mask}).all()
    assert solver.is_feasible(partial, {"mask": mask, "unmatched": cost}).all()
    for i in range(6):
        own = theta[i][rows[i]][:, columns[i]]
        for found, right in ((y, solver(own)), (partial, solver(own, {"unmatched": cost[i][rows[i]]}))):
            assert torch.equal(found[i][rows[i]][:, columns[i]], right)
            assert not found[i][~mask[i]].any()


@pytest.mark.parametrize("dtype", GRID)
@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30, 0.0])
@pytest.mark.parametrize("shape", [(3, 3), (3, 4), (4, 3)])
@pytest.mark.usefixtures("kernels")
def test_forbidden_pairs_and_unmatched_rows_are_the_best_of_all(
    dtype: torch.dtype, scale: float, shape: tuple[int, int]
) -> None:
    torch.manual_seed(1)
    theta = scale * torch.randn(12, *shape, dtype=dtype)
    mask = sparse(12, *shape)
    cost = (scale * torch.randn(12, shape[0])).to(dtype)
    solver = Matching()
    wild = junk(theta, mask)
    y, partial = solver(wild, {"mask": mask}), solver(wild, {"mask": mask, "unmatched": cost})
    for i in range(12):
        own = {"mask": mask[i]}
        ys = solver.vertices(shape, own).to(dtype)
        assert solver.is_feasible(ys, own).all()
        assert (ys == y[i]).flatten(1).all(1).any()
        torch.testing.assert_close(dot(theta[i], y[i], 2), (theta[i] * ys).sum((-2, -1)).amax(), rtol=1e-6, atol=0)
        own["unmatched"] = cost[i]
        ys = solver.vertices(shape, own).to(dtype)
        assert solver.is_feasible(ys, own).all()
        moved = theta[i] + cost[i][:, None]
        best = (moved * ys).sum((-2, -1)).amax()
        torch.testing.assert_close(dot(moved, partial[i], 2), best, rtol=1e-5, atol=1e-6 * scale)


def test_the_ends_of_float64() -> None:
    theta = 1.7e308 * torch.tensor([[1.0, -1.0], [0.5, 1.0]], dtype=torch.float64)
    mask = torch.tensor([[False, True], [True, True]])
    assert Matching()(theta, {"mask": mask}).tolist() == [[0, 1], [1, 0]]


def test_a_row_stays_unmatched_where_that_costs_less() -> None:
    theta = torch.tensor([[-1.0, -3.0], [-2.0, -9.0]])
    assert Matching()(theta, {"unmatched": 100.0}).tolist() == Matching()(theta).tolist() == [[0, 1], [1, 0]]
    assert Matching()(theta, {"unmatched": 4.5}).tolist() == [[0, 1], [1, 0]]
    assert Matching()(theta, {"unmatched": 4.0}).tolist() == [[1, 0], [0, 0]]  # a tie: the first row, the first column
    assert Matching()(theta, {"unmatched": 1.5}).tolist() == [[1, 0], [0, 0]]
    assert Matching()(theta, {"unmatched": torch.tensor([0.0, 9.5])}).tolist() == [[0, 0], [1, 0]]
    assert Matching()(theta, {"unmatched": 0.5}).tolist() == [[0, 0], [0, 0]]
    assert Matching()(theta, {"unmatched": 4.0, "mask": torch.zeros(2, 2).bool()}).tolist() == [[0, 0], [0, 0]]
    assert Matching()(theta, {"mask": torch.zeros(2, 2).bool()}).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("cost", [None, 0.3])
@pytest.mark.parametrize("shape", [(3, 3), (3, 4), (4, 3)])
def test_relaxations_and_projections(cost: float | None, shape: tuple[int, int]) -> None:
    torch.manual_seed(2)
    solver = Matching(200)
    rows, columns = padding(4, *shape)
    mask = rows[:, :, None] & columns[:, None]
    own = {} if cost is None else {"unmatched": cost}
    theta = torch.randn(4, *shape, dtype=torch.float64)
    soft = solver.relax(junk(theta, mask), 0.5, {"mask": mask} | own)
    projected = solver.project(junk(theta, mask), {"mask": mask} | own)
    for i in range(4):
        alone = theta[i][rows[i]][:, columns[i]]
        torch.testing.assert_close(soft[i][rows[i]][:, columns[i]], solver.relax(alone, 0.5, own))
        torch.testing.assert_close(projected[i][rows[i]][:, columns[i]], solver.project(alone, own))
    mask = sparse(4, *shape) & (torch.ones(4, 1, 1).bool() if cost is None else rows[:, :, None])
    instance = {"mask": mask} | own
    soft = solver.relax(theta, 1.0, instance)
    assert not soft[~mask].any()
    most = torch.maximum(soft.sum(-1).amax(), soft.sum(-2).amax())
    assert most <= 1 + (2 / 200 if cost is None else 1e-6)  # pairs of no assignment vanish as 1 / iterations
    y = solver(theta, instance)
    clear = 0.1 * theta + 2 * y - 1
    assert torch.allclose(solver.relax(clear, 0.05, instance), y, atol=0.02)
    assert torch.equal(solver(solver.project(theta, instance), instance), y)
    leaf = theta.requires_grad_()
    few = Matching(4)
    assert torch.autograd.gradcheck(lambda x: few.relax(x, 0.7, instance), (leaf,))
    assert torch.autograd.gradcheck(lambda x: few.project(x, instance), (leaf,))


@pytest.mark.parametrize("name", ["Identity", "Blackbox", "IMLE", "StraightThrough", "GumbelSoftmax"])
@pytest.mark.parametrize("cost", [None, 0.3])
def test_masked_scores_get_no_gradient(name: str, cost: float | None) -> None:
    torch.manual_seed(3)
    mask = sparse(5, 4, 4)
    theta = junk(torch.randn(5, 4, 4), mask).clamp(-1e9, 1e9).requires_grad_()
    instance = {"mask": mask} if cost is None else {"mask": mask, "unmatched": cost}
    y, surrogate = getattr(estimators, name)()(Matching(), theta, instance)
    surrogate((y - torch.rand(y.shape)).square().sum((-1, -2))).sum().backward()
    assert theta.grad is not None
    assert theta.grad.isfinite().all()
    assert theta.grad.any()
    assert not theta.grad[~mask].any()


def test_masks_pass_through_vmap() -> None:
    theta, mask = torch.randn(3, 3, 4), sparse(1, 3, 4)[0]
    for instance in ({"mask": mask}, {"mask": mask, "unmatched": 0.1}):
        y = Matching()(theta, instance)
        assert torch.equal(torch.func.vmap(lambda x, i=instance: Matching()(x, i))(theta), y)


WRONG: list[tuple[dict[str, object], str]] = [
    ({"mask": torch.ones(2, 2, 2)}, "Matching: the mask must be boolean"),
    ({"mask": torch.ones(2, 3).bool()}, r"Matching: a mask of shape \[2, 3\] does not broadcast"),
    ({"unmatched": "x"}, "the cost `unmatched` is no array of numbers"),
    ({"unmatched": float("nan")}, "must be finite"),
    ({"unmatched": torch.ones(3)}, r"a cost `unmatched` of shape \[3\] does not broadcast to the rows"),
]  # fmt: skip


@pytest.mark.parametrize(("instance", "message"), WRONG)
def test_errors(instance: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Matching()(torch.randn(2, 2, 2), instance)


@pytest.mark.usefixtures("kernels")
def test_a_mask_without_an_assignment_names_the_problem() -> None:
    mask = torch.ones(2, 3, 3).bool()
    mask[1, :2, 1:] = False  # the first two rows want the same column
    with pytest.raises(UserError, match=r"Matching: row \[1\]: the mask leaves no assignment of every row"):
        Matching()(torch.randn(2, 3, 3), {"mask": mask})
    y = Matching()(torch.randn(2, 3, 3), {"mask": mask, "unmatched": 100.0})
    assert y.sum((-1, -2)).tolist() == [3, 2]
