"""Shape arithmetic on `[*samples, *batch, *event]` tensors."""

import torch
from torch import Tensor


def sum_to(x: Tensor, ndim: int) -> Tensor:
    """Sums trailing dims until `ndim` are left."""
    return x.flatten(ndim).sum(-1) if x.ndim > ndim else x


def mean_to(x: Tensor, ndim: int) -> Tensor:
    """The mean over leading dims, those of samples, until `ndim` are left."""
    return x.mean(tuple(range(x.ndim - ndim))) if x.ndim > ndim else x


def align(x: Tensor, ndim: int) -> Tensor:
    """Appends dims of size one until there are `ndim`."""
    return x.reshape(x.shape + (1,) * (ndim - x.ndim))


def centre(x: Tensor, event_dim: int) -> Tensor:
    """Subtracts the mean over the event dims: a shift-invariant solver ignores it."""
    return x - x.mean(_event_dims(event_dim), keepdim=True) if event_dim else x


def normalise(x: Tensor, event_dim: int) -> Tensor:
    """Divides by the Euclidean norm over the event dims: a scale-invariant solver ignores it. Zero stays zero."""
    if not event_dim:
        return x
    norm = torch.linalg.vector_norm(x, dim=_event_dims(event_dim), keepdim=True)
    return x / torch.where(norm > 0, norm, 1)


def unravel(row: int, leading: torch.Size) -> list[int] | int:
    """The position of the row-th input in the leading dims; 0 where there are none."""
    return [int(i) for i in torch.unravel_index(torch.tensor(row), leading)] if leading else 0


def _event_dims(event_dim: int) -> tuple[int, ...]:
    return tuple(range(-event_dim, 0))


def unexpanded(x: Tensor, event_dim: int) -> Tensor:
    """`[problems, *event]`, contiguous: one problem if all inputs share it by `expand`, else as many as inputs."""
    leading = x.ndim - event_dim
    shared = all(size == 1 or stride == 0 for size, stride in zip(x.shape[:leading], x.stride()[:leading], strict=True))
    if shared:
        return x.as_strided((1, *x.shape[leading:]), (1, *x.stride()[leading:])).contiguous()
    return x.reshape(-1, *x.shape[leading:]).contiguous()
