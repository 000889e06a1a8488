"""Hard functions: each an exact, batched, deterministic map from scores to a decision."""

from dbp.solvers.alignments import GraphMatching
from dbp.solvers.choices import OneHot, Threshold, TopK
from dbp.solvers.clusters import KMeans
from dbp.solvers.function import FromFunction
from dbp.solvers.graphs import GraphPath
from dbp.solvers.levels import Binary, Or, Signum
from dbp.solvers.orders import Permutation, Rank, Sort
from dbp.solvers.pairings import PerfectMatching
from dbp.solvers.paths import GridPath
from dbp.solvers.programs import IntegerProgram

__all__ = [
    "Binary",
    "FromFunction",
    "GraphMatching",
    "GraphPath",
    "GridPath",
    "IntegerProgram",
    "KMeans",
    "OneHot",
    "Or",
    "PerfectMatching",
    "Permutation",
    "Rank",
    "Signum",
    "Sort",
    "Threshold",
    "TopK",
]
