"""The published perturbed optimizers: their calls, and the numbers that their README prints."""

import itertools

import pytest
import torch
import torch.nn.functional as F

import dbp
from dbp.compat import perturbations
from dbp.compat.perturbations import FenchelYoungLoss
from dbp.errors import UserError
from dbp.solvers import OneHot

SIGMA = 0.5
BATCH = torch.tensor([[-0.6, 1.9, -0.2, 1.1, -1.0], [-0.6, 1.0, -0.2, 1.8, -1.0]])


def argmax(x, axis=-1):
    return F.one_hot(torch.argmax(x, dim=axis), list(x.shape)[axis]).float()


def test_perturbed_argmax_prints_what_the_readme_prints():
    theta = BATCH[0]
    assert argmax(theta).tolist() == [0, 1, 0, 0, 0]
    pert_argmax = dbp.perturbed(
        argmax, num_samples=1_000_000, sigma=SIGMA, noise="gumbel", batched=False, device=torch.device("cpu")
    )
    printed = torch.tensor([0.0055, 0.8150, 0.0122, 0.1648, 0.0025])
    torch.testing.assert_close(pert_argmax(theta), printed, atol=2e-3, rtol=0)
    torch.testing.assert_close(pert_argmax(theta), F.softmax(theta / SIGMA, -1), atol=2e-3, rtol=0)


def test_batched_as_a_decorator_with_the_gradient_of_a_softmax():
    @dbp.perturbed(num_samples=1_000_000, sigma=SIGMA, noise="gumbel", batched=True, device="cpu")
    def pert_argmax(x, axis=-1):
        return argmax(x, axis)

    theta = BATCH.clone().requires_grad_()
    output = pert_argmax(theta)
    printed = torch.tensor([[0.0055, 0.8152, 0.0122, 0.1646, 0.0025], [0.0067, 0.1639, 0.0149, 0.8116, 0.0030]])
    torch.testing.assert_close(output, printed, atol=2e-3, rtol=0)
    torch.linalg.norm(output).backward()
    softmax_grad = torch.tensor(
        [[-0.0064, 0.1714, -0.0142, -0.1479, -0.0029], [-0.0077, -0.1457, -0.0170, 0.1739, -0.0035]]
    )
    torch.testing.assert_close(theta.grad, softmax_grad, atol=4e-3, rtol=0)


def hard_or(x):
    s = ((torch.sign(x) + 1) / 2.0).type(torch.bool)
    return torch.any(s, dim=-1).type(torch.float) * 2.0 - 1


def test_perturbed_or():
    theta = torch.tensor([[-5.0, 0.2], [-5.0, 0.1]])
    assert hard_or(theta).tolist() == [1, 1]
    pert_or = dbp.perturbed(hard_or, num_samples=100_000, sigma=0.1, noise="gumbel", batched=True)
    exact = 1 - 2 * torch.exp(-torch.exp(theta[:, 1] / 0.1))  # true while theta + 0.1 G > 0
    torch.testing.assert_close(pert_or(theta), exact, atol=0.01, rtol=0)
    printed = torch.tensor([1.0000, 0.8540])  # of 1,000 samples: a standard error of 0.016
    torch.testing.assert_close(pert_or(theta), printed, atol=0.05, rtol=0)


# The nine-node graph of seed 003 was printed with its solution, and its edge costs were a picture only. These, with the
# four final costs that it names, reproduce that solution; an edge costs the mean of its two directions.
EDGES = {(0, 2): 0.15, (0, 3): 0.10, (2, 3): 0.10, (2, 7): 0.10, (3, 7): 0.20, (6, 7): 0.10}
FINAL = [(6, 8), (4, 8), (4, 5), (5, 6)]
PATHS = [
    [*start, 7, 6, *end] for start, end in itertools.product([(0, 2), (0, 3, 2), (0, 3), (0, 2, 3)], [(8,), (5, 4, 8)])
]


def edge_costs_to_weights(final_edges_costs):
    weights = torch.zeros(9, 9)
    for (i, j), cost in EDGES.items():
        weights[i, j] = weights[j, i] = cost
    rows, columns = torch.tensor(FINAL).T
    return weights.index_put((rows, columns), final_edges_costs).index_put((columns, rows), final_edges_costs)


