"""The calls of torchsort: soft sorting and soft ranking, the smallest score first."""

from collections.abc import Callable

import torch
from torch import Tensor

from dbp.compat.isotonic import isotonic_kl, isotonic_l2
from dbp.errors import UserError
from dbp.scores import require_finite
from dbp.solvers.permutations import falling

REGRESSIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l2": isotonic_l2, "kl": isotonic_kl}


def soft_rank(values: Tensor, regularization: str = "l2", regularization_strength: float = 1.0) -> Tensor:
    """The rank of each value, 1 for the smallest, made differentiable: a projection onto a permutahedron.

        l2:  argmin_y |y - values / strength|^2             over the convex hull of the permutations of (1, ..., n)
        kl:  exp argmin_z KL(exp z, exp(values / strength)) likewise, of (log 1, ..., log n)

    Source: Blondel, Teboul, Berthet, Djolonga, "Fast differentiable sorting and ranking", ICML 2020. The estimators
    reach the same projection by the relaxation of the solver `rank`.

    Args:
        values: `[*leading, n]`; whole numbers become floats. Computed in float64, returned in the given precision.
        regularization: "l2" or "kl".
        regularization_strength: positive; the ranks are exact as it vanishes.

    Raises:
        UserError: another regularization, a strength that is not positive, or values that are not finite.
    """
    regress, x = _checked(values, regularization, regularization_strength)
    z, order = (x.double() / regularization_strength).sort(-1, descending=True)
    kl = regularization == "kl"
    w = falling(z).expand_as(z)
    y = z - regress(z, w.log() if kl else w)
    return (y.exp() if kl else y).gather(-1, order.argsort(-1)).to(x.dtype)


def soft_sort(values: Tensor, regularization: str = "l2", regularization_strength: float = 1.0) -> Tensor:
    """The values in ascending order, made differentiable: the projection of `(1, ..., n) / strength`.

    It projects onto the convex hull of the permutations of the values, by the distance or by the divergence of
    `soft_rank`, whose arguments, errors and source it has. The solver `sort` relaxes to the same projection.
    """
    regress, x = _checked(values, regularization, regularization_strength)
    w = (-x.double()).sort(-1, descending=True).values
    z = (falling(w) / regularization_strength).expand_as(w)
    return (regress(z, w) - z).to(x.dtype)


def _checked(values: Tensor, regularization: str, strength: float) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor]:
    if regularization not in REGRESSIONS:
        raise UserError(f"regularization must be {' or '.join(REGRESSIONS)}, got {regularization!r}")
    if not strength > 0:
        raise UserError(f"regularization_strength must be positive, got {strength}")
    x = values if values.is_floating_point() else values.to(torch.get_default_dtype())
    if not x.ndim:
        raise UserError("soft_sort and soft_rank take values of at least one dim, got a single number")
    require_finite(x, 1, "torchsort")
    return REGRESSIONS[regularization], x
