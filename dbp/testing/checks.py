"""Runs a table of checks."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from dbp.errors import Unsupported

C = TypeVar("C")


def table(*checks: Callable[[C], None]) -> dict[str, Callable[[C], None]]:
    """Checks by their names."""
    return {check.__name__: check for check in checks}


def run(checks: dict[str, Callable[[C], None]], case: C, subject: object, skip: Collection[str]) -> None:
    """Runs each check but those in `skip`, from the same seed, and leaves the random state as it was.

    Raises:
        AssertionError: the first fault, as "[check] Subject does this or that".
        Unsupported: what is checked lacks something that the case needs.
    """
    if unknown := set(skip) - set(checks):
        raise ValueError(f"skip: there is no check {sorted(unknown)}; there are {', '.join(checks)}")
    for name, check in checks.items():
        if name not in skip:
            _run_one(name, check, case, type(subject).__name__)


def _run_one(name: str, check: Callable[[C], None], case: C, subject: str) -> None:
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        try:
            check(case)
        except Unsupported:
            raise
        except AssertionError as error:
            raise AssertionError(f"[{name}] {subject} {error}") from None
        except Exception as error:
            raise AssertionError(f"[{name}] {subject} raises {type(error).__name__}: {error}") from error


def require(holds: Any, fault: str) -> None:
    """Raises an AssertionError with the sentence `fault`, unless it holds."""
    if not holds:
        raise AssertionError(fault)


def same(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    """True if two tensors agree in shape and, up to rounding, in value; NaN agrees with NaN."""
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), tolerance, tolerance, equal_nan=True)


def random_state(device: torch.device) -> list[Tensor]:
    """The state of the global generators that a component on `device` may touch."""
    on_cuda = device.type == "cuda"
    return [torch.random.get_rng_state(), *([torch.cuda.get_rng_state(device)] if on_cuda else [])]


def untouched(before: Sequence[Tensor], device: torch.device) -> bool:
    """True if the random state is still the one from before."""
    return all(torch.equal(a, b) for a, b in zip(before, random_state(device), strict=True))
