"""Shape arithmetic on `[*samples, *batch, *event]` tensors."""

import torch
from torch import Tensor

from dbp.native.torch_private import functorch_level


def sum_to(x: Tensor, ndim: int) -> Tensor:
    """Sums trailing dims until `ndim` are left."""
    return x.flatten(ndim).sum(-1) if x.ndim > ndim else x


def mean_to(x: Tensor, ndim: int) -> Tensor:
    """The mean over leading dims, those of samples, until `ndim` are left."""
    return x.mean(tuple(range(x.ndim - ndim))) if x.ndim > ndim else x


def align(x: Tensor, ndim: int) -> Tensor:
    """Appends dims of size one until there are `ndim`."""
    return x.reshape(x.shape + (1,) * (ndim - x.ndim))


def centre(x: Tensor, event_dim: int, among: Tensor | None = None) -> Tensor:
    """Subtracts the mean over the event dims: a shift-invariant solver ignores it. For `among` see `standardise`."""
    return standardise(x, event_dim, among, scaled=False)


def normalise(x: Tensor, event_dim: int, among: Tensor | None = None) -> Tensor:
    """Divides by the Euclidean norm over the event dims: a scale-invariant solver ignores it. Zero stays zero."""
    return standardise(x, event_dim, among, centred=False)


def standardise(
    x: Tensor, event_dim: int, among: Tensor | None = None, centred: bool = True, scaled: bool = True
) -> Tensor:
    """`(x - mean) / norm` over the event dims; differentiable, for scores of any range.

    A score below `-1e5 max(1, |largest|)` stands for a forbidden item: mean and norm are those of the others, and it
    keeps a large negative value. Without that rule one score of -1e9 would shrink the gradient of the rest to nothing.

    Args:
        x: `[*leading, *event]`.
        event_dim: the number of event dims.
        among: booleans that broadcast to x, which positions exist; the others become zero. Null for all.
        centred: subtract the mean.
        scaled: divide by the norm.
    """
    if not event_dim:
        return x
    dims = tuple(range(-event_dim, 0))
    if among is None and _is_plain(x):
        x = x - x.mean(dims, keepdim=True) if centred else x
        return x / _positive(torch.linalg.vector_norm(x, dim=dims, keepdim=True)) if scaled else x
    used = usable(x if among is None else x.masked_fill(~among, 0), dims)
    used = used if among is None else used & among
    z = torch.where(used, x, 0)
    size = _positive(z.detach().abs().amax(dims, keepdim=True))
    z = z / size
    if centred:
        z = torch.where(used, z - z.sum(dims, keepdim=True) / used.sum(dims, keepdim=True).clamp_min(1), 0)
    unit = _positive(torch.linalg.vector_norm(z, dim=dims, keepdim=True)) if scaled else 1 / size
    rest = x / (size * unit.detach() if scaled else 1)
    return torch.where(used, z / unit, rest if among is None else torch.where(among, rest, 0))


def usable(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """True for scores that do not stand for a forbidden item, below `-1e5 max(1, |largest|)` over these dims."""
    fixed = x.detach()
    top = fixed.amax(dims, keepdim=True) if dims else fixed
    return fixed >= -_FORBIDDEN * top.abs().clamp_min(1)


def norm(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The Euclidean norm over dims that are kept, of numbers of any range; no gradient."""
    if not dims:
        return x.detach().abs()
    size = _positive(x.detach().abs().amax(dims, keepdim=True))  # so that squares do not overflow
    return size * torch.linalg.vector_norm(x.detach() / size, dim=dims, keepdim=True)


_FORBIDDEN = 1e5


def _is_plain(x: Tensor) -> bool:
    """True if no score is so far out that it needs care; looked for where that costs no synchronisation."""
    if not x.is_cpu or not x.numel() or torch.compiler.is_compiling() or functorch_level():
        return not x.numel()
    extremes = torch.aminmax(x.detach())
    low, high = extremes.min.item(), extremes.max.item()
    return low > -_FORBIDDEN and 1e-12 < max(high, -low) < 1e18


def _positive(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 1)


def unravel(row: int, leading: torch.Size) -> list[int] | int:
    """The position of the row-th input in the leading dims; 0 where there are none."""
    return [int(i) for i in torch.unravel_index(torch.tensor(row), leading)] if leading else 0


def unexpanded(x: Tensor, event_dim: int) -> Tensor:
    """`[problems, *event]`, contiguous: one problem if all inputs share it by `expand`, else as many as inputs."""
    leading = x.ndim - event_dim
    shared = all(size == 1 or stride == 0 for size, stride in zip(x.shape[:leading], x.stride()[:leading], strict=True))
    if shared:
        return x.as_strided((1, *x.shape[leading:]), (1, *x.stride()[leading:])).contiguous()
    return x.reshape(-1, *x.shape[leading:]).contiguous()
