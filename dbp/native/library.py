"""Calls the kernels."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dbp.native import loader

_SUFFIX = {torch.float32: "f32", torch.float64: "f64"}
_OUT_OF_MEMORY = -1
_NEVER_KEPT = 2**25  # so many bytes malloc gives back to the system when they are freed, and takes anew
_LIBRARY, _ = loader.load()  # now, where torch.compile does not look
_TORCH = ctypes.CDLL(torch._C.__file__)
if _LIBRARY is not None and hasattr(_TORCH, "torch_parallel_for"):  # from 2.10 on
    _LIBRARY.dbp_lend_threads(_TORCH.torch_parallel_for)


def serves(theta: Tensor) -> bool:
    """Whether the kernels are there and take this tensor: on the CPU, float32 or float64."""
    return theta.is_cpu and theta.dtype in _SUFFIX and _LIBRARY is not None


def widen(theta: Tensor) -> Tensor:
    """Converts without loss to what kernels and twins compute in: narrower floats to float32, integers to float64."""
    if theta.dtype in _SUFFIX:
        return theta
    return theta.to(torch.float32 if theta.is_floating_point() else torch.float64)


def empty_like(x: Tensor) -> Tensor:
    """Contiguous, not initialised; in huge pages, where that is to be had, if it is much."""
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    if y.nbytes >= _NEVER_KEPT and serves(y):
        loader.function("dbp_huge_pages", 1, 1)(y.data_ptr(), y.nbytes)
    return y


def call(name: str, tensors: Sequence[Tensor | None], *sizes: int, scale: float | None = None) -> int:
    """Calls `dbp_<name>_<f32|f64>(pointers of tensors..., sizes..., scale, threads)`; the first tensor's dtype chooses.

    Sizes go in as int64, a scale, where there is one, as a double, and null tensors as null pointers. What is not
    contiguous is copied, hence the tensor that takes the result must be.

    Returns:
        0, or `8 * row + code`: the first row that cannot be solved, and why.

    Raises:
        MemoryError: the kernel found no room for its work space.
    """
    kept: list[Any] = []  # as long as the kernel runs
    pointers: list[int | None] = []
    for tensor in tensors:
        if tensor is not None:
            tensor = tensor.contiguous()
            if tensor.is_neg():  # a lazy view, whose memory has the opposite sign; only complex ones can be conjugates
                tensor = tensor.resolve_neg()
        kept.append(tensor)
        pointers.append(None if tensor is None else tensor.data_ptr())
    symbol = f"dbp_{name}_{_SUFFIX[kept[0].dtype]}"
    function = loader.function(symbol, len(kept), len(sizes) + 1, scale is not None)
    scales = () if scale is None else (scale,)
    result = function(*pointers, *sizes, *scales, torch.get_num_threads())
    if result == _OUT_OF_MEMORY:
        raise MemoryError(f"no memory for the work space of the {name} kernel")
    return result
