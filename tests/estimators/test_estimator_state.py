"""What estimators carry: it survives a state_dict, and only the estimator's own losses train it."""

import copy
import sys

import pytest
import torch
from examples import CHANGED, PLAIN, RANK, SORT, Control, N, bridge
from torch import Tensor, nn

from dbp.core import Estimator, Solver, Target
from dbp.errors import Unsupported, UserError
from dbp.estimators import (
    ARMS,
    DAB,
    IMLE,
    REBAR,
    RELAX,
    SIMPLE,
    ZGR,
    AdaptiveIMLE,
    Contrastive,
    DisARM,
    Exact,
    FenchelYoung,
    Gapped,
    GumbelRao,
    GumbelSoftmax,
    PerturbationGradient,
    Perturbed,
    Ranking,
    Score,
    SPOPlus,
    StructuredSVM,
    Unordered,
)
from dbp.noises import Gumbel, Normal
from dbp.solvers import OneHot, Threshold, TopK

ALL = PLAIN | CHANGED
WEIGHTS = torch.linspace(-1, 1, N)


def loss(y: Tensor) -> Tensor:
    """One loss for each decision of the last dim, or of the last two of a matrix."""
    y = y.flatten(-2) if y.shape[-2:] == (N, N) else y
    return torch.tanh(y @ torch.linspace(-1, 1, y.shape[-1], dtype=y.dtype, device=y.device)) + y.square().sum(-1) / 9


def target(solver: Solver, theta: Tensor) -> Target:
    right = theta.roll(1, -1).detach() + 0.1
    return Target(solver(right), right)


def run(estimator: Estimator, solver: Solver, theta: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """theta's gradient of the mean loss, the surrogate's losses and the plain ones."""
    theta = theta.clone().requires_grad_()
    draw = estimator.train()(solver, theta, target=target(solver, theta))
    plain = loss(draw.y)
    losses = draw.surrogate(plain)
    (losses.mean() * scale).backward()
    assert theta.grad is not None
    return theta.grad / scale, losses.detach(), plain.detach()


def build(name: str) -> tuple[Solver, Estimator]:
    if name.startswith("sparse"):
        pytest.importorskip("entmax")
    torch.manual_seed(1)
    solver, make = ALL[name]
    return solver, make()


def theta_of(*leading: int) -> Tensor:
    return torch.randn(*leading, N, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_is_linear_in_the_loss_scale(name):
    solver, estimator = build(name)
    grads = []
    for scale in (1.0, 65536.0, 0.25):
        torch.manual_seed(0)
        grads.append(run(copy.deepcopy(estimator), solver, theta_of(5), scale)[0])
    assert grads[0].isfinite().all()
    torch.testing.assert_close(grads[1], grads[0], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(grads[2], grads[0], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_a_run_continues_from_a_state_dict(name):
    solver, estimator = build(name)

    def go(estimator: Estimator, seed: int) -> Tensor:
        torch.manual_seed(seed)
        return run(estimator, solver, theta_of(5) + seed)[0]

    go(estimator, 1)
    state = copy.deepcopy(estimator.state_dict())
    _, other = build(name)
    other.load_state_dict(state)
    for seed in (2, 3):
        assert torch.equal(go(estimator, seed), go(other, seed))
    for key, value in estimator.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


@pytest.mark.parametrize("name", ALL)
def test_evaluation_is_the_solver_and_draws_nothing(name):
    solver, estimator = build(name)
    state, buffers = torch.get_rng_state(), copy.deepcopy(estimator.state_dict())
    y = estimator.eval()(solver, theta_of(3, 5)).y
    assert torch.equal(y, solver(theta_of(3, 5)))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, buffers[key]) for key, value in estimator.state_dict().items())


@pytest.mark.parametrize("name", ALL)
def test_a_sample_is_a_decision(name):
    solver, estimator = build(name)
    drawn = estimator.eval().sample(solver, theta_of(3, 5))
    assert drawn.shape == solver(theta_of(3, 5)).shape
    if isinstance(solver, OneHot | TopK | Threshold):
        assert solver.is_feasible(drawn).all()


@pytest.mark.parametrize("name", ALL)
def test_training_without_gradients_works_too(name):
    solver, estimator = build(name)
    with torch.no_grad():
        theta = theta_of(3)
        draw = estimator.train()(solver, theta, target=target(solver, theta))
        assert not draw.surrogate(loss(draw.y)).requires_grad
    draw = estimator(solver, theta, target=target(solver, theta))
    assert draw.surrogate(loss(draw.y)).isfinite().all()


@pytest.mark.parametrize("name", PLAIN)
def test_the_surrogate_has_the_value_of_the_losses(name):
    solver, estimator = build(name)
    _, losses, plain = run(estimator, solver, theta_of(5))
    torch.testing.assert_close(losses, plain)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("leading", [(), (1,), (2, 3), (0,)])
def test_any_leading_dims(name, leading):
    solver, estimator = build(name)
    theta = theta_of(*leading)
    grad, losses, _ = run(estimator, solver, theta)
    assert grad.shape == theta.shape
    assert losses.shape[losses.ndim - len(leading) :] == leading


@pytest.mark.parametrize("name", ALL)
def test_zero_scores_and_double_precision_are_finite(name):
    solver, estimator = build(name)
    grad, losses, _ = run(copy.deepcopy(estimator), solver, torch.zeros(4, N))
    assert grad.isfinite().all()
    assert losses.isfinite().all()
    grad, _, _ = run(estimator.double(), solver, theta_of(4).double())
    assert grad.dtype == torch.float64
    assert grad.isfinite().all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [30.0, 300.0, 1e4])
def test_large_scores_are_finite(name, size):
    solver, estimator = build(name)
    grad, losses, _ = run(estimator, solver, size * theta_of(20))
    assert grad.isfinite().all()
    assert losses.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in estimator.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ALL)
