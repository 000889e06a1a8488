"""Hard functions: each an exact, batched, deterministic map from scores to a decision."""

from dbp.solvers.alignments import GraphMatching
from dbp.solvers.arborescences import Arborescence
from dbp.solvers.choices import OneHot, Threshold, TopK
from dbp.solvers.clusters import KMeans
from dbp.solvers.function import FromFunction
from dbp.solvers.graphs import GraphPath
from dbp.solvers.levels import Binary, Or, Signum
from dbp.solvers.matching import Matching
from dbp.solvers.orders import Permutation, Rank, Sort
from dbp.solvers.packing import Knapsack
from dbp.solvers.pairings import PerfectMatching
from dbp.solvers.paths import GridPath
from dbp.solvers.programs import IntegerProgram
from dbp.solvers.tours import Tour
from dbp.solvers.trees import SpanningTree

__all__ = [
    "Arborescence",
    "Binary",
    "FromFunction",
    "GraphMatching",
    "GraphPath",
    "GridPath",
    "IntegerProgram",
    "KMeans",
    "Knapsack",
    "Matching",
    "OneHot",
    "Or",
    "PerfectMatching",
    "Permutation",
    "Rank",
    "Signum",
    "Sort",
    "SpanningTree",
    "Threshold",
    "TopK",
    "Tour",
]
