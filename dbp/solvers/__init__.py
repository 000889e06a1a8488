"""Hard functions: each an exact, batched, deterministic map from scores to a decision."""

from dbp.solvers.choices import OneHot, Threshold, TopK
from dbp.solvers.function import FromFunction
from dbp.solvers.matching import Matching

__all__ = ["FromFunction", "Matching", "OneHot", "Threshold", "TopK"]
