"""Sparse relaxations: projections with exact zeros and exact Jacobians, by the `entmax` package."""

from torch import Tensor

from dbp.core import Solver
from dbp.errors import UserError


def require_entmax(solver: Solver) -> None:
    """Raises a `UserError` that names the solver unless the package is installed."""
    try:
        import entmax  # noqa: F401
    except ImportError:
        raise UserError(
            f"{type(solver).__name__}: this relaxation needs entmax: pip install 'discrete-backprop[sparse]'"
        ) from None


def entmax(theta: Tensor, alpha: float) -> Tensor:
    """`argmax_p <theta, p> + H_alpha(p)` over the simplex of the last dim."""
    import entmax

    exact = {1: lambda x, dim: x.softmax(dim), 1.5: entmax.entmax15, 2: entmax.sparsemax}
    if alpha in exact:
        return exact[alpha](theta, dim=-1)
    return entmax.entmax_bisect(theta, alpha=alpha, dim=-1)


def budget(theta: Tensor, k: int) -> Tensor:
    """The Euclidean projection of theta onto `{0 <= p <= 1, sum p = k}` of the last dim."""
    import entmax

    return entmax.budget_bisect(theta, budget=k, dim=-1) if k > 1 else entmax.sparsemax(theta, dim=-1)
