"""Solvers under transformations: torch.compile, export and vmap pass through them, and a GPU is not waited for."""

import pytest
import torch
from torch import Tensor

from dbp.core import Solver
from dbp.solvers import (
    Arborescence,
    Binary,
    FromFunction,
    GraphPath,
    GridPath,
    KMeans,
    Knapsack,
    Matching,
    OneHot,
    Or,
    Permutation,
    Rank,
    Signum,
    Sort,
    SpanningTree,
    Threshold,
    TopK,
    Tour,
)  # fmt: skip

GRAPH = ((0, 1), (1, 2), (0, 2), (2, 3), (1, 3))
# Nothing that they compute depends on values: a GPU need not wait for the host.
FREE: dict[str, tuple[Solver, tuple[int, ...]]] = {
    "one_hot": (OneHot(), (5,)),
    "top_k": (TopK(2), (5,)),
    "threshold": (Threshold(), (5,)),
    "binary": (Binary(), (5,)),
    "signum": (Signum(), (5,)),
    "any": (Or(), (5,)),
    "rank": (Rank(), (5,)),
    "sort": (Sort(), (5,)),
    "sort, k": (Sort(False, 2), (5,)),
    "permutation": (Permutation(), (5,)),
    "tour": (Tour(), (5, 5)),
    "tour, directed": (Tour(directed=True), (6, 6)),
}
SOLVERS = FREE | {
    "k_means": (KMeans(2), (6, 3)),
    "k_means, members": (KMeans(2, assign=True), (6, 3)),
    "grid_path": (GridPath(), (4, 5)),
    "grid_path, ends": (GridPath(4, (1, 1), (2, -1)), (4, 5)),
    "graph_path": (GraphPath(GRAPH), (5,)),
    "spanning_tree": (SpanningTree(GRAPH), (5,)),
    "arborescence": (Arborescence(GRAPH), (5,)),
    "matching": (Matching(), (3, 4)),
    "knapsack": (Knapsack((1, 2, 3, 4), 6), (4,)),
    "knapsack, real": (Knapsack((1.5, 2.0, 3.0, 4.0), 6.0), (4,)),
    "tour, long": (Tour(), (14, 14)),
    "function": (FromFunction(lambda x: x.sign()), (5,)),
}
each = pytest.mark.parametrize("name", SOLVERS)


class Model(torch.nn.Module):
    def __init__(self, solver: Solver) -> None:
        super().__init__()
        self.solver = solver

    def forward(self, x: Tensor) -> Tensor:
        return self.solver(x * 2) + 1


def scores(name: str, *leading: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return -torch.rand(*leading, *SOLVERS[name][1], generator=generator)


@pytest.mark.filterwarnings("ignore")  # the compiler's own deprecations
@each
def test_compiles_and_exports_as_one_graph(name: str) -> None:
    torch._dynamo.reset()
    model, x = Model(SOLVERS[name][0]), scores(name, 2, 3)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), model(x))
    assert torch.equal(torch.export.export(model, (x,)).module()(x), model(x))


@each
def test_maps(name: str) -> None:
    solver, x = SOLVERS[name][0], scores(name, 4, 3)
    assert torch.equal(torch.vmap(solver)(x), solver(x))
    assert torch.equal(torch.vmap(solver, in_dims=1, out_dims=1)(x), solver(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FREE)
def test_nothing_depends_on_values(name: str, dtype: torch.dtype) -> None:
    """A meta tensor has none: to read one, or to copy it to the host, fails."""
    solver, x = FREE[name][0], scores(name, 2, 3).to(dtype)
    y = solver(x.to("meta"))
    assert (y.device.type, y.dtype, y.shape) == ("meta", dtype, solver(x).shape)
