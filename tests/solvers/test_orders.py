"""Ranks, sorted scores, permutations: against enumeration and each other, with ties."""

import itertools

import pytest
import scipy.stats
import torch
from torch import Tensor

from dbp.core import Solver
from dbp.errors import UserError
from dbp.solvers import Permutation, Rank, Sort

SCORES = {
    "normal": lambda *shape: torch.randn(*shape),
    "tied": lambda *shape: torch.randint(-2, 3, shape).float(),
    "outlier": lambda *shape: torch.cat([torch.full((*shape[:-1], 1), 1e30), torch.randn(*shape)[..., 1:]], -1),
    "close": lambda *shape: 1 + torch.randint(0, 300, shape) * 2.0**-23,
    "signed zero": lambda *shape: torch.tensor([0.0, -0.0])[torch.randint(0, 2, shape)],
}
scores = pytest.mark.parametrize("scores", SCORES)


@scores
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 33, 63, 129, 256, 257, 700, 3100])
def test_ranks_are_scipys(scores: str, n: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = SCORES[scores](20, n).to(dtype)
    assert torch.equal(Rank()(x), torch.tensor(scipy.stats.rankdata(x, "ordinal", axis=-1)).to(dtype))


def test_ranks_and_permutations_maximise() -> None:
    torch.manual_seed(1)
    x = torch.randn(100, 5)
    best = (x[:, None] * Rank().vertices((5,))).sum(-1).amax(-1)
    torch.testing.assert_close((x * Rank()(x)).sum(-1), best)
    weights = torch.arange(5.0, 0, -1)
    best = torch.einsum("i,vij,bj->bv", weights, Permutation().vertices((5,)), x).amax(-1)
    torch.testing.assert_close(torch.einsum("i,bij,bj->b", weights, Permutation()(x), x), best)


@scores
@pytest.mark.parametrize("descending", [True, False])
def test_permutation_sorts(scores: str, descending: bool) -> None:
    torch.manual_seed(2)
    x = SCORES[scores](3, 4, 9)
    p = Permutation(descending)(x)
    assert Permutation().is_feasible(p).all()
    order = (p @ x[..., None]).squeeze(-1)
    assert torch.equal(order, Sort(descending)(x))
    index = p.argmax(-1)
    tied = order[..., 1:] == order[..., :-1]
    assert (index.diff(dim=-1)[tied] > 0).all()
    if not descending:  # the inverse permutation
        assert torch.equal(p.argmax(-2).float() + 1, Rank()(x))


def test_first_k() -> None:
    x = torch.tensor([[3.0, 1.0, 2.0], [5.0, 5.0, 4.0]])
    assert Sort(k=2)(x).tolist() == [[3, 2], [5, 5]]
    assert Sort(False, k=1)(x).tolist() == [[1], [4]]
    with pytest.raises(UserError, match="k=4 of 3"):
        Sort(k=4)(x)
    with pytest.raises(UserError, match="at least 1"):
        Sort(k=0)


@pytest.mark.parametrize("solver", [Rank(), Permutation(), Permutation(False)], ids=str)
def test_shift_and_scale_do_not_matter(solver: Solver) -> None:
    x = torch.randn(50, 8, dtype=torch.float64)
    assert torch.equal(solver(x), solver(2 * x + 3))
    assert torch.equal(solver(x), solver(solver.project(x)))


@pytest.mark.parametrize("solver", [Rank(), Permutation()], ids=str)
def test_vertices_are_the_feasible_set(solver: Solver) -> None:
    vertices = solver.vertices((4,))
    assert len(vertices.unique(dim=0)) == 24
    assert solver.is_feasible(vertices).all()
    assert not solver.is_feasible(vertices + 1).any()
    assert not solver.is_feasible(vertices.roll(1, 0) / 2 + vertices / 2).any()


def test_any_leading_dims() -> None:
    x = torch.randn(2, 3, 4, 5)

    def rows(solver: Solver) -> Tensor:
        return torch.stack([solver(x[index]) for index in itertools.product(range(2), range(3), range(4))])

    for solver in (Rank(), Sort(), Sort(k=2), Permutation()):
        assert torch.equal(solver(x).flatten(0, 2), rows(solver))
