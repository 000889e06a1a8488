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
from .components import build as build
from .core import Draw as Draw
from .core import Estimator as Estimator
from .core import Noise as Noise
from .core import Solver as Solver
from .core import Target as Target
from .errors import Unsupported as Unsupported
from .errors import UserError as UserError
from .estimators.export import without_estimators as without_estimators
from .gradients.rules import only_gradient as only_gradient
from .gradients.rules import pull_back as pull_back
from .gradients.rules import straight_through as straight_through
from .layer import Layer as Layer
from .runs.run import load as load

__version__: str
