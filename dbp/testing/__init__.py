"""The kit: what every component promises, as plain functions that raise an AssertionError that names the fault.

    from dbp.testing import check_estimator

    def test_my_estimator():
        check_estimator(MyEstimator(), dbp.solvers.OneHot(), shape=(5,))

Each function runs a table of named checks (`SOLVER_CHECKS`, `ESTIMATOR_CHECKS`, ...); the name of the one that fails
stands in brackets at the start of the message, and `skip=["name"]` leaves one out where a component departs from the
contract on purpose. The checks are deterministic, leave the global random state alone, and never change what they are
given. `pytest --dbp-plugin NAME` runs them for every component of an installed distribution.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbp.testing.data import DATA_CHECKS, check_data
    from dbp.testing.estimator import ESTIMATOR_CHECKS, check_estimator
    from dbp.testing.noise import NOISE_CHECKS, check_noise
    from dbp.testing.solver import SOLVER_CHECKS, check_solver
    from dbp.testing.task import TASK_CHECKS, check_task

__all__ = [
    "DATA_CHECKS",
    "ESTIMATOR_CHECKS",
    "NOISE_CHECKS",
    "SOLVER_CHECKS",
    "TASK_CHECKS",
    "check_data",
    "check_estimator",
    "check_noise",
    "check_solver",
    "check_task",
]


def __getattr__(name: str) -> Any:
    if name in __all__:  # a test of an estimator does not wait for Lightning
        kind = name.lower().removeprefix("check_").removesuffix("_checks")
        return getattr(importlib.import_module(f"dbp.testing.{kind}"), name)
    raise AttributeError(f"module 'dbp.testing' has no attribute {name!r}")
