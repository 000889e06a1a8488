"""Stand-ins for the derivative of a solver."""

from dbp.estimators.difference import IMLE, Blackbox
from dbp.estimators.perturbed import Perturbed
from dbp.estimators.score import Score
from dbp.estimators.straight import GumbelSoftmax, Identity, StraightThrough

__all__ = ["IMLE", "Blackbox", "GumbelSoftmax", "Identity", "Perturbed", "Score", "StraightThrough"]
