"""Stand-ins for the derivative of a solver."""

from dbp.estimators.adaptive import AdaptiveIMLE
from dbp.estimators.antithetic import ARMS, DisARM
from dbp.estimators.bridge import DAB
from dbp.estimators.control import REBAR, RELAX
from dbp.estimators.difference import IMLE, Blackbox
from dbp.estimators.enumeration import Exact, Unordered
from dbp.estimators.perturbed import Perturbed
from dbp.estimators.relaxed import ZGR, Gapped, GumbelRao, ReinMax
from dbp.estimators.score import Score
from dbp.estimators.straight import GumbelSoftmax, Identity, StraightThrough
from dbp.estimators.subset import SIMPLE

__all__ = [
    "ARMS",
    "DAB",
    "IMLE",
    "REBAR",
    "RELAX",
    "SIMPLE",
    "ZGR",
    "AdaptiveIMLE",
    "Blackbox",
    "DisARM",
    "Exact",
    "Gapped",
    "GumbelRao",
    "GumbelSoftmax",
    "Identity",
    "Perturbed",
    "ReinMax",
    "Score",
    "StraightThrough",
    "Unordered",
]
