"""Calls the kernels through ctypes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dbp.native import loader, torch_private

_SUFFIX = {torch.float32: "f32", torch.float64: "f64"}
_OUT_OF_MEMORY, _FAILED = -1, -2
_NEVER_KEPT = 2**25  # bytes; malloc returns blocks of this size to the system on free and maps them anew
_LIBRARY, _ = loader.load()  # now, where torch.compile does not look
if _LIBRARY is not None and (_PARALLEL_FOR := torch_private.parallel_for()):
    _LIBRARY.dbp_lend_threads(_PARALLEL_FOR)


def serves(theta: Tensor) -> bool:
    """Tells whether the kernels are available and take this tensor: on the CPU, float32 or float64."""
    return theta.is_cpu and theta.dtype in _SUFFIX and _LIBRARY is not None


def widen(theta: Tensor) -> Tensor:
    """Converts without loss to what kernels and twins compute in: narrower floats to float32, integers to float64."""
    if theta.dtype in _SUFFIX:
        return theta
    return theta.to(torch.float32 if theta.is_floating_point() else torch.float64)


def empty_like(x: Tensor) -> Tensor:
    """Allocates a contiguous tensor like x, not initialised; a large one in huge pages where the system has them."""
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    if y.nbytes >= _NEVER_KEPT and serves(y):
        loader.function("dbp_huge_pages", 1, 1)(y.data_ptr(), y.nbytes)
    return y


def call(name: str, tensors: Sequence[Tensor | None], *sizes: int, scale: float | None = None) -> int:
    """Calls `dbp_<name>_<f32|f64>(pointers of tensors..., sizes..., scale, threads)`; the first tensor's dtype chooses.

    Sizes are passed as int64, an optional scale as a double, and null tensors as null pointers. Tensors that are not
    contiguous are copied, so the tensor that takes the result must be contiguous.

    Returns:
        0, or `8 * row + code`: the first row that cannot be solved, and why.

    Raises:
        MemoryError: the kernel found no room for its work space.
        RuntimeError: any other C++ exception, with its message.
    """
    kept: list[Any] = []  # keeps copies alive while the kernel runs
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
    if result == _FAILED:
        raise RuntimeError(f"the {name} kernel failed: {loader.failure()}")
    return result
