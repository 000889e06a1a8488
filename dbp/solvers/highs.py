"""One linear or mixed-integer program, by HiGHS through SciPy."""

from typing import Any

import numpy as np

from dbp.errors import UserError

_TOLERANCE = 1e-6  # HiGHS's own, for constraints and for integrality


def maximise(
    scores: np.ndarray,
    A_ub: Any,
    b_ub: np.ndarray,
    A_eq: Any,
    b_eq: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    integer: np.ndarray,
    time_limit: float | None = None,
) -> np.ndarray:
    """The y of one program: dense or sparse A, all else dense, `lower`, `upper` and `integer` of the scores' shape."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import issparse

    coefficients = [A.data if issparse(A) else A for A in (A_ub, A_eq)]
    sides = (b_ub, b_eq, lower, upper)
    if not all(np.isfinite(A).all() for A in coefficients) or any(np.isnan(side).any() for side in sides):
        raise UserError("the program has coefficients that are not finite, or a bound that is NaN")
    if not scores.size or (time_limit is not None and time_limit < 0):
        raise UserError("a program has at least one variable, and no negative time limit")
    # HiGHS's tolerances are absolute: without a common scale, small scores would all count as zero.
    cost = -np.ldexp(scores, 10 - np.frexp(np.abs(scores).max(initial=0))[1])
    rows = [LinearConstraint(_narrow(A_ub), -np.inf, b_ub)] if A_ub.shape[0] else []
    rows += [LinearConstraint(_narrow(A_eq), b_eq, b_eq)] if A_eq.shape[0] else []
    options = {"mip_rel_gap": 0.0} | ({} if time_limit is None else {"time_limit": time_limit})
    problem = {"integrality": integer, "bounds": Bounds(lower, upper), "constraints": rows, "options": options}
    result = milp(cost, **problem)
    status = result.status
    if status == 4:  # infeasible or unbounded: without an objective only the former is possible
        status = {0: 3, 2: 2}.get(milp(np.zeros_like(cost), **problem).status, 1)
    if status:
        raise UserError(_WHY.get(status, result.message).format(limit=time_limit))
    return np.where(integer, result.x.round(), result.x) + 0.0  # not -0


_WHY = {
    1: "the program was not solved within the time limit of {limit} s",
    2: "the program is infeasible: no y meets all of its constraints and bounds",
    3: "the program is unbounded: <theta, y> grows for ever; add bounds or constraints",
}


def _narrow(A: Any) -> Any:
    """With the indices that SciPy's HiGHS took until 1.14, if A is sparse."""
    from scipy.sparse import csc_array, issparse

    if not issparse(A):
        return A
    A = csc_array(A)
    return csc_array((A.data, A.indices.astype(np.int32), A.indptr.astype(np.int32)), shape=A.shape)


def meets(
    y: np.ndarray, A_ub: Any, b_ub: np.ndarray, A_eq: Any, b_eq: np.ndarray, lower: Any, upper: Any, integer: np.ndarray
) -> bool:
    """True if y satisfies the program, within HiGHS's tolerance."""
    broken = abs(y - y.round())[integer > 0]
    below = np.concatenate([A_ub @ y - b_ub, abs(A_eq @ y - b_eq), lower - y, y - upper, broken])
    size = max(1.0, *(np.abs(b[np.isfinite(b)]).max(initial=0) for b in (b_ub, b_eq, lower, upper)))
    return bool((below <= _TOLERANCE * size).all())
