"""The kit: what every component promises, as plain functions that raise an AssertionError that names the fault.

    from dbp.testing import check_estimator

    def test_my_estimator():
        check_estimator(MyEstimator(), dbp.solvers.OneHot(), shape=(5,))

Each function runs a table of named checks (`SOLVER_CHECKS`, `ESTIMATOR_CHECKS`, ...); the name of the one that fails
stands in brackets at the start of the message, and `skip=["name"]` leaves one out where a component departs from the
contract on purpose. The checks are deterministic, leave the global random state alone, and never change what they are
given. `pytest --dbp-plugin NAME` runs them for every component of an installed distribution.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
