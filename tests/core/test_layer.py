"""Layers outside the template, with the calls and the numbers of the published examples."""

import itertools

import pytest
import torch
import torch.nn.functional as F

import dbp
from dbp.errors import UserError
from dbp.estimators import IMLE, Blackbox, Identity, Score
from dbp.noises import Normal, SumOfGamma
from dbp.solvers import OneHot, TopK

SIGMA = 0.5
BATCH = torch.tensor([[-0.6, 1.9, -0.2, 1.1, -1.0], [-0.6, 1.0, -0.2, 1.8, -1.0]])


def argmax(x, axis=-1):
    return F.one_hot(torch.argmax(x, dim=axis), list(x.shape)[axis]).float()


def test_a_layer_is_a_module_with_any_leading_dims():
    layer = dbp.Layer(TopK(3), IMLE(5.0, SumOfGamma(k=3), samples=4))
    theta = torch.randn(2, 7, 10, requires_grad=True)
    y = layer(theta)
    assert y.shape == (4, 2, 7, 10)
    assert (y.sum(-1) == 3).all()
    (y * torch.randn(10)).sum().backward()
    assert theta.grad.abs().sum() > 0
    assert torch.equal(layer.eval()(theta), TopK(3)(theta))


def test_without_the_surrogate_lam_is_in_units_of_what_arrives():
    theta, w = torch.randn(8, 6), torch.randn(8, 6)
    leaf = theta.clone().requires_grad_()
    (dbp.Layer(TopK(2), Blackbox(4.0))(leaf) * w).sum(-1).mean().backward()
    torch.testing.assert_close(leaf.grad, (TopK(2)(theta) - TopK(2)(theta - 4 * w / 8)) / 4)


def test_a_gradient_that_passes_through_the_losses_is_not_lost_in_silence():
    layer = dbp.Layer(TopK(2), Score(4, Normal()))
    theta = torch.randn(3, 5, requires_grad=True)
    with pytest.raises(UserError, match="use draw = "):
        layer(theta)
    with torch.no_grad():
        assert layer(theta).shape == (4, 3, 5)
    draw = layer.draw(theta)
    draw.surrogate((draw.y * torch.randn(5)).sum(-1)).mean().backward()
    assert theta.grad.abs().sum() > 0


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


class Recorded:
    """A solver that keeps what it was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, weights):
        self.calls.append(weights.clone())
        return TopK(2)(weights)


@pytest.mark.parametrize("decorate", [True, False])
def test_imle_takes_the_calls_of_torch_imle_and_has_its_arithmetic(decorate):
    solver = Recorded()
    options = {
        "target_distribution": dbp.TargetDistribution(alpha=0.5, beta=10.0),
        "noise_distribution": dbp.SumOfGammaNoiseDistribution(k=2, nb_iterations=100),
        "nb_samples": 3,
        "input_noise_temperature": 1.0,
        "target_noise_temperature": 0.25,
    }

    if decorate:

        @dbp.imle(**options)
        def imle_solver(weights_batch):
            return solver(weights_batch)
    else:
        imle_solver = dbp.imle(solver, **options)

    theta = torch.randn(4, 6, requires_grad=True)
    y = imle_solver(theta)
    assert y.shape == (12, 6)
    many = theta.detach().repeat_interleave(3, 0)
    noise = solver.calls[0] - many
    torch.testing.assert_close(y, TopK(2)(solver.calls[0]))
    w = torch.randn(12, 6)
    (y * w).sum().backward()
    torch.testing.assert_close(solver.calls[1], 0.5 * many - 10 * w + 0.25 * noise)
    torch.testing.assert_close(theta.grad, (y.detach() - TopK(2)(solver.calls[1])).view(4, 3, 6).mean(1))


def test_imle_without_options_is_torch_imles_default():
    theta, w = torch.randn(4, 6), torch.randn(4, 6)
    leaf = theta.clone().requires_grad_()
    y = dbp.imle(TopK(2))(leaf)
    assert torch.equal(y, TopK(2)(theta))
    (y * w).sum().backward()
    assert torch.equal(leaf.grad, TopK(2)(theta) - TopK(2)(theta - w))


def test_everything_in_the_registry_is_built_from_python():
    assert dbp.build("solver", {"name": "top_k", "k": 10}) == TopK(10)
    assert dbp.build("noise", "gumbel") == dbp.noises.Gumbel()
    estimator = dbp.build("estimator", {"name": "imle", "lam": 3, "noise": {"name": "sum_of_gamma", "k": 5}})
    assert estimator.lam == 3
    assert estimator.noise == SumOfGamma(k=5)
    layer = dbp.Layer(dbp.build("solver", "one_hot"), Identity())
    assert layer.solver == OneHot()
