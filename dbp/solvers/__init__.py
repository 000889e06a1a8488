"""Hard functions: each an exact, batched, deterministic map from scores to a decision."""

from dbp.solvers.choices import OneHot, Threshold, TopK
from dbp.solvers.function import FromFunction
from dbp.solvers.matching import Matching
from dbp.solvers.orders import Permutation, Rank, Sort
from dbp.solvers.packing import Knapsack
from dbp.solvers.paths import GridPath
from dbp.solvers.tours import Tour
from dbp.solvers.trees import SpanningTree

__all__ = [
    "FromFunction",
    "GridPath",
    "Knapsack",
    "Matching",
    "OneHot",
    "Permutation",
    "Rank",
    "Sort",
    "SpanningTree",
    "Threshold",
    "TopK",
    "Tour",
]