INDICATORS = torch.zeros(len(PATHS), 9, 9)  # a one in row j, column i where a path goes from i to j
for number, path in enumerate(PATHS):
    for i, j in itertools.pairwise(path):
        INDICATORS[number, j, i] = 1


def shortest_path(weights):
    """[batch, 9, 9] edge costs -> [batch, 9, 9] indicator of the best path from 0 to 8."""
    costs = weights.flatten(1) @ ((INDICATORS + INDICATORS.mT) / 2).flatten(1).T
    return INDICATORS[costs.argmin(-1)]


@dbp.perturbed(num_samples=100_000, sigma=0.05, batched=False, device=torch.device("cpu"))
def perturbed_shortest_path(weights):
    return shortest_path(weights)


def test_perturbed_shortest_path_and_thirty_steps_of_ascent():
    costs = torch.tensor([0.4, 0.1, 0.1, 0.1], requires_grad=True)
    paths = perturbed_shortest_path(edge_costs_to_weights(costs))
    printed = {(2, 0): 0.679, (3, 0): 0.304, (2, 3): 0.119, (7, 2): 0.797, (7, 3): 0.178, (8, 4): 0.921, (8, 6): 0.079}
    for position, share in printed.items():
        assert paths[position].item() == pytest.approx(share, abs=0.035)
    assert paths[8, 6].item() == pytest.approx(0.079, abs=0.005)
    paths[8, 6].backward()
    torch.testing.assert_close(costs.grad, torch.tensor([-2.0993764, 2.076386, 2.042395, 2.0411625]), atol=0.1, rtol=0)
    fewer = dbp.perturbed(shortest_path, num_samples=20_000, sigma=0.05, batched=False)
    for _ in range(30):
        weight = fewer(edge_costs_to_weights(costs))[8, 6]
        (grad,) = torch.autograd.grad(weight, costs)
        costs = (costs + 0.001 * grad).detach().requires_grad_()
    assert perturbed_shortest_path(edge_costs_to_weights(costs))[8, 6].item() == pytest.approx(0.989, abs=0.005)


def test_perturbed_says_what_it_cannot_do():
    with pytest.raises(UserError, match="at least two dims"):
        dbp.perturbed(argmax, num_samples=10)(torch.randn(3))
    with pytest.raises(UserError, match="unknown noise 'cauchy'; one of normal, gumbel, logistic"):
        dbp.perturbed(argmax, noise="cauchy")


def test_further_arguments_reach_the_function_by_position_and_by_name():
    @perturbations.perturbed(num_samples=20, sigma=0.3)
    def pick(x, scale=1.0):
        return scale * argmax(x)

    theta = torch.randn(4, 5)
    assert pick(theta).sum().item() == pytest.approx(4)
    assert pick(theta, 2.0).sum().item() == pick(theta, scale=2.0).sum().item() == pytest.approx(8)


