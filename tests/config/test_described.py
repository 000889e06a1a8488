"""The options that an object's `repr` shows."""

import pytest
from torch import nn

import dbp
from dbp.registry.described import described, options_of


def test_the_options_of_an_estimator_are_those_of_its_constructor():
    estimator = dbp.estimators.IMLE(3.0, dbp.noises.SumOfGamma(k=5), samples=4)
    shown = "lam=3.0, noise=SumOfGamma(scale=1.0, k=5, terms=10), samples=4, two_sided=False, "
    shown += "target='pid', target_temperature=1.0"
    assert described(estimator) == shown
    rebuilt = dbp.estimators.IMLE(**options_of(estimator))
    assert described(rebuilt) == shown


def test_options_are_shown_as_they_are_now():
    estimator = dbp.estimators.IMLE(3.0)
    estimator.lam = 0.5
    assert described(estimator).startswith("lam=0.5, ")


def test_what_is_learned_is_a_number_and_what_is_a_module_is_shown_by_torch():
    network = nn.Linear(1, 1)
    shown = described(dbp.estimators.RELAX(network, eta=0.25))
    assert "eta=0.25" in shown
    assert "network" not in shown
    assert "Linear" not in shown


@pytest.mark.parametrize("component", [dbp.estimators.Identity(), dbp.solvers.TopK(3), dbp.noises.Gumbel(2.0)])
def test_every_kind_of_component_is_described(component):
    options = options_of(component)
    assert options
    assert all(getattr(component, name) is value for name, value in options.items())
    assert described(component) == ", ".join(f"{name}={value!r}" for name, value in options.items())
