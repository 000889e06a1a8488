"""Discrete backpropagation: gradients for networks that contain a discrete solver.

    layer = dbp.Layer(dbp.solvers.TopK(k=10), dbp.estimators.IMLE(noise=dbp.noises.SumOfGamma(k=10)))
    y = layer(theta)

Nothing is imported before it is used, so that the command line starts without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbp import data, estimators, networks, noises, solvers, tasks
    from dbp.components import build
    from dbp.core import Draw, Estimator, Noise, Solver, Target, Tractable
    from dbp.errors import Unsupported, UserError
    from dbp.estimators.export import without_estimators
    from dbp.gradients.rules import only_gradient, pull_back, straight_through
    from dbp.layer import Layer, SumOfGammaNoiseDistribution, TargetDistribution, imle, perturbed
    from dbp.runs.run import load

__version__ = "0.1.0"

_HOME = {
    "build": "components",
    "load": "runs.run",
    "without_estimators": "estimators.export",
    **dict.fromkeys(("Draw", "Estimator", "Noise", "Solver", "Target", "Tractable"), "core"),
    **dict.fromkeys(("Unsupported", "UserError"), "errors"),
    **dict.fromkeys(("only_gradient", "pull_back", "straight_through"), "gradients.rules"),
    **dict.fromkeys(("Layer", "SumOfGammaNoiseDistribution", "TargetDistribution", "imle", "perturbed"), "layer"),
}
_MODULES = ("data", "estimators", "networks", "noises", "solvers", "tasks")

__all__ = [
    "Draw",
    "Estimator",
    "Layer",
    "Noise",
    "Solver",
    "SumOfGammaNoiseDistribution",
    "Target",
    "TargetDistribution",
    "Tractable",
    "Unsupported",
    "UserError",
    "build",
    "data",
    "estimators",
    "imle",
    "load",
    "networks",
    "noises",
    "only_gradient",
    "perturbed",
    "pull_back",
    "solvers",
    "straight_through",
    "tasks",
    "without_estimators",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"dbp.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"dbp.{_HOME[name]}"), name)
    raise AttributeError(f"module 'dbp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