def test_bare_as_a_decorator_it_keeps_the_name_and_the_docstring():
    @perturbations.perturbed
    def pick(x):
        """Picks."""
        return argmax(x)

    assert (pick.__name__, pick.__doc__) == ("pick", "Picks.")
    assert pick(torch.randn(2, 3)).shape == (2, 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_noise_has_its_distribution_in_every_precision(dtype):
    seen = []

    @perturbations.perturbed(num_samples=2000, sigma=0.5, noise="logistic")
    def record(x):
        seen.append(x.double())
        return x

    y = record(torch.zeros(10, 20, dtype=dtype))
    assert y.dtype == dtype
    noise = torch.cat([x.flatten() for x in seen])
    assert noise.std().item() == pytest.approx(0.5 * torch.pi / 3**0.5, rel=0.01)


def test_with_too_few_dims_it_says_how_many_it_takes():
    with pytest.raises(UserError, match=r"at least two dims, .* or set batched=False; got shape \[3\]"):
        perturbations.perturbed(argmax)(torch.randn(3))
    with pytest.raises(UserError, match=r"at least one dim; got shape \[\]"):
        perturbations.perturbed(argmax, batched=False)(torch.tensor(1.0))


def ranks(x, axis=-1):
    return 1 + x.argsort(axis).argsort(axis).to(x.dtype)


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("batched", [True, False])
def test_fenchel_young_loss_has_the_published_value_and_gradient(batched, maximize):
    # Far from every tie the noise changes nothing: the mean decision is the decision, and all is exact.
    loss_of = FenchelYoungLoss(ranks, num_samples=50, sigma=0.001, noise="gumbel", batched=batched, maximize=maximize)
    theta = torch.tensor([[1.0, 20.0, 7.3, 8.0], [3.0, 2.0, 1.0, 0.0]])
    y_true = torch.tensor([[1, 4, 3, 2], [1, 2, 3, 4]])
    if not batched:
        theta, y_true = theta[0], y_true[0]
    leaf = theta.clone().requires_grad_()
    losses = loss_of(leaf, y_true)
    difference = ranks(theta) - y_true
    torch.testing.assert_close(losses, difference.square().sum(-1))
    weight = torch.tensor([0.5, -3.0]) if batched else torch.tensor(0.5)
    (losses * weight).sum().backward()
    sign = 1 if maximize else -1
    torch.testing.assert_close(leaf.grad, sign * weight.unsqueeze(-1) * difference)


def test_fenchel_young_loss_on_ranks_as_published():
    loss_of = FenchelYoungLoss(ranks, num_samples=10_000, sigma=0.1, batched=False)
    theta = torch.tensor([1, 20, 7.3, 7.35])
    targets = {"true": torch.tensor([1, 4, 3, 2]), "hard": torch.tensor([1, 4, 2, 3]), "soft": loss_of.perturbed(theta)}
    grads = {}
    for name, y_true in targets.items():
        leaf = theta.clone().requires_grad_()
        loss_of(leaf, y_true).backward()
        grads[name] = leaf.grad
        assert leaf.grad.sum().item() == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(grads["true"][:2], torch.zeros(2))
    assert grads["soft"].norm() < grads["hard"].norm() < grads["true"].norm()


def test_its_gradient_is_that_of_the_estimator_and_its_value_is_not():
    theta, y_true = torch.randn(3, 6), OneHot()(torch.randn(3, 6))
    leaf, other = theta.clone().requires_grad_(), theta.clone().requires_grad_()
    losses = FenchelYoungLoss(OneHot(), num_samples=40_000, sigma=1.0, noise="gumbel")(leaf, y_true)
    losses.sum().backward()
    estimator = dbp.estimators.FenchelYoung(dbp.noises.Gumbel(), samples=40_000)
    draw = estimator(OneHot(), other, target=dbp.Target(y=y_true))
    own = draw.surrogate(torch.zeros(3))
    own.sum().backward()
    torch.testing.assert_close(leaf.grad, other.grad, atol=0.02, rtol=0)
    torch.testing.assert_close(leaf.grad, theta.softmax(-1) - y_true, atol=0.02, rtol=0)
    torch.testing.assert_close(losses.detach(), (theta.softmax(-1) - y_true).square().sum(-1), atol=0.04, rtol=0)
    assert ((own - losses).abs() > 0.1).any()


def test_fenchel_young_loss_passes_arguments_on_and_draws_in_eval_mode_too():
    loss_of = FenchelYoungLoss(lambda x, scale: scale * argmax(x), num_samples=20, sigma=0.5, noise="normal").eval()
    theta = torch.zeros(1, 5)
    assert loss_of(theta, torch.zeros(1, 5), 3.0).item() < 9
    assert loss_of(theta, torch.zeros(1, 5), scale=3.0).item() < 9


def test_fenchel_young_loss_says_what_it_cannot_do():
    with pytest.raises(UserError, match="needs func"):
        FenchelYoungLoss()
    with pytest.raises(UserError, match=r"of one shape, got \[5, 5\], \[5, 5\] and \[5\]"):
        FenchelYoungLoss(argmax, num_samples=5)(torch.randn(5, 5), torch.arange(5))
    with pytest.raises(UserError, match=r"of one shape, got \[5, 3\], \[5\] and \[5\]"):
        FenchelYoungLoss(hard_or, num_samples=5)(torch.randn(5, 3), torch.ones(5))
