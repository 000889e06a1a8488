"""The kit finds no fault in what dbp ships: it runs over all of tests/examples.py, where no built-in is missing."""

import pytest
from examples import DATA, ESTIMATORS, NOISES, SOLVERS, TASKS, N

from dbp import testing
from dbp.components import catalog
from dbp.registry.names import BUILTIN

TABLES = {"solver": SOLVERS, "estimator": ESTIMATORS, "noise": NOISES, "task": TASKS, "data": DATA}
PAIRS = [(name, index) for name, example in ESTIMATORS.items() for index in range(len(example.solvers))]
LEARNING = [(name, index) for name, example in TASKS.items() for index in range(len(example.estimators))]


@pytest.mark.parametrize("kind", TABLES)
def test_every_builtin_has_a_line(kind):
    builtin = {name for name, claims in catalog[kind].claims().items() if claims[0].source == BUILTIN}
    named = {name.partition(",")[0] for name in TABLES[kind]}
    assert named - {"function"} == builtin  # a function of the user's has no name


@pytest.mark.parametrize("kind", ["solver", "estimator", "noise"])
def test_a_line_is_of_its_component(kind):
    found = {"solver": lambda x: x.solver, "estimator": lambda x: x.make(), "noise": lambda x: x}[kind]
    for name, example in TABLES[kind].items():
        if not name.startswith("function"):
            assert type(found(example)) is catalog[kind].get(name.partition(",")[0])


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers(name):
    example = SOLVERS[name]
    testing.check_solver(example.solver, example.shape, example.instance, skip=example.skip)


@pytest.mark.parametrize(("name", "index"), PAIRS)
def test_estimators(name, index):
    example = ESTIMATORS[name]
    testing.check_estimator(example.make(), example.solvers[index], (N,), skip=example.skip)


@pytest.mark.parametrize("name", NOISES)
def test_noises(name):
    testing.check_noise(NOISES[name], skip=["scale"] if name == "log_normal" else [])


@pytest.mark.parametrize(("name", "index"), LEARNING)
def test_tasks(name, index):
    example = TASKS[name]
    testing.check_task(example.make(example.estimators[index]()), example.batch())


@pytest.mark.parametrize("name", DATA)
def test_data(name):
    data = DATA[name]()
    data.setup()
    testing.check_data(data)
