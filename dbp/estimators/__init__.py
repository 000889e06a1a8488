"""Stand-ins for the derivative of a solver."""

from dbp.estimators.adaptive import AdaptiveIMLE
from dbp.estimators.antithetic import ARMS, DisARM
from dbp.estimators.bridge import DAB
from dbp.estimators.control import REBAR, RELAX
from dbp.estimators.difference import IMLE, Blackbox
from dbp.estimators.enumeration import Exact, Unordered
from dbp.estimators.fenchel_young import FenchelYoung
from dbp.estimators.perturbed import Perturbed
from dbp.estimators.pool import Contrastive, Ranking
from dbp.estimators.relaxed import ZGR, Gapped, GumbelRao
from dbp.estimators.score import Score
from dbp.estimators.straight import GumbelSoftmax, Identity, StraightThrough
from dbp.estimators.subset import SIMPLE
from dbp.estimators.supervised import PerturbationGradient, SPOPlus, StructuredSVM

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
    "Contrastive",
    "DisARM",
    "Exact",
    "FenchelYoung",
    "Gapped",
    "GumbelRao",
    "GumbelSoftmax",
    "Identity",
    "PerturbationGradient",
    "Perturbed",
    "Ranking",
    "SPOPlus",
    "Score",
    "StraightThrough",
    "StructuredSVM",
    "Unordered",
]
