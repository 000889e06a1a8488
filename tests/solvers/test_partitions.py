"""Log-partitions: exact, with first and second derivatives, against the list of all decisions."""

import pytest
import torch
from torch import Tensor

from dbp.core import Solver
from dbp.errors import UserError
from dbp.solvers import Arborescence, OneHot, SpanningTree, Threshold, TopK, subsets

GRAPH = ((0, 1), (1, 2), (0, 2), (2, 3), (1, 3), (0, 1))
PARTS = (*GRAPH, (5, 6), (6, 7), (7, 5), (5, 5))
DIRECTED = (*GRAPH, (3, 0), (2, 1), (1, 0))
GAPS = tuple((2 * tail + 1, 2 * head + 1) for tail, head in DIRECTED)  # nodes that no edge names
EACH = torch.tensor([GRAPH, (*GRAPH[:3], (3, 4), (4, 5), (5, 5))])
# the solver, the shape of an input, its instance without leading dims
CASES: dict[str, tuple[Solver, tuple[int, ...], dict[str, Tensor] | None]] = {
    "one_hot": (OneHot(), (5,), None),
    "top_k": (TopK(3), (6,), None),
    "top_k, one": (TopK(1), (4,), None),
    "top_k, all": (TopK(4), (4,), None),
    "threshold": (Threshold(), (), None),
    "tree": (SpanningTree(GRAPH), (6,), None),
    "forest": (SpanningTree(PARTS, nodes=11), (10,), None),
    "forest, own": (SpanningTree(), (6,), {"edges": EACH[1]}),
    "arborescence": (Arborescence(DIRECTED), (9,), None),
    "arborescence, root": (Arborescence(DIRECTED, root=2), (9,), None),
    "arborescence, gaps": (Arborescence(GAPS), (9,), None),
    "arborescence, gaps, root": (Arborescence(GAPS, root=3), (9,), None),
    "arborescence, own": (Arborescence(), (6,), {"edges": EACH[0], "root": torch.tensor(0)}),
}


def listed(solver: Solver, theta: Tensor, instance: dict[str, Tensor] | None) -> Tensor:
    split = theta.ndim - solver.event_dim
    ys = solver.vertices(theta.shape[split:], instance).to(theta)
    values = theta.unsqueeze(split) * ys
    return values.reshape(*theta.shape[:split], len(ys), -1).sum(-1).logsumexp(-1)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1000.0])
def test_the_log_partition_and_its_derivatives_are_those_of_all_decisions(name: str, scale: float) -> None:
    solver, shape, instance = CASES[name]
    theta = (scale * torch.randn(2, 3, *shape, dtype=torch.float64)).requires_grad_()
    found = []
    for value in (solver.log_partition(theta, instance), listed(solver, theta, instance)):
        (marginals,) = torch.autograd.grad(value.sum(), theta, create_graph=True)
        (second,) = torch.autograd.grad((marginals * torch.arange(marginals.numel()).view_as(marginals)).sum(), theta)
        found.append((value, marginals, second))
    for ours, exact in zip(*found, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_dtype_follows_theta(name: str) -> None:
    solver, shape, instance = CASES[name]
    theta = torch.randn(4, *shape)
    exact = solver.log_partition(theta.double(), instance)
    for dtype, atol in ((torch.float32, 1e-5), (torch.bfloat16, 0.2)):
        found = solver.log_partition(theta.to(dtype), instance)
        assert found.dtype == dtype
        torch.testing.assert_close(found, exact.to(dtype), atol=atol, rtol=0)


def test_each_row_has_its_graph() -> None:
    theta = torch.randn(3, 2, 6, dtype=torch.float64)
    together = SpanningTree().log_partition(theta, {"edges": EACH})
    alone = [SpanningTree().log_partition(theta[:, row], {"edges": EACH[row]}) for row in range(2)]
    torch.testing.assert_close(together, torch.stack(alone, 1))


def test_no_rows_no_edges_and_no_trees() -> None:
    for solver in (SpanningTree(), Arborescence()):
        none = torch.zeros(2, 3, 0, requires_grad=True)
        assert solver.log_partition(none, {"edges": torch.zeros(0, 2).long()}).tolist() == [[0.0] * 3] * 2
        assert solver.log_partition(torch.zeros(0, 6), {"edges": EACH[0]}).shape == (0,)
    with pytest.raises(UserError, match=r"row \[1\]: .* from node 3"):
        Arborescence(GRAPH).log_partition(torch.zeros(2, 6), {"root": torch.tensor([0, 3])})


def test_subsets_with_items_that_may_not_be_chosen() -> None:
    """A masked score of -1e9 took the digits of all others."""
    for dtype in (torch.float32, torch.float64):
        for low in (-1e9, -1e30):
            theta = torch.tensor([[0.1, low, 0.2, low, 0.3]], dtype=dtype, requires_grad=True)
            right = torch.tensor([[0.63283, 0.0, 0.66778, 0.0, 0.69939]], dtype=dtype)
            torch.testing.assert_close(subsets.marginals(theta, 2), right, atol=1e-5, rtol=0)
            assert subsets.entropy(theta, 2).item() == pytest.approx(1.0953, abs=1e-4)
            (second,) = torch.autograd.grad(subsets.marginals(theta, 2)[0, 0], theta)
            exact = torch.zeros(5, 3).double()
            exact[[0, 2, 4], [0, 1, 2]] = 1
            free = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64, requires_grad=True)
            pairs = TopK(2).vertices((3,)).double()
            mu = (free @ pairs.T).softmax(-1) @ pairs
            (known,) = torch.autograd.grad(mu[0], free)
            torch.testing.assert_close(second[0].double(), exact @ known, atol=1e-6, rtol=0)


def test_draws_of_subsets_are_of_the_gibbs_distribution() -> None:
    theta, solver = torch.tensor([0.5, -1.0, 2.0, 0.0]), TopK(2)
    many = theta.expand(100_000, 4)
    y = solver.sample_gibbs(many, torch.Generator().manual_seed(0))
    assert solver.is_feasible(y).all()
    for vertex in solver.vertices((4,)):
        p = (theta @ vertex - solver.log_partition(theta)).exp()
        assert abs((y == vertex).all(-1).float().mean() - p) < 4 * (p * (1 - p) / len(y)).sqrt()
