"""The contract: a solver declares what it is, an estimator what it needs, and one check serves all."""

import pytest
import torch

import dbp
from dbp.components import estimators as names
from dbp.core import Draw, Estimator, Target
from dbp.errors import NonFinite, Unsupported, UserError
from dbp.estimators import (
    IMLE,
    SIMPLE,
    Blackbox,
    DisARM,
    Exact,
    FenchelYoung,
    GumbelSoftmax,
    Identity,
    Perturbed,
    SPOPlus,
    StraightThrough,
    StructuredSVM,
)
from dbp.noises import LogNormal, Normal
from dbp.registry.described import options_of
from dbp.solvers import Arborescence, IntegerProgram, OneHot, Or, Rank, Sort, SpanningTree, Threshold, TopK

BUILT_IN = [name for name, claims in names.claims().items() if claims[0].source == "built in"]


def test_user_errors_are_value_errors():
    with pytest.raises(ValueError, match="k must be"):
        TopK(0)


@pytest.mark.parametrize("name", [name for name in BUILT_IN if "linear" in names.claim(name).load().needs])
def test_an_estimator_that_needs_a_linear_solver_refuses_a_sort(name):
    theta = torch.tensor([[0.3, -1.0, 2.0]], requires_grad=True)
    estimator = dbp.build("estimator", name)
    with pytest.raises(Unsupported, match=r"maximises <theta, y>, which Sort does not claim.*perturbed"):
        estimator(Sort(), theta, target=Target(theta.detach(), theta.detach()))


def test_the_right_gradient_of_a_sort_is_found_by_what_its_refusal_names():
    theta = torch.tensor([[0.3, -1.0, 2.0]], requires_grad=True)
    dbp.Layer(Sort(relaxation="soft_sort"), StraightThrough(temperature=1e-3))(theta)[0, 0].backward()
    torch.testing.assert_close(theta.grad, torch.tensor([[0.0, 0.0, 1.0]]))  # the largest is the third


def test_working_names_are_those_that_run():
    theta, right = torch.tensor([[0.3, -1.0, 2.0, 0.1]]), Target(torch.tensor([[0.0, 1, 0, 0]]), torch.ones(1, 4))
    for solver in (OneHot(), Sort(), Threshold(), TopK(2), Rank(), Or()):
        working = dbp.components.working(solver)
        for name in BUILT_IN:
            if name == "dab" or (name == "unordered" and solver == Threshold()):
                continue  # its bridge has no default; there are no four different bits
            estimator = dbp.build("estimator", name)
            target = Target(solver(right.y), right.theta)
            try:
                estimator(solver, theta.clone().requires_grad_(), target=target)
            except Unsupported:
                assert name not in working, (solver, name)
            else:
                assert name in working, (solver, name)


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "dab"])
@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
def test_scores_that_are_not_finite_are_refused_by_every_estimator(name, bad):
    estimator = dbp.build("estimator", name)
    theta = torch.tensor([[0.1, bad, -2.0, 0.3]], requires_grad=True)
    with pytest.raises(NonFinite, match=r"(?s)at \[0, 1\].*mask"):
        estimator(OneHot(), theta, target=Target(torch.eye(4)[:1], torch.ones(1, 4)))


def test_an_instance_is_a_mapping_of_known_names_without_a_gradient():
    theta = torch.randn(2, 3)
    with pytest.raises(UserError, match=r"Or takes no instance, got \['mask'\]"):
        Or()(theta, {"mask": theta > 0})
    with pytest.raises(UserError, match=r"SpanningTree takes an instance {name: tensor} of edges; got Tensor"):
        SpanningTree()(theta, torch.tensor([[0, 1], [1, 2], [0, 2]]))
    with pytest.raises(UserError, match=r"of edges; got \['edge'\]"):
        SpanningTree()(theta, {"edge": torch.tensor([[0, 1], [1, 2], [0, 2]])})
    program = {"A_ub": torch.ones(1, 3), "b_ub": torch.tensor([1.5], requires_grad=True)}
    with pytest.raises(UserError, match=r"no gradient reaches the instance: give b_ub.detach\(\)"):
        dbp.Layer(IntegerProgram(), Blackbox())(theta, program)
    with torch.no_grad():
        assert dbp.Layer(IntegerProgram(), Blackbox())(theta, program).shape == (2, 3)


def test_graphs_given_as_instances_serve_relaxations_samples_and_enumeration():
    ends = torch.tensor([[0, 1], [1, 2], [0, 2], [2, 3]])
    theta = torch.randn(5, 4)
    for estimator in (StraightThrough(), GumbelSoftmax(Normal()), SIMPLE(), Exact(), FenchelYoung(None)):
        leaf = theta.clone().requires_grad_()
        target = Target(SpanningTree()(torch.randn(5, 4), {"edges": ends}))
        draw = estimator(SpanningTree(), leaf, {"edges": ends}, target)
        draw.surrogate((draw.y * torch.arange(4.0)).sum(-1)).mean().backward()
        assert leaf.grad.isfinite().all(), type(estimator).__name__
        assert leaf.grad.any(), type(estimator).__name__


