"""Masked rows are solved as their existing entries alone, whatever the masked scores hold."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from dbp import estimators
from dbp.core import Instance, Solver
from dbp.errors import UserError
from dbp.native import ops
from dbp.noises import Gumbel
from dbp.scores import dot
from dbp.solvers import Matching, OneHot, Permutation, Rank, Sort, TopK
from dbp.testing import check_solver

CHOICES: dict[str, Solver] = {
    "one_hot": OneHot(),
    "one_hot, entmax": OneHot("entmax"),
    "one_hot, sparsemax": OneHot("entmax", 2.0),
    "top_k": TopK(2),
    "top_k, k": TopK(9),  # each row has its own
    "top_k, budget": TopK(2, "budget"),
}
SOFT = ("permutahedron", "neural_sort", "soft_sort", "network")
ORDERS: dict[str, Solver] = {
    **{f"rank, {how}": Rank(how) for how in SOFT},
    **{f"sort, {how}": Sort(relaxation=how) for how in SOFT},
    "sort, ascending": Sort(False),
    "sort, k": Sort(k=2),
    **{f"permutation, {how}": Permutation(relaxation=how) for how in SOFT[1:]},
    "permutation, ascending": Permutation(False),
}
DECIDED = [
    "rank, network",
    "sort, network",
    "sort, ascending",
    "sort, k",
    "permutation, network",
    "permutation, ascending",
]
choices = pytest.mark.parametrize("name", CHOICES)
GRID = [torch.float32, torch.float64]


@pytest.fixture(params=["kernel", "twin"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "twin":
        monkeypatch.setattr(ops, "serves", lambda theta: False)


def problem(
    name: str, n: int, dtype: torch.dtype = torch.float64, tied: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """`[3, 8, n]` scores, and an instance with a mask of `[8, n]` that leaves two entries at least."""
    torch.manual_seed(n)
    theta = torch.randint(-2, 3, (3, 8, n)).to(dtype) if tied else torch.randn(3, 8, n, dtype=dtype)
    mask = torch.rand(8, n) < torch.rand(8, 1)
    mask[:, [0, -1]] = True
    instance = {"mask": mask}
    if name == "top_k, k":
        instance["k"] = (torch.rand(8) * (mask.sum(-1) + 1)).long()
    return theta, instance


def alone(theta: Tensor, instance: dict[str, Tensor]) -> Iterator[tuple[tuple[int, int], Tensor, Tensor, Instance]]:
    """The position of each row, its mask, its existing scores, and its instance without a mask."""
    for i, j in torch.cartesian_prod(torch.arange(3), torch.arange(8)).tolist():
        mask = instance["mask"][j]
        yield (i, j), mask, theta[i, j][mask], {"k": instance["k"][j]} if "k" in instance else None


def placed(y: Tensor, mask: Tensor, name: str) -> Tensor:
    """The decision of existing entries alone, where the whole row has it: zeros fill the rest."""
    at = mask.nonzero().squeeze(-1)
    if name.startswith("sort"):
        return torch.nn.functional.pad(y, (0, min(len(mask), 2 if name == "sort, k" else len(mask)) - len(y)))
    if name.startswith("rank"):
        return y.new_zeros(len(mask)).index_copy(0, at, y)
    rows = torch.nn.functional.pad(y, (0, 0, 0, len(mask) - len(y)))
    return y.new_zeros(len(mask), len(mask)).index_copy(1, at, rows)


def junk(theta: Tensor, mask: Tensor) -> Tensor:
    """theta with other masked scores, as bad as finite numbers can be."""
    most = torch.finfo(theta.dtype).max
    worst = torch.tensor([most, -most, 0.0, 1e9], dtype=theta.dtype)[torch.randint(0, 4, theta.shape)]
    return torch.where(mask, theta, worst)


@choices
@pytest.mark.parametrize("dtype", GRID)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n", [2, 5, 40, 300])
@pytest.mark.usefixtures("kernels")
def test_decisions_are_those_of_the_rows_alone(name: str, dtype: torch.dtype, tied: bool, n: int) -> None:
    solver = CHOICES[name]
    theta, instance = problem(name, n, dtype, tied)
    y = solver(junk(theta, instance["mask"]), instance)
    assert y.dtype == dtype
    assert not y[~instance["mask"].expand_as(y)].any()
    assert solver.is_feasible(y, instance).all()
    for at, mask, scores, own in alone(theta, instance):
        assert torch.equal(y[at][mask], solver(scores, own))


@choices
def test_the_lowest_finite_scores_are_chosen_before_masked_ones(name: str) -> None:
    theta = torch.full((4,), torch.finfo(torch.float32).min)
    own = {"k": 1} if name == "top_k, k" else {}
    y = CHOICES[name](theta, {"mask": torch.tensor([False, True, False, True])} | own)
    assert y.tolist() == ([0, 1, 0, 1] if name in ("top_k", "top_k, budget") else [0, 1, 0, 0])


@choices
def test_soft_quantities_are_those_of_the_rows_alone(name: str) -> None:
    solver = CHOICES[name]
    theta, instance = problem(name, 5)
    wild = junk(theta, instance["mask"])
    soft, log_z, mean, lead = (
        solver.relax(wild, 0.7, instance),
        solver.log_partition(wild, instance),
        solver.marginals(wild, instance),
        solver.lead(wild, instance),
    )
    projected = solver.project(wild, instance)
    assert torch.equal(solver(projected, instance), solver(theta, instance))
    for at, mask, scores, own in alone(theta, instance):
        for found, right in ((soft, solver.relax(scores, 0.7, own)), (mean, solver.marginals(scores, own))):
            torch.testing.assert_close(found[at][mask], right)
            assert not found[at][~mask].any()
        assert not projected[at][~mask].any()
        torch.testing.assert_close(log_z[at], solver.log_partition(scores, own))
        torch.testing.assert_close(lead[at], solver.lead(scores, own))


@choices
def test_the_decisions_enumerated(name: str) -> None:
    solver = CHOICES[name]
    theta, instance = problem(name, 5)
    theta = theta[0, 3]
    own = {key: torch.tensor(2) for key in instance} | {"mask": torch.tensor([True, False, True, True, False])}
    ys = solver.vertices((5,), own).double()
    assert solver.is_feasible(ys, own).all()
    assert not ys[:, ~own["mask"]].any()
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 5)
    assert solver.is_feasible(every, own).sum() == len(ys)
    p = (ys @ theta).softmax(0)
    torch.testing.assert_close(solver.log_partition(theta, own), (ys @ theta).logsumexp(0))
    torch.testing.assert_close(solver.marginals(theta, own), p @ ys)
    assert torch.equal(solver(theta, own), ys[(ys @ theta).argmax()])
    drawn = solver.sample_gibbs(theta.expand(20_000, 5), torch.Generator().manual_seed(0), own)
    seen = (drawn[:, None] == ys).all(-1).double().mean(0)
    assert (seen - p).abs().max() < 5 * 0.5 / 20_000**0.5
    assert seen.sum() == 1


@choices
def test_gradients_of_finite_differences(name: str) -> None:
    solver = CHOICES[name]
    theta, instance = problem(name, 5)
    theta = theta[0].requires_grad_()
    if "entmax" not in name:
        assert torch.autograd.gradcheck(lambda x: solver.relax(x, 0.7, instance), (theta,))
    assert torch.autograd.gradcheck(lambda x: solver.project(x, instance), (theta,))
    assert torch.autograd.gradcheck(lambda x: solver.marginals(x, instance), (theta,))
    (grad,) = torch.autograd.grad(solver.relax(theta, torch.tensor(0.7), instance).square().sum(), theta)
    assert grad.isfinite().all()


def test_the_closed_form_of_one_hot() -> None:
    solver = OneHot()
    theta, instance = problem("one_hot", 5)
    mask = instance["mask"][3]
    theta, own = theta[0, 3].requires_grad_(), {"mask": mask}
    log_p = torch.stack([solver.log_prob(theta, y, own) for y in torch.eye(5).double()])
    assert (log_p[~mask] == -torch.inf).all()
    torch.testing.assert_close(log_p[mask], theta[mask].log_softmax(-1))
    (grad,) = torch.autograd.grad(log_p[mask].square().sum(), theta)
    assert not grad[~mask].any()
    many = theta.expand(20_000, 5)
    y = solver(Gumbel().perturb(many.detach()), own)
    assert (y.mean(0) - log_p.exp()).abs().max() < 5 * 0.5 / 20_000**0.5
    tied = solver.conditional(many, y, instance=own)
    assert tied.isfinite().all()
    assert torch.equal(solver(tied.detach(), own), y)
    free = Gumbel().perturb(many.detach())
    spread = (free - tied.detach()).double()  # the same distribution, as y is drawn from the noise's own
    assert (spread.mean(0).abs() < 5 * (2 * 1.645 / 20_000) ** 0.5).all()
    assert torch.autograd.grad(tied.sum(), theta)[0].isfinite().all()


@pytest.mark.parametrize("name", DECIDED)
@pytest.mark.parametrize("dtype", GRID)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n", [2, 5, 40, 300])
@pytest.mark.usefixtures("kernels")
def test_orders_are_those_of_the_rows_alone(name: str, dtype: torch.dtype, tied: bool, n: int) -> None:
    solver = ORDERS[name]
    theta, instance = problem(name, n, dtype, tied)
    y = solver(junk(theta, instance["mask"]), instance)
    assert y.dtype == dtype
    for at, mask, scores, _ in alone(theta, instance):
        assert torch.equal(y[at], placed(solver(scores), mask, name))
    if not name.startswith("sort"):
        assert solver.is_feasible(y, instance).all()
        assert torch.equal(solver(solver.project(theta, instance), instance), y)


@pytest.mark.parametrize("name", ORDERS)
def test_relaxed_orders_are_those_of_the_rows_alone(name: str) -> None:
    solver = ORDERS[name]
    theta, instance = problem(name, 4)
    soft = solver.relax(junk(theta, instance["mask"]), 0.7, instance)
    assert soft.shape == solver(theta, instance).shape
    for at, mask, scores, _ in alone(theta, instance):
        torch.testing.assert_close(soft[at], placed(solver.relax(scores, 0.7), mask, name))
    theta = theta[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: solver.relax(x, 0.7, instance), (theta,))
    (grad,) = torch.autograd.grad(solver.relax(theta, 0.7, instance).square().sum(), theta)
    assert not grad[~instance["mask"]].any()


@pytest.mark.parametrize("solver", [Rank(), Permutation(), Permutation(False)], ids=str)
def test_orders_enumerated(solver: Solver) -> None:
    instance = {"mask": torch.tensor([True, False, True, False, True])}
    ys = solver.vertices((5,), instance)
    assert len(ys) == len(ys.unique(dim=0)) == 6
    assert solver.is_feasible(ys, instance).all()
    assert not solver.is_feasible(solver.vertices((5,)), instance).any()
    found = solver(torch.randn(300, 5), instance)
    assert len(torch.cat([found, ys]).unique(dim=0)) == 6


@pytest.mark.parametrize("name", ORDERS)
def test_a_row_without_entries_has_no_order(name: str) -> None:
    theta = torch.randn(2, 3, requires_grad=True)
    instance = {"mask": torch.tensor([[True, True, False], [False, False, False]])}
    for y in (ORDERS[name](theta, instance), ORDERS[name].relax(theta, 1.0, instance)):
        assert y[0].any()
        assert not y[1].any()
    assert ORDERS[name].relax(theta[:0], 1.0, instance | {"mask": instance["mask"][:0]}).requires_grad


ESTIMATORS = {
    "identity": estimators.Identity,
    "identity, margin": lambda: estimators.Identity(margin=0.1),
    "blackbox": lambda: estimators.Blackbox(2.0),
    "imle": lambda: estimators.IMLE(2.0, samples=3),
    "straight_through": lambda: estimators.StraightThrough(Gumbel()),
    "gumbel_softmax": estimators.GumbelSoftmax,
    "simple": estimators.SIMPLE,
}


WITH_ESTIMATORS = [
    (name, estimator)
    for name in (*CHOICES, "rank, permutahedron")
    for estimator in ESTIMATORS
    if estimator != "simple" or (CHOICES | ORDERS)[name].offers("log_partition")
]


@pytest.mark.parametrize(("name", "name_of_estimator"), WITH_ESTIMATORS)
def test_masked_scores_get_no_gradient(name: str, name_of_estimator: str) -> None:
    solver = (CHOICES | ORDERS)[name]
    theta, instance = problem(name, 6)
    theta = theta.requires_grad_()
    y, surrogate = ESTIMATORS[name_of_estimator]()(solver, theta, instance)
    wanted = torch.randn(y.shape, dtype=y.dtype)
    surrogate(((y - wanted) ** 2).sum(-1)).sum().backward()
    assert theta.grad is not None
    assert theta.grad.isfinite().all()
    assert theta.grad.any()
    assert not theta.grad[~instance["mask"].expand_as(theta)].any()


@pytest.mark.parametrize("name", [name for name in CHOICES if name.startswith("top_k")])
def test_rows_of_nothing_to_choose(name: str) -> None:
    theta = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    instance = {"mask": torch.tensor([[False] * 3, [True] * 3]), "k": torch.tensor([0, 0])}
    solver = CHOICES[name]
    for y in (
        solver(theta, instance),
        solver.relax(theta, 0.5, instance),
        solver.marginals(theta, instance),
        solver.log_partition(theta, instance),
        solver.sample_gibbs(theta, None, instance),
    ):
        assert not y.any()
        assert not y.requires_grad or not torch.autograd.grad(y.sum(), theta)[0].any()
    assert (solver.lead(theta, instance) == torch.inf).all()
    more = solver.relax(theta, 0.5, instance | {"k": torch.tensor([0, 2])})
    assert more.sum(-1).tolist() == pytest.approx([0, 2])
    assert torch.autograd.grad(more.square().sum(), theta)[0].isfinite().all()


KIT: dict[str, tuple[Solver, tuple[int, ...], dict[str, Tensor | float]]] = {
    "one_hot": (OneHot(), (4,), {"mask": torch.tensor([True, False, True, True])}),
    "top_k": (TopK(3), (5,), {"mask": torch.tensor([True, False, True, True, True]), "k": torch.tensor(2)}),
    "rank": (Rank(), (4,), {"mask": torch.tensor([True, False, True, True])}),
    "sort": (Sort(), (4,), {"mask": torch.tensor([True, False, True, True])}),
    "permutation": (Permutation(), (4,), {"mask": torch.tensor([True, False, True, True])}),
    "matching": (Matching(), (3, 4), {"mask": torch.ones(3, 4).bool().tril(1)}),
    "matching, unmatched": (Matching(500), (3, 4), {"mask": torch.ones(3, 4).bool().tril(1), "unmatched": 0.0}),
}


@pytest.mark.parametrize("name", KIT)
def test_the_kit_finds_no_fault(name: str) -> None:
    solver, shape, instance = KIT[name]
    check_solver(solver, shape, instance)


WRONG: list[tuple[Solver, dict[str, object], str]] = [
    (OneHot(), {"mask": torch.ones(2, 3)}, r"OneHot: the mask must be boolean, .* got torch.float32"),
    (OneHot(), {"mask": torch.ones(2, 4, dtype=torch.bool)}, r"mask of shape \[2, 4\] does not broadcast .*\[2, 3\]"),
    (OneHot(), {"mask": torch.tensor([[True] * 3, [False] * 3])}, r"OneHot: row \[1\] has 0 existing entries"),
    (Rank(), {"mask": torch.ones(2, 3).int()}, "Rank: the mask must be boolean"),
    (Permutation(), {"mask": torch.ones(4).bool()}, r"Permutation: a mask of shape \[4\] does not broadcast"),
    (OneHot(), {"mask": [[True], [True, False]]}, "OneHot: the mask is no array of booleans"),
    (TopK(2), {"mask": torch.tensor([[True] * 3, [True, False, False]])}, r"TopK: row \[1\] has 1 .* where 2 must"),
    (TopK(2), {"k": torch.tensor([3, 4])}, r"TopK: row \[1\] has 3 existing entries by its mask, where 4 must"),
    (TopK(2), {"k": torch.tensor([1, 2, 3])}, r"TopK: k of shape \[3\] does not broadcast to the rows of .* \[2, 3\]"),
    (TopK(2), {"k": torch.tensor([1, -1])}, "TopK: k: whole numbers from 0"),
    (TopK(2), {"k": 1.5}, "TopK: k: whole numbers are needed"),
]  # fmt: skip


@pytest.mark.parametrize(("solver", "instance", "message"), WRONG)
def test_errors_name_the_row(solver: Solver, instance: dict[str, object], message: str) -> None:
    theta = torch.randn(2, 3)
    for call in (solver, lambda x, i: solver.relax(x, 1.0, i)):
        with pytest.raises(UserError, match=message):
            call(theta, instance)


@pytest.mark.parametrize("solver", [OneHot(), TopK(1)], ids=str)
def test_masks_broadcast_and_pass_through_vmap(solver: Solver) -> None:
    theta = torch.randn(4, 2, 3)
    mask = torch.tensor([True, False, True])
    y = solver(theta, {"mask": mask})
    assert torch.equal(y, solver(theta, {"mask": mask.expand(4, 2, 3)}))
    assert torch.equal(y, torch.vmap(lambda x: solver(x, {"mask": mask}))(theta))
    assert torch.equal(y, torch.vmap(lambda x, m: solver(x, {"mask": m}))(theta, mask.expand(4, 3)))
    empty = torch.zeros(0, 3, requires_grad=True)
    assert solver.relax(empty, instance={"mask": mask}).shape == solver(empty, {"mask": mask}).shape == (0, 3)
    best = dot(theta, TopK(2)(theta, {"mask": mask, "k": 1}), 1)
    assert torch.equal(best, theta[..., mask].amax(-1))