def test_autocast_computes_the_decision_in_single_precision(name, dtype):
    solver, estimator = build(name)
    torch.manual_seed(0)
    expected = run(copy.deepcopy(estimator), solver, theta_of(5).to(dtype).float())[0]
    torch.manual_seed(0)
    theta = theta_of(5).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype):
        draw = estimator.train()(solver, theta, target=target(solver, theta.float()))
        assert draw.y.dtype == torch.float32
    losses = draw.surrogate(loss(draw.y))
    losses.mean().backward()
    torch.testing.assert_close(theta.grad.float(), expected, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("name", ALL)
def test_a_model_of_low_precision_throughout(name):
    solver, estimator = build(name)
    theta = theta_of(5).bfloat16().requires_grad_()
    draw = estimator.bfloat16().train()(solver, theta, target=target(solver, theta))
    assert draw.y.dtype == torch.bfloat16
    draw.surrogate(loss(draw.y)).mean().backward()
    assert theta.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in estimator.parameters())


@pytest.mark.parametrize(
    "make", [lambda: GumbelSoftmax(anneal=1e-4), AdaptiveIMLE, lambda: Score(2, baseline="average")]
)
def test_small_steps_of_its_state_are_not_lost_in_low_precision(make):
    states = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        estimator, theta = make().to(dtype), theta_of(5).bfloat16().to(dtype)
        for _ in range(20):
            run(estimator, OneHot(), theta)
        states.append([x.float() for x in estimator.state_dict().values()])
    torch.testing.assert_close(*states, atol=1e-6, rtol=1e-2)
    assert not torch.equal(states[1][0], next(iter(make().state_dict().values())))


@pytest.mark.parametrize("name", ALL)
def test_its_own_generator_is_the_only_randomness(name):
    solver, estimator = build(name)
    grads = []
    for seed in (1, 2):  # of the global generator
        torch.manual_seed(seed)
        copied = copy.deepcopy(estimator)
        copied.generator = torch.Generator().manual_seed(5)
        grads.append(run(copied, solver, theta_of(5))[0])
    assert torch.equal(*grads)


ALONE = [name for name in ALL if not name.startswith(("contrastive", "ranking"))]  # their pool is shared, on purpose


@pytest.mark.parametrize("name", ALONE)
def test_a_row_is_not_influenced_by_another(name):
    solver, estimator = build(name)
    theta = theta_of(4)
    grads = []
    for others in (theta, theta + torch.tensor([[0.0], [1.0], [-2.0], [0.5]]) * WEIGHTS):
        torch.manual_seed(0)
        grads.append(run(copy.deepcopy(estimator), solver, others)[0][0])
    torch.testing.assert_close(grads[0], grads[1])


# ---- who trains what


@pytest.mark.parametrize("condition", [False, True])
def test_the_bridge_learns_from_the_gap_alone(condition):
    torch.manual_seed(0)
    solver, estimator = TopK(2), DAB(bridge(), 3.0, condition)
    theta = theta_of(5).requires_grad_()
    draw = estimator(solver, theta)
    up = torch.randn(5, N)
    soft = estimator.bridge(theta)
    gap = 3.0 * (solver(theta) - soft).square().sum(-1).mean()
    task = (soft * up).sum(-1).mean()
    own = list(estimator.parameters())
    expected = torch.autograd.grad(gap, own, retain_graph=True)
    slope = torch.autograd.grad(task + gap if condition else task, theta)[0]
    draw.surrogate((draw.y * up).sum(-1)).mean().backward()
    torch.testing.assert_close([p.grad for p in own], list(expected))
    torch.testing.assert_close(theta.grad, slope)
    torch.testing.assert_close(estimator.error, (gap / 3 / N).detach())


