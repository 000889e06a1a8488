"""Programs: a linear objective under linear constraints, some variables integral."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.shapes import normalise
from dbp.solvers.highs import maximise, meets
from dbp.solvers.instances import fields, host_rows, naming, per_row
from dbp.solvers.listing import listed
from dbp.solvers.workers import call_each

Vector = tuple[float, ...]
Matrix = tuple[Vector, ...]

_DIMS = {"A_ub": 2, "b_ub": 1, "A_eq": 2, "b_eq": 1, "lower": 1, "upper": 1, "integer": 1}


@dataclass(frozen=True)
class IntegerProgram(Solver):
    """A linear or mixed-integer program, solved to optimality by HiGHS.

        max <theta, y>   subject to   A_ub y <= b_ub,  A_eq y = b_eq,  lower <= y <= upper,  y_i integral if integer_i

    An `instance` is a mapping of any of these names to tensors, used instead of the solver's own: without
    leading dims the same for all rows (A may be a SciPy sparse matrix then), with leading dims one for each. Which of
    several optima is returned is up to HiGHS, the same in every call. Integral entries of y are exactly integral.
    Scores below 1e-10 of the largest count as zero.

    Args:
        A_ub: the coefficients of the inequalities, `[inequalities, n]`.
        b_ub: their right-hand sides.
        A_eq: the coefficients of the equations, `[equations, n]`.
        b_eq: their right-hand sides.
        lower: the bound from below, `-inf` for none; one number for all, or `[n]`.
        upper: the bound from above, `inf` for none; one number for all, or `[n]`.
        integer: true where y is integral; one for all, or `[n]`.
        workers: processes, at least two, to solve the rows in; 0 solves them here. Worth it from some ten milliseconds
            a program.
        time_limit: seconds for each program.

    Raises:
        UserError: a program is infeasible, unbounded, malformed or out of time; it names the row.

    Source: Huangfu, Hall, "Parallelizing the dual revised simplex method", Mathematical Programming Computation, 2018.
    """

    instance_keys = ("A_ub", "b_ub", "A_eq", "b_eq", "lower", "upper", "integer")
    A_ub: Matrix = ()
    b_ub: Vector = ()
    A_eq: Matrix = ()
    b_eq: Vector = ()
    lower: float | Vector = 0.0
    upper: float | Vector = 1.0
    integer: bool | tuple[bool, ...] = True
    workers: int = 0
    time_limit: float | None = None

    @ops.eager  # HiGHS takes NumPy's arrays
    def solve(self, theta: Tensor, instance: Any) -> Tensor:
        leading, n = theta.shape[:-1], theta.shape[-1]
        programs = self._programs(instance, leading, n)
        scores = host_rows(self, theta)
        calls = [(row, *program, self.time_limit) for row, program in zip(scores, programs, strict=True)]
        y = call_each(maximise, calls, naming(self, leading), self.workers)
        return torch.from_numpy(np.reshape(y, theta.shape)).to(theta)

    def project(self, theta: Tensor, instance: Instance = None) -> Tensor:
        return normalise(theta, 1)

    def is_feasible(self, y: Tensor, instance: Instance = None) -> Tensor:
        leading, n = y.shape[:-1], y.shape[-1]
        rows = zip(
            y.reshape(math.prod(leading), n).double().cpu().resolve_neg().numpy(),
            self._programs(instance, leading, n),
            strict=True,
        )
        found = [meets(row, *program) for row, program in rows]
        return torch.tensor(found, dtype=torch.bool, device=y.device).reshape(leading)

    def vertices(self, shape: Sequence[int], instance: Instance = None) -> Tensor:
        """All feasible points, of a program with nothing but bounded integers: `[count, n]`."""
        *_, lower, upper, integer = self._programs(instance, (), shape[0])[0]
        if not (integer.all() and np.isfinite(upper - lower).all()):
            raise UserError("IntegerProgram: only the points of a program of bounded integers can be listed")
        ranges = [range(math.ceil(low), math.floor(high) + 1) for low, high in zip(lower, upper, strict=True)]
        points = torch.tensor(listed(itertools.product(*ranges)), dtype=torch.get_default_dtype()).reshape(-1, shape[0])
        return points[self.is_feasible(points, instance)]

    def _programs(self, instance: Any, leading: Sequence[int], n: int) -> list[tuple[Any, ...]]:
        """The arguments of `maximise` for each row."""
        given = fields(self, instance, *_DIMS)
        columns = {name: _column(name, value, leading, n) for name, value in given.items()}
        for kind in ("ub", "eq"):
            if columns["A_" + kind][0].shape[0] != len(columns["b_" + kind][0]):
                raise UserError(
                    f"IntegerProgram: A_{kind} and b_{kind} need one length, a row and a right-hand side each"
                )
        return [tuple(c[row % len(c)] for c in columns.values()) for row in range(math.prod(leading))]


def _column(name: str, value: Any, leading: Sequence[int], n: int) -> list[Any]:
    """The values of one name: a list with one entry for all rows, or with one for each."""
    from scipy.sparse import issparse

    if issparse(value):
        wide, column = value.shape[1], [value]
    else:
        dims = _DIMS[name]
        try:
            tensor = torch.as_tensor(value, dtype=torch.float64).cpu().resolve_neg()
        except (TypeError, ValueError) as error:
            raise UserError(f"IntegerProgram: {name} is no array of numbers: {error}") from error
        if name in ("lower", "upper", "integer") and not tensor.ndim:
            tensor = tensor.expand(n)
        if name in ("A_ub", "A_eq") and not tensor.numel():
            tensor = tensor.new_zeros(0, n)
        if tensor.ndim < dims:
            raise UserError(f"IntegerProgram: {name} needs {dims} dims, got shape {list(tensor.shape)}")
        shared = tensor.ndim == dims
        column = list((tensor.unsqueeze(0) if shared else per_row(tensor, dims, leading, name)).numpy())
        wide = tensor.shape[-1]
    if name not in ("b_ub", "b_eq") and wide != n:
        raise UserError(f"IntegerProgram: {name} is for {wide} variables, and theta has {n} scores")
    return column
