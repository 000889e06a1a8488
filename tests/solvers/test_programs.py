"""Integer programs against enumeration, an independent library's matchings, and their errors."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment, linprog

from dbp import UserError
from dbp.solvers import IntegerProgram

INF = float("inf")


def integers(*shape, low=-9, high=10, seed=0):
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).double()


def values(y, theta):
    return (y * theta).sum(-1)


PROGRAMS = {
    "free binaries": IntegerProgram(),
    "knapsack": IntegerProgram(A_ub=((3, 5, 2, 7),), b_ub=(9,)),
    "two of four": IntegerProgram(A_eq=((1, 1, 1, 1),), b_eq=(2,)),
    "both kinds": IntegerProgram(A_ub=((1, 1, 0, 0), (0, 2, 3, 1)), b_ub=(1, 4), A_eq=((1, 1, 1, 1),), b_eq=(2,)),
    "counts": IntegerProgram(A_ub=((1, 2, -1, 1),), b_ub=(4,), lower=(-1, 0, 0, -2), upper=(2.5, 3, 1, 1)),
    "one point": IntegerProgram(A_eq=((1, 1, 1, 1),), b_eq=(4,)),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_optimal_among_all_points(name, scale):
    solver, theta = PROGRAMS[name], integers(40, 4)
    points = solver.vertices([4]).double()
    assert solver.is_feasible(points).all()
    y = solver(scale * theta)
    assert solver.is_feasible(y).all()
    assert torch.equal(y, y.round())
    assert torch.equal(values(y, theta), (theta @ points.T).amax(-1))


def test_points_are_all_there_are():
    points = PROGRAMS["counts"].vertices([4])
    grid = torch.cartesian_prod(torch.arange(-3.0, 4), *[torch.arange(-3.0, 4)] * 3)
    inside = (grid >= torch.tensor([-1, 0, 0, -2])).all(1) & (grid <= torch.tensor([2.5, 3, 1, 1])).all(1)
    inside &= grid @ torch.tensor([1.0, 2, -1, 1]) <= 4
    assert torch.equal(points, grid[inside])


def test_assignments_are_those_of_scipy():
    n, theta = 6, torch.randn(10, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = np.concatenate([np.kron(np.eye(n), np.ones(n)), np.kron(np.ones(n), np.eye(n))])
    y = IntegerProgram(A_eq=tuple(map(tuple, rows.tolist())), b_eq=(1.0,) * (2 * n))(theta.flatten(1))
    for score, mine in zip(theta, y.unflatten(1, (n, n)), strict=True):
        assert torch.equal(mine.argmax(1), torch.from_numpy(linear_sum_assignment(-score)[1]))


def test_linear_programs_are_those_of_linprog():
    A = torch.cat([integers(3, 5, low=0, seed=1), torch.ones(1, 5)])
    b, theta = integers(4, low=5, seed=2), integers(8, 5, seed=3)
    y = IntegerProgram(upper=INF, integer=False)(theta, {"A_ub": A, "b_ub": b})
    for row, mine in zip(theta, y, strict=True):
        assert float(row @ mine) == pytest.approx(-linprog(-row.numpy(), A.numpy(), b.numpy()).fun)


def test_some_variables_integral():
    solver = IntegerProgram(A_ub=((2, 2),), b_ub=(3,), integer=(True, False))
    torch.testing.assert_close(solver(torch.tensor([[3.0, 1.0], [1.0, 3.0]])), torch.tensor([[1.0, 0.5], [0.0, 1.0]]))


def test_one_program_for_each_row():
    theta, A, b = integers(3, 4, 5, low=1), integers(4, 1, 5, low=1, seed=1), integers(4, 1, low=3, high=20, seed=2)
    solver, instance = IntegerProgram(), {"A_ub": A, "b_ub": b}
    y = solver(theta, instance)
    assert solver.is_feasible(y, instance).all()
    for sample in range(3):
        for row in range(4):
            alone = IntegerProgram(A_ub=tuple(map(tuple, A[row].tolist())), b_ub=tuple(b[row].tolist()))
            assert torch.equal(values(alone(theta[sample, row]), theta[sample, row]), values(y, theta)[sample, row])


def test_sparse_constraints():
    from scipy.sparse import csr_array

    solver, theta = PROGRAMS["both kinds"], integers(20, 4)
    instance = {"A_ub": csr_array(np.array(solver.A_ub)), "A_eq": csr_array(np.array(solver.A_eq))}
    assert torch.equal(solver(theta, instance), solver(theta))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_shapes_and_dtypes(dtype):
    solver, theta = PROGRAMS["knapsack"], integers(3, 2, 4).to(dtype)
    y = solver(theta)
    assert y.dtype == dtype
    assert torch.equal(y, torch.stack([torch.stack([solver(row) for row in rows]) for rows in theta]))
    assert torch.equal(solver(theta.transpose(0, 1).contiguous().transpose(0, 1)), y)
    assert solver(theta[:0]).shape == (0, 2, 4)
    assert solver.is_feasible(theta[:0]).shape == (0, 2)
    assert torch.equal(solver(theta), y)


def test_single_variable():
    assert IntegerProgram(upper=3)(torch.tensor([[2.0], [-1.0]])).tolist() == [[3], [0]]


@pytest.mark.parametrize("name", PROGRAMS)
def test_projection_changes_no_value(name):
    solver, theta = PROGRAMS[name], integers(20, 4)
    torch.testing.assert_close(values(solver(solver.project(theta)), theta), values(solver(theta), theta))


def test_worker_processes_decide_the_same():
    theta = integers(12, 4)
    here, there = PROGRAMS["knapsack"], IntegerProgram(A_ub=((3, 5, 2, 7),), b_ub=(9,), workers=2)
    assert torch.equal(there(theta), here(theta))
    with pytest.raises(UserError, match=r"row \[1\]: the program is infeasible"):
        there(theta[:2], {"b_ub": torch.tensor([[1.0], [-1.0]])})


HARD = integers(6, 60, low=1, high=1000)
ERRORS = {
    "infeasible": (IntegerProgram(A_ub=((1, 1),)), {"b_ub": torch.tensor([[1.0], [-1.0]])}, r"row \[1\].*infeasible"),
    "no integer": (IntegerProgram(A_eq=((2, 2),)), {"b_eq": torch.tensor([[2.0], [1.0]])}, r"row \[1\].*infeasible"),
    "bounds": (IntegerProgram(lower=2.0), None, r"row \[0\].*infeasible"),
    "unbounded": (IntegerProgram(upper=INF), None, r"row \[1\].*unbounded"),
    "unbounded LP": (IntegerProgram(upper=INF, integer=False), None, r"row \[1\].*unbounded"),
    "columns": (IntegerProgram(A_ub=((1, 1, 1),), b_ub=(1,)), None, "A_ub is for 3 variables, and theta has 2"),
    "bound columns": (IntegerProgram(lower=(0, 0, 0)), None, "lower is for 3"),
    "rows": (IntegerProgram(A_ub=((1, 1), (2, 2)), b_ub=(1,)), None, "A_ub and b_ub"),
    "ragged": (IntegerProgram(A_ub=((1, 1), (2,)), b_ub=(1, 1)), None, "no array"),
    "flat": (IntegerProgram(A_ub=(1, 1), b_ub=(1,)), None, "2 dims"),
    "unknown": (IntegerProgram(), {"capacity": torch.ones(1)}, "capacity"),
    "no mapping": (IntegerProgram(), torch.ones(1), "A_ub, b_ub"),
    "nan": (
        IntegerProgram(b_ub=(1,)),
        {"A_ub": torch.tensor([[[1.0, 1]], [[INF - INF, 1]]])},
        r"row \[1\].*not finite",
    ),
    "nan bound": (IntegerProgram(lower=INF - INF), None, r"row \[0\].*NaN"),
    "time": (IntegerProgram(time_limit=-1.0), None, "no negative time limit"),
    "leading dims": (IntegerProgram(A_ub=((1, 1),)), {"b_ub": torch.ones(3, 1)}, r"\[3, 1\]"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_what_is_wrong(name):
    solver, instance, message = ERRORS[name]
    with pytest.raises(UserError, match=message):
        solver(torch.tensor([[-1.0, -1.0], [-1.0, 1.0]]), instance)


def test_out_of_time():
    instance = {"A_ub": HARD, "b_ub": HARD.sum(1) / 2}
    with pytest.raises(UserError, match=r"row \[0\]: the program was not solved within the time limit of 0.01 s"):
        IntegerProgram(time_limit=0.01)(HARD.sum(0).expand(2, 60) + integers(60, low=0), instance)


def test_points_of_a_continuous_program_are_refused():
    with pytest.raises(UserError, match="bounded integers"):
        IntegerProgram(integer=False).vertices([2])
