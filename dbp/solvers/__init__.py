"""Hard functions: each an exact, batched, deterministic map from scores to a decision."""

from dbp.solvers.choices import OneHot, Threshold, TopK
from dbp.solvers.function import FromFunction

__all__ = ["FromFunction", "OneHot", "Threshold", "TopK"]
