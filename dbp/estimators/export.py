"""Models without their estimators, for export."""

from copy import deepcopy
from typing import Any, TypeVar

from torch import Tensor, nn

from dbp.core import Draw, Estimator, Solver, Target

M = TypeVar("M", bound=nn.Module)


class Plain(Estimator):
    """The solver and nothing else, in training too."""

    def draw(self, solver: Solver, theta: Tensor, instance: Any, target: Target) -> Draw:
        return Draw(solver(theta, instance))


def without_estimators(model: M) -> M:
    """A copy of the model in eval mode, of the same decisions, without the state of its estimators: for export.

    Bridges, control variates, pools and temperatures are gone from it, and from what torch.export makes of it:

        program = torch.export.export(dbp.without_estimators(model), (x,))

    A program with a solver that has a compiled kernel needs dbp where it runs; exported under `DBP_NATIVE=0`, torch.
    """
    plain = {id(module): Plain() for module in model.modules() if isinstance(module, Estimator)}
    return deepcopy(model, dict[int, Any](plain)).eval()
