"""The compiled kernels of this machine. No torch here, so that `dbp list` can say at once what is in use."""

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from dbp.errors import UserError

_FOLDER = Path(__file__).parent / "native"
_SETS = ("kernels", "kernels_avx2", "kernels_avx512")


@cache
def load() -> tuple[ctypes.CDLL | None, str]:
    """The library that fits the processor, and its name; or None, and why torch is used in its place."""
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


@cache
def function(symbol: str, pointers: int, integers: int) -> Callable[..., int]:
    """A function of the library that takes addresses, then integers, and returns one; ctypes lets go of the GIL."""
    try:
        found = getattr(load()[0], symbol)
    except AttributeError:
        raise UserError(
            f"the compiled kernels are older than the source, and have no {symbol}: "
            "install again, or run python setup.py build_ext --inplace"
        ) from None
    found.argtypes = [ctypes.c_void_p] * pointers + [ctypes.c_int64] * integers
    found.restype = ctypes.c_int64
    return found


def status() -> str:
    """What the solvers run on: `native (kernels_avx512)`, or `torch` with the reason why no kernel is used."""
    return load()[1]


def _path(name: str) -> Path:
    return _FOLDER / f"{name}.so"
