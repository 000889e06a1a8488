"""Hard functions: each an exact, batched, deterministic map from scores to a decision."""

from dbp.solvers.choices import OneHot, Threshold, TopK
from dbp.solvers.function import FromFunction
from dbp.solvers.orders import Permutation, Rank, Sort
from dbp.solvers.paths import GridPath

__all__ = ["FromFunction", "GridPath", "OneHot", "Permutation", "Rank", "Sort", "Threshold", "TopK"]
