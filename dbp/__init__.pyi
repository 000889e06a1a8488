# lazy_loader reads the imports below, and type checkers everything.
import typing

import torch

from . import data as data
from . import estimators as estimators
from . import networks as networks
from . import noises as noises
from . import solvers as solvers
from . import tasks as tasks
from .compat.imle import SumOfGammaNoiseDistribution as SumOfGammaNoiseDistribution
from .compat.imle import TargetDistribution as TargetDistribution
from .compat.imle import imle as imle
from .compat.perturbations import perturbed as perturbed
from .core import Draw as Draw
from .core import Estimator as Estimator
from .core import Instance as Instance
from .core import Noise as Noise
from .core import Solver as Solver
from .core import Target as Target
from .data.data import Data as Data
from .errors import Unsupported as Unsupported
from .errors import UserError as UserError
from .estimators.export import without_estimators as without_estimators
from .gradients.rules import only_gradient as only_gradient
from .gradients.rules import pull_back as pull_back
from .gradients.rules import straight_through as straight_through
from .layer import Layer as Layer
from .runs.run import load as load
from .tasks.task import Step as Step
from .tasks.task import Task as Task

if not typing.TYPE_CHECKING:
    from .components import build as build  # returns an object of any kind: the kinds' own types are below

__version__: str

_Spec = str | typing.Mapping[str, typing.Any]

@typing.overload
def build(kind: typing.Literal["solver"], spec: _Spec | Solver, **extra: typing.Any) -> Solver: ...
@typing.overload
def build(kind: typing.Literal["estimator"], spec: _Spec | Estimator, **extra: typing.Any) -> Estimator: ...
@typing.overload
def build(kind: typing.Literal["noise"], spec: _Spec | Noise, **extra: typing.Any) -> Noise: ...
@typing.overload
def build(kind: typing.Literal["network"], spec: _Spec | torch.nn.Module, **extra: typing.Any) -> torch.nn.Module: ...
@typing.overload
def build(kind: typing.Literal["task"], spec: _Spec | tasks.Task, **extra: typing.Any) -> tasks.Task: ...
@typing.overload
def build(kind: typing.Literal["data"], spec: _Spec | data.Data, **extra: typing.Any) -> data.Data: ...
@typing.overload
def build(kind: str, spec: typing.Any, **extra: typing.Any) -> typing.Any: ...
