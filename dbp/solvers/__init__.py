"""Hard functions: each an exact, batched, deterministic map from scores to a decision."""

from dbp.solvers.alignments import GraphMatching
from dbp.solvers.choices import OneHot, Threshold, TopK
from dbp.solvers.clusters import KMeans
from dbp.solvers.function import FromFunction
from dbp.solvers.graphs import GraphPath
from dbp.solvers.levels import Binary, Or, Signum
from dbp.solvers.pairings import PerfectMatching
from dbp.solvers.programs import IntegerProgram

__all__ = [
    "Binary",
    "FromFunction",
    "GraphMatching",
    "GraphPath",
    "IntegerProgram",
    "KMeans",
    "OneHot",
    "Or",
    "PerfectMatching",
    "Signum",
    "Threshold",
    "TopK",
]
