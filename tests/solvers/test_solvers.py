import pytest
import torch
from examples import SOLVERS

from dbp.errors import UserError
from dbp.solvers import FromFunction, KMeans, OneHot, Permutation, Rank, Sort, Threshold, TopK, Tour

CHOICES = [name for name in SOLVERS if "," not in name and SOLVERS[name].solver.offers("log_prob")]
TRACTABLE = [name for name in CHOICES if SOLVERS[name].count]


def scores(name, *leading, dtype=torch.float32):
    return torch.randn((*leading, *SOLVERS[name].shape), dtype=dtype)


@pytest.mark.parametrize("name", CHOICES)
def test_projection_is_steady_at_zero(name):
    solver = SOLVERS[name].solver
    zero = torch.zeros(100, *SOLVERS[name].shape).requires_grad_()
    solver.project(zero).sum().backward()
    assert zero.grad.isfinite().all()
    assert zero.grad.abs().max() <= 1


@pytest.mark.parametrize("name", CHOICES)
def test_the_relaxation_comes_to_the_decision_as_the_temperature_falls(name):
    solver = SOLVERS[name].solver
    theta = scores(name, 50, dtype=torch.float64)
    torch.testing.assert_close(solver.relax(theta, 1e-4), solver(theta), atol=1e-2, rtol=0)
    far, near = ((solver.relax(theta, t) - solver(theta)).abs().sum() for t in (1.0, 0.1))
    assert near < far
    theta.requires_grad_()
    solver.relax(theta, 0.5).square().sum().backward()
    assert theta.grad.abs().sum() > 0


def test_ties_go_to_the_lowest_index():
    assert OneHot()(torch.tensor([0.0, 2, 2, 1])).tolist() == [0, 1, 0, 0]
    tied = torch.tensor([[1.0, 1, 1, 1, 1], [0, 2, 1, 1, 1], [3, 1, 2, 2, 3], [-0.0, 0.0, -1, 0.0, 0]])
    assert TopK(3)(tied).tolist() == [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [1, 0, 1, 0, 1], [1, 1, 0, 1, 0]]
    assert Threshold()(torch.tensor([-0.0, 0.0, 1e-30])).tolist() == [0, 0, 1]


def test_top_k_has_exactly_k_ones_among_many_ties():
    theta = torch.randint(0, 3, (500, 40)).float()
    for k in (1, 7, 39, 40):
        y = TopK(k)(theta)
        order = theta.sort(dim=-1, descending=True, stable=True).indices[:, :k]
        assert torch.equal(y, torch.zeros_like(theta).scatter(-1, order, 1))


def test_the_relaxed_subset_sums_to_k():
    theta = torch.randn(20, 9, dtype=torch.float64)
    torch.testing.assert_close(TopK(4).relax(theta, 0.3).sum(-1), torch.full((20,), 4.0, dtype=torch.float64))


@pytest.mark.parametrize("name", TRACTABLE)
def test_the_probabilities_of_all_decisions_sum_to_one(name):
    solver, shape = SOLVERS[name].solver, SOLVERS[name].shape
    vertices = solver.vertices(shape)
    theta = scores(name, 20, dtype=torch.float64)
    log_p = torch.stack([solver.log_prob(theta, vertex.expand_as(theta).double()) for vertex in vertices])
    assert log_p.shape[1:] == theta.shape[: theta.ndim - len(shape)]
    torch.testing.assert_close(log_p.exp().sum(0), torch.ones(20, dtype=torch.float64))


@pytest.mark.parametrize("name", TRACTABLE)
def test_perturb_and_map_draws_from_the_distribution(name):
    solver, vertices = SOLVERS[name].solver, SOLVERS[name].solver.vertices(SOLVERS[name].shape)
    theta, n = scores(name, dtype=torch.float64), 200_000
    many = theta.expand(n, *theta.shape)
    y = solver(many + solver.noise.sample(many))
    for vertex in vertices.double():
        p = solver.log_prob(theta, vertex).exp()
        share = (y == vertex).reshape(n, -1).all(-1).double().mean()
        assert abs(share - p) < 4 * (p * (1 - p) / n).sqrt() + 1e-9


@pytest.mark.parametrize("name", TRACTABLE)
def test_a_conditional_draw_solves_to_its_decision_and_together_they_are_the_marginal(name):
    solver = SOLVERS[name].solver
    theta, n = scores(name, dtype=torch.float64), 200_000
    many = theta.expand(n, *theta.shape)
    free = many + solver.noise.sample(many)
    tied = solver.conditional(many, solver(free))
    assert torch.equal(solver(tied), solver(free))
    spread = free.std(0) / n**0.5
    assert ((free.mean(0) - tied.mean(0)).abs() < 6 * spread).all()
    assert ((free.var(0) / tied.var(0) - 1).abs() < 0.03).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_named_by_row(bad):
    theta = torch.randn(3, 4)
    theta[2, 1] = bad
    with pytest.raises(UserError, match=r"OneHot was given a score of -?(nan|inf) at \[2, 1\] \(row \[2\]\)"):
        OneHot()(theta)


@pytest.mark.parametrize(
    "theta",
    [
        [1.0, 2.0],
        torch.ones(2).numpy(),
        None,
        torch.ones(2, dtype=torch.complex64),
        torch.ones(2, dtype=torch.bool),
        torch.ones(2).to_sparse(),
    ],
)
def test_what_are_no_scores(theta):
    with pytest.raises(UserError, match=r"^Rank takes scores (in a|that are real numbers in a dense) tensor, got "):
        Rank()(theta)


def test_nothing_to_choose_from():
    nothing = torch.zeros(3, 0)
    with pytest.raises(UserError, match=r"nothing to choose from in shape \[3, 0\]"):
        OneHot()(nothing)
    assert Permutation()(nothing).shape == (3, 0, 0)
    assert FromFunction(lambda x: x)(nothing).shape == (3, 0)


def test_large_scores_whose_sum_overflows_are_fine():
    theta = torch.full((4,), 3e38)
    theta[2] = 3.2e38
    assert TopK(1)(theta).tolist() == [0, 0, 1, 0]


def test_wrong_shapes_and_options_say_what_is_wrong():
    with pytest.raises(UserError, match="cannot choose k=5 of 4 scores"):
        TopK(5)(torch.randn(4))
    with pytest.raises(UserError, match="k must be a whole number, at least 1"):
        TopK(0)
    with pytest.raises(UserError, match=r"OneHot takes scores of at least 1 dims, got shape \[\]"):
        OneHot()(torch.tensor(1.0))


def test_a_function_of_a_batch_is_a_solver_of_any_output_shape():
    solver = FromFunction(lambda batch, factor: (batch.sum((-2, -1)) * factor).round(), event_dim=2)
    theta = torch.randn(5, 2, 3, 4)
    y = solver(theta, {"factor": 2})
    assert y.shape == (5, 2)
    assert torch.equal(y, (theta.sum((-2, -1)) * 2).round())


@pytest.mark.parametrize("options", [(TopK, {"k": 2.5}), (Sort, {"k": 0}), (KMeans, {"k": "3"}), (Tour, {"kicks": -1})])
def test_counts_are_whole_numbers(options):
    solver, given = options
    with pytest.raises(UserError, match=f"^{solver.__name__}: .* must be a whole number, at least [01], got "):
        solver(**given)