def test_a_bridge_with_running_statistics_updates_them_once():
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm1d(N), nn.Linear(N, N))
    once = copy.deepcopy(net)
    once(theta_of(5))
    draw = DAB(net)(TopK(2), theta_of(5).requires_grad_())
    draw.surrogate(loss(draw.y)).mean().backward()
    torch.testing.assert_close(net[0].running_mean, once[0].running_mean)


def test_a_bridge_of_the_wrong_width_is_an_error():
    with pytest.raises(UserError, match=r"the bridge makes \[5, 3\] .* the decision is \[5, 6\]"):
        DAB(bridge(3))(TopK(2), theta_of(5))


@pytest.mark.parametrize("make", [REBAR, lambda: RELAX(Control())])
def test_a_control_variate_is_trained_by_the_variance_and_trains_nothing_else(make):
    torch.manual_seed(0)
    estimator, decoder = make().double(), nn.Linear(N, 1).double()
    theta = theta_of(3).double().requires_grad_()

    def losses(y: Tensor) -> Tensor:
        return decoder(y).squeeze(-1).square()

    torch.manual_seed(5)
    draw = estimator(OneHot(), theta)
    draw.surrogate(losses(draw.y)).mean().backward()
    slopes = {name: p.grad.clone() for name, p in estimator.named_parameters()}
    # the decoder learns from the losses of y alone
    expected = torch.autograd.grad(losses(draw.y[0].detach()).mean(), list(decoder.parameters()))
    torch.testing.assert_close([p.grad for p in decoder.parameters()], list(expected))
    # the own parameters have the gradient of the estimate's mean square, here by finite differences

    def square() -> Tensor:
        torch.manual_seed(5)
        draw = estimator(OneHot(), theta)
        (grad,) = torch.autograd.grad(draw.surrogate(losses(draw.y)).sum(), theta)
        return grad.square().sum(-1).mean()

    for name, p in estimator.named_parameters():
        flat, slope = p.data.view(-1), slopes[name].view(-1)
        step = 1e-5
        flat[0] += step
        ahead = square()
        flat[0] -= 2 * step
        behind = square()
        flat[0] += step
        torch.testing.assert_close((ahead - behind) / (2 * step), slope[0], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("make", [REBAR, lambda: RELAX(Control()), lambda: RELAX(Control(), black_box=True)])
def test_decisions_in_a_row_tune_a_control_variate_as_if_each_had_its_own(make):
    torch.manual_seed(0)
    between, both = nn.Linear(N, N), make()
    apart = [copy.deepcopy(both) for _ in range(2)]

    def slopes(first: Estimator, second: Estimator) -> None:
        torch.manual_seed(5)
        one = first(OneHot(), theta_of(3).requires_grad_())
        two = second(OneHot(), between(one.y))
        one.surrogate(two.surrogate(loss(two.y))).mean().backward()

    slopes(both, both)
    slopes(*apart)
    for p, first, second in zip(both.parameters(), *(e.parameters() for e in apart), strict=True):
        if p.requires_grad:
            torch.testing.assert_close(p.grad, first.grad + second.grad)


@pytest.mark.parametrize("estimator", [REBAR(), RELAX(Control())])
def test_losses_that_go_round_the_surrogate_are_an_error(estimator):
    draw = estimator(OneHot(), theta_of(3).requires_grad_())
    with pytest.raises(UserError, match="surrogate"):
        loss(draw.y).mean().backward()


# ---- pools


def test_a_pool_keeps_the_latest_different_decisions():
    pool = Contrastive(capacity=3).pool
    eye = torch.eye(5)
    pool.add(eye[[0, 1, 0]], 1)
    assert pool.known.sum() == 2
    pool.add(eye[[1, 2, 3]], 1)
    assert pool.known.sum() == 3
    kept = {row.argmax().item() for row in pool.decisions[:-1]}
    assert kept == {1, 2, 3}
    pool.add(eye[[4]], 1)
    assert {row.argmax().item() for row in pool.decisions[:-1]} == {2, 3, 4}


def pooled(estimator: Estimator, theta: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    draw = estimator(TopK(2), theta, target=Target(theta=right))
    return draw.surrogate(loss(draw.y)).detach(), estimator.pool.decisions[:-1][estimator.pool.known[:-1]]


def test_pool_losses_by_their_formulas():
    theta, right = theta_of(4), theta_of(4).flip(0)
    best = TopK(2)(right)
    for variant in ("nce", "map"):
        losses, pool = pooled(Contrastive(variant), theta, right)
        gaps = (pool - best.unsqueeze(1)) @ theta.unsqueeze(-1)
        expected = gaps.squeeze(-1).mean(-1) if variant == "nce" else gaps.squeeze(-1).amax(-1)
        torch.testing.assert_close(losses, expected)
    for variant in ("pointwise", "pairwise", "listwise"):
        losses, pool = pooled(Ranking(variant, margin=0.3, temperature=0.7), theta, right)
        a, b = theta @ pool.T, right @ pool.T
        if variant == "pointwise":
            expected = (a - b).square().mean(-1)
        elif variant == "pairwise":
            top = b.argmax(-1)
            hinge = (0.3 + a - a.gather(-1, top.unsqueeze(-1))).relu()
            expected = (hinge.sum(-1) - 0.3) / (len(pool) - 1)
        else:
            expected = -((b / 0.7).softmax(-1) * (a / 0.7).log_softmax(-1)).sum(-1)
        torch.testing.assert_close(losses, expected)


def test_without_solving_y_is_the_best_of_the_pool():
    estimator = Contrastive(solve_ratio=0.0)
    theta, right = theta_of(4), theta_of(4).flip(0)
    y = estimator(TopK(2), theta, target=Target(theta=right)).y
    pool = estimator.pool.decisions[:-1][estimator.pool.known[:-1]]
    assert torch.equal(y, pool[(theta @ pool.T).argmax(-1)])
    assert (estimator.pool.known.sum() <= 4).item()


# ---- what a solver or a task lacks


@pytest.mark.parametrize(
    ("estimator", "solver", "message"),
    [
        (ZGR(), TopK(2), "ZGR needs a solver that has a distribution in closed form, which TopK does not claim"),
        (REBAR(), TopK(2), "estimators that work for it: .*imle"),
        (DisARM(), OneHot(), "decides each score for itself, which OneHot does not claim"),
        (SIMPLE(), RANK, "has a log-partition, which Rank does not claim"),
        (Exact(), SORT, "maximises <theta, y>, which Sort does not claim"),
        (FenchelYoung(None), RANK, "noise=normal or gumbel"),
        (SPOPlus(), TopK(2), "right scores, which this task does not give"),
        (FenchelYoung(), TopK(2), "right decision, which this task does not give"),
    ],
)
def test_what_is_missing_is_said_in_one_line(estimator, solver, message):
    given = Target(theta_of(2)) if isinstance(estimator, FenchelYoung) and solver is SORT else Target()
    with pytest.raises(Unsupported, match=message) as caught:
        estimator.train()(solver, theta_of(2), target=given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("estimator", "solver"),
    [
        (Score(), OneHot()),
        (DisARM(), Threshold()),
        (ARMS(), Threshold()),
        (REBAR(), OneHot()),
        (RELAX(Control()), OneHot()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_losses_that_were_added_up_before_they_are_compared_are_refused(estimator, solver):
    draw = estimator(solver, theta_of(2).requires_grad_())
    with pytest.raises(UserError, match="one loss for each decision"):
        draw.surrogate(loss(draw.y).mean())


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "entmax", None)
    for make in (lambda: OneHot(relaxation="entmax"), lambda: TopK(2, relaxation="budget")):
        with pytest.raises(UserError, match="pip install"):
            make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: GumbelRao(draws=0),
        lambda: Gapped(-1.0),
        lambda: AdaptiveIMLE(rate=-1.0),
        lambda: IMLE(target="co", two_sided=True),
        lambda: DAB(bridge(), 0.0),
        lambda: REBAR(0.0),
        lambda: DisARM(3),
        lambda: ARMS(1),
        lambda: Unordered(9),
        lambda: Exact(-1),
        lambda: Exact(limit=5)(TopK(2), theta_of(2)),
        lambda: Perturbed(Gumbel(), antithetic=True),
        lambda: Perturbed(Normal(), 3, antithetic=True),
        lambda: Score(decay=1.0),
        lambda: SPOPlus(0.0),
        lambda: PerturbationGradient(0.0),
        lambda: StructuredSVM(-1.0),
        lambda: Contrastive(capacity=1),
        lambda: Ranking(temperature=0.0),
        lambda: OneHot(relaxation="entmax", alpha=0.5),
        lambda: Exact(joint=3)(TopK(2), theta_of(2)),
        lambda: Unordered(8)(OneHot(), theta_of(2)),
        lambda: GumbelSoftmax(minimum=0.0),
        lambda: Exact()(Threshold(), theta_of(2)).surrogate(torch.zeros(2, 2)),
        lambda: RELAX(Control())(Threshold(), theta_of(2)).surrogate(torch.zeros(3, 2, N)),
    ],
)
def test_a_wrong_option_is_a_user_error(make):
    with pytest.raises(UserError):
        make()


def test_exact_bits_of_their_own_losses():
    theta, up = theta_of(4).requires_grad_(), torch.randn(N)
    draw = Exact()(Threshold(), theta)
    losses = draw.surrogate(draw.y * up)  # one for each bit
    losses.mean(0).sum().backward()
    p = theta.detach().sigmoid()
    torch.testing.assert_close(theta.grad, up * p * (1 - p))
