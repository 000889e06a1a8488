"""Hard functions: each an exact, batched, deterministic map from scores to a decision."""

from dbp import components
from dbp.solvers.function import FromFunction as FromFunction

__getattr__, __dir__, __all__ = components.solvers.lazy("FromFunction")
