"""A plugin that cannot be imported."""

import a_package_that_is_not_there


class Broken(a_package_that_is_not_there.Estimator):
    """It never comes to be."""
