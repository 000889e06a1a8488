"""Solvers under transformations: torch.compile, export and vmap pass through them, and a GPU is not waited for."""

import pytest
import torch
from examples import SOLVERS
from torch import Tensor

from dbp.core import Solver

# Those without an instance that a compiler passes through.
TRACED = {name: e for name, e in SOLVERS.items() if e.traced and e.instance is None}
each = pytest.mark.parametrize("name", TRACED)


class Model(torch.nn.Module):
    def __init__(self, solver: Solver) -> None:
        super().__init__()
        self.solver = solver

    def forward(self, x: Tensor) -> Tensor:
        return self.solver(x * 2) + 1


def scores(name: str, *leading: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return -torch.rand(*leading, *SOLVERS[name].shape, generator=generator)


@pytest.mark.filterwarnings("ignore")  # the compiler's own deprecations
@each
def test_compiles_and_exports_as_one_graph(name: str) -> None:
    torch._dynamo.reset()
    model, x = Model(SOLVERS[name].solver), scores(name, 2, 3)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), model(x))
    assert torch.equal(torch.export.export(model, (x,)).module()(x), model(x))


@each
def test_maps(name: str) -> None:
    solver, x = SOLVERS[name].solver, scores(name, 4, 3)
    assert torch.equal(torch.vmap(solver)(x), solver(x))
    assert torch.equal(torch.vmap(solver, in_dims=1, out_dims=1)(x), solver(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [name for name, example in SOLVERS.items() if example.free])
def test_nothing_depends_on_values(name: str, dtype: torch.dtype) -> None:
    """A meta tensor has none: to read one, or to copy it to the host, fails."""
    solver, x = SOLVERS[name].solver, scores(name, 2, 3).to(dtype)
    y = solver(x.to("meta"))
    assert (y.device.type, y.dtype, y.shape) == ("meta", dtype, solver(x).shape)