def test_simple_and_the_entropy_serve_trees_and_arborescences():
    graph = torch.tensor([[0, 1], [1, 2], [0, 2], [2, 1]])
    theta = torch.randn(1, 4, dtype=torch.float64)
    for solver in (SpanningTree(), Arborescence(root=0)):
        trees = solver.vertices((4,), {"edges": graph}).double()
        p = (theta @ trees.T).softmax(-1)
        torch.testing.assert_close(solver.marginals(theta, {"edges": graph}), p @ trees)
        torch.manual_seed(0)
        y = SIMPLE()(solver, theta.expand(20_000, 4), {"edges": graph}).y
        seen = (y[:, None] == trees).all(-1).double().mean(0)
        assert ((seen - p[0]).abs() < 5 * (p[0] * (1 - p[0]) / len(y)).sqrt()).all()
        leaf = theta.clone().requires_grad_()
        best = trees[:1]
        loss = FenchelYoung(None)(solver, leaf, {"edges": graph}, Target(best)).surrogate(torch.zeros(1))
        loss.sum().backward()
        torch.testing.assert_close(leaf.grad, p @ trees - best)


class Forgets(Estimator):
    def draw(self, solver, theta, instance, target):
        return solver(theta, instance)


class Nothing(Estimator):
    def draw(self, solver, theta, instance, target):
        pass


class Constant(Estimator):
    def draw(self, solver, theta, instance, target):
        return Draw(solver(theta, instance))


class Unborn(Estimator):
    def __init__(self):
        self.lam = 1.0

    def draw(self, solver, theta, instance, target):
        return Draw(theta)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Forgets, r"Forgets.draw returned Tensor: return dbp.Draw\(y\)"),
        (Nothing, r"Nothing.draw returned NoneType: return dbp.Draw\(y\)"),
        (Constant, "Constant.draw returned a y without a gradient and no surrogate"),
        (Unborn, r"Unborn.__init__ must call super\(\).__init__\(\) first"),
    ],
)
def test_an_estimator_of_your_own_that_is_wrong_is_named(cls, message):
    with pytest.raises(UserError, match=message):
        dbp.Layer(OneHot(), cls())(torch.randn(2, 3, requires_grad=True))


def test_a_draw_with_another_signature_is_named_when_its_class_is_made():
    with pytest.raises(UserError, match=r"Few.draw must take \(solver, theta, instance, target\)"):

        class Few(Estimator):
            def draw(self, solver, theta):
                return Draw(theta)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Identity(), OneHot()), "takes a dbp.Solver as its solver, got Identity"),
        ((OneHot, Identity()), "got the class OneHot: call it"),
        ((OneHot(), [Identity()]), "takes a dbp.Estimator as its estimator, got list"),
        (("one_hott", "identity"), "Did you mean 'one_hot'"),
    ],
)
def test_a_layer_of_anything_else_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        dbp.Layer(*arguments)


def test_a_layer_is_built_from_names_and_mappings():
    layer = dbp.Layer({"name": "top_k", "k": 2}, "imle")
    assert layer.solver == TopK(2)
    assert isinstance(layer.estimator, IMLE)


def test_a_layer_shows_the_options_of_both():
    shown = repr(dbp.Layer(TopK(2), IMLE(3.0, samples=4)))
    assert "TopK(k=2" in shown
    assert "IMLE(lam=3.0, noise=Gumbel(scale=1.0), samples=4" in shown


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "dab"])
def test_an_estimator_keeps_its_options_as_attributes(name):
    estimator = dbp.build("estimator", name)
    assert set(options_of(estimator)) == set(names.signature(name).options)


def test_identity_decides_as_the_solver_whatever_the_range_of_scores():
    mask = torch.tensor([[0.0, 0.3, 1.0, 0.8, -1e9, -1e9]])
    w = torch.tensor([1.0, -1.0, 2.0, 0.0, 0.0, 0.0])
    grads = []
    for theta in (mask, mask[:, :4]):
        leaf = theta.clone().requires_grad_()
        y = dbp.Layer(TopK(2), Identity())(leaf)
        assert torch.equal(y.detach(), TopK(2)(theta))
        (y * w[: theta.shape[1]]).sum().backward()
        grads.append(leaf.grad[:, :4])
    torch.testing.assert_close(*grads)
    for scale in (1e-30, 1e20, 1e30):
        theta = torch.randn(200, 8) * scale
        leaf = theta.clone().requires_grad_()
        y = dbp.Layer(TopK(3), Identity())(leaf)
        assert torch.equal(y.detach(), TopK(3)(theta))
        (y * torch.randn(8)).sum().backward()
        size = (leaf.grad.double() * scale).abs().amax(-1)
        assert (size > 1e-2).all()
        assert (size < 1e2).all()


def test_adaptive_imle_takes_large_scores():
    theta = torch.tensor([[1e20, -1e20, 3e19]], requires_grad=True)
    y = dbp.Layer(OneHot(), "adaptive_imle")(theta)
    (y * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert theta.grad.isfinite().all()


def test_noise_that_multiplies_small_scores_has_finite_gradients():
    theta = torch.nn.functional.softplus(torch.full((1, 4), -95.0)).requires_grad_()  # denormal
    y = dbp.Layer(TopK(2), Perturbed(LogNormal(0.5), samples=8))(theta)
    (y * torch.arange(4.0)).sum().backward()
    assert theta.grad.isfinite().all()


def test_supervised_estimators_say_what_they_miss():
    theta = torch.randn(2, 3, requires_grad=True)
    with pytest.raises(Unsupported, match=r"learns from the right scores.*need no target: .*identity"):
        SPOPlus()(OneHot(), theta, target=Target(torch.eye(3)[:2]))
    with pytest.raises(Unsupported, match="learns from the right decision"):
        StructuredSVM()(OneHot(), theta)


def test_an_estimator_for_bits_refuses_a_choice():
    with pytest.raises(Unsupported, match="decides each score for itself, which OneHot does not claim"):
        DisARM()(OneHot(), torch.randn(2, 3))
