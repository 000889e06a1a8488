"""Loads the compiled kernels that fit this machine. Imports no torch, so that `dbp list` stays fast."""

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path

from dbp.errors import UserError

_FOLDER = Path(__file__).parent
_SETS = ("kernels", "kernels_avx2", "kernels_avx512")
_CURE = "leave this folder, or build them with `pip install -e .`"


@cache
def load() -> tuple[ctypes.CDLL | None, str]:
    """Returns the library that fits the processor, and its name; or None, and why torch is used instead."""
    if os.environ.get("DBP_NATIVE") == "0":
        return None, "torch (DBP_NATIVE=0)"
    if not _path("kernels").exists():
        return None, f"torch ({_missing()})"
    try:
        best = ctypes.CDLL(str(_path("kernels"))).dbp_best_instruction_set()
        name = next(name for name in reversed(_SETS[: best + 1]) if _path(name).exists())
        return _of_these_sources(ctypes.CDLL(str(_path(name)))), f"native ({name})"
    except OSError as error:
        return None, f"torch ({error})"


def _missing() -> str:
    """Why there are no kernels: a checkout that hides an installed dbp which has them, or no compiler."""
    own = f"{_FOLDER.parent.name}/{_FOLDER.name}/kernels.so"
    for path in sys.path:
        if path and Path(path) != _FOLDER.parents[1] and Path(path, own).is_file():
            return f"{_FOLDER.parent} without kernels hides {Path(path, own).parents[1]} with kernels: {_CURE}"
    return "installed without kernels, as where there is no C++ compiler"


def _of_these_sources(library: ctypes.CDLL) -> ctypes.CDLL:
    """Returns the library; refuses one built from different sources (as after a pull), whose arguments may differ."""
    files = sorted([*_FOLDER.glob("src/*.cpp"), *_FOLDER.glob("src/*.h")])  # a wheel has none
    expected = int(sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:15], 16)
    built_of = ctypes.c_int64.in_dll(library, "dbp_sources").value if hasattr(library, "dbp_sources") else None
    if files and built_of != expected:
        raise UserError(
            "the compiled kernels are not of the sources in dbp/native/src: "
            "install again, or run python setup.py build_ext --inplace; DBP_NATIVE=0 runs without kernels"
        )
    return library


@cache
def function(symbol: str, pointers: int, integers: int, scaled: bool = False) -> Callable[..., int]:
    """Returns a function of the library that takes addresses, then integers, with a double before the last if `scaled`.

    It returns an integer; ctypes releases the GIL while it runs.
    """
    found = getattr(load()[0], symbol)
    numbers = [*[ctypes.c_int64] * (integers - 1), *[ctypes.c_double] * scaled, ctypes.c_int64]
    found.argtypes = [ctypes.c_void_p] * pointers + numbers
    found.restype = ctypes.c_int64
    return found


def failure() -> str:
    """Returns what the last C++ exception in this thread said."""
    say = load()[0].dbp_failure  # type: ignore[union-attr]
    say.restype = ctypes.c_char_p
    return say().decode(errors="replace")


def status() -> str:
    """Returns what the solvers run on: `native (kernels_avx512)`, or `torch` with the reason why no kernel is used."""
    return load()[1]


def _path(name: str) -> Path:
    return _FOLDER / f"{name}.so"
