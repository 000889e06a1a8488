"""Loads the kernels, says whether they are in use, and calls them."""

import ctypes
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

_SUFFIX = {torch.float32: "f32", torch.float64: "f64"}
_OUT_OF_MEMORY = -1


_SETS = ("kernels", "kernels_avx2", "kernels_avx512")


def _load() -> tuple[ctypes.CDLL | None, str]:
    if os.environ.get("DBP_NATIVE") == "0":
        return None, "torch (DBP_NATIVE=0)"
    if not _path("kernels").exists():
        return None, "torch (installed without a C++ compiler)"
    try:
        best = ctypes.CDLL(str(_path("kernels"))).dbp_best_instruction_set()
        name = next(name for name in reversed(_SETS[: best + 1]) if _path(name).exists())
        return ctypes.CDLL(str(_path(name))), f"native ({name})"
    except OSError as error:
        return None, f"torch ({error})"


def _path(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.so")


_LIBRARY, _STATUS = _load()


def status() -> str:
    """What the solvers run on: `native (kernels_avx512)`, or `torch` with the reason why no kernel is used."""
    return _STATUS


def serves(theta: Tensor) -> bool:
    """Whether the kernels are there and take this tensor: on the CPU, float32 or float64."""
    return theta.device.type == "cpu" and theta.dtype in _SUFFIX and _LIBRARY is not None


def widen(theta: Tensor) -> Tensor:
    """Without loss to what kernels and twins compute in: narrower floats to float32, integers to float64."""
    if theta.dtype in _SUFFIX:
        return theta
    return theta.to(torch.float32 if theta.is_floating_point() else torch.float64)


def call(name: str, tensors: Sequence[Tensor | None], *sizes: int) -> int:
    """Calls `dbp_<name>_<f32|f64>(pointers of tensors..., sizes..., threads)`; the first tensor's dtype chooses.

    ctypes lets go of the GIL. Null tensors are null pointers; those that are not contiguous are copied, hence the one
    that takes the result must be.

    Returns:
        0, or `8 * row + code`: the first row that cannot be solved, and why.

    Raises:
        MemoryError: the kernel found no room for its work space.
    """
    kept = [None if tensor is None else tensor.contiguous() for tensor in tensors]
    suffix = _SUFFIX[kept[0].dtype]  # type: ignore[union-attr]
    function = _function(f"dbp_{name}_{suffix}", len(kept), len(sizes) + 1)
    pointers = [None if tensor is None else tensor.data_ptr() for tensor in kept]
    result = function(*pointers, *sizes, torch.get_num_threads())
    if result == _OUT_OF_MEMORY:
        raise MemoryError(f"no memory for the work space of the {name} kernel")
    return result


@functools.cache
def _function(symbol: str, pointers: int, integers: int) -> Callable[..., int]:
    function = getattr(_LIBRARY, symbol)
    function.argtypes = [ctypes.c_void_p] * pointers + [ctypes.c_int64] * integers
    function.restype = ctypes.c_int64
    return function
