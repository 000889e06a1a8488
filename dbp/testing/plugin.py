"""`pytest --dbp-plugin NAME`: the checks of `dbp.testing` for all that an installed distribution declares.

They are added to the tests that pytest collects. A component is built with its default options, so what needs options
is skipped, as is what needs files; a test of its own calls `dbp.testing` with what it needs. Without the option,
nothing is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution
from typing import Any

import pytest

SOLVERS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {  # that estimators are checked with: options, shape
    "one_hot": ({}, (5,)),
    "threshold": ({}, ()),
    "top_k": ({"k": 2}, (5,)),
}
DATA = ("slots",)  # that tasks are checked with, after the distribution's own


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dbp")
    text = "check every component of an installed distribution against the contracts of dbp"
    group.addoption("--dbp-plugin", action="append", default=[], metavar="NAME", help=text)
    group.addoption("--dbp-skip", action="append", default=[], metavar="CHECK", help="leave out a check, by name")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    for name in config.getoption("--dbp-plugin"):
        points = _entry_points(name)
        for point in points:
            for label, check in _checks(point, points):
                items.append(Conformance.from_parent(session, name=f"{name}::{label}", check=check))


def _entry_points(name: str) -> list[EntryPoint]:
    try:
        points = [p for p in distribution(name).entry_points if p.group.startswith("dbp.")]
    except PackageNotFoundError:
        raise pytest.UsageError(f"--dbp-plugin {name}: no such distribution is installed") from None
    if not points:
        raise pytest.UsageError(f"--dbp-plugin {name}: it declares no entry point in a group dbp.*")
    return points


class Conformance(pytest.Item):
    """One component's checks."""

    def __init__(self, *, check: Callable[[list[str]], None], **options: Any) -> None:
        super().__init__(**options)
        self.check = check

    def runtest(self) -> None:
        from dbp.errors import Unsupported

        try:
            self.check(self.config.getoption("--dbp-skip"))
        except Unsupported as error:
            pytest.skip(str(error))

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        if isinstance(excinfo.value, AssertionError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        return self.path, None, self.name


def _checks(point: EntryPoint, points: list[EntryPoint]) -> Iterator[tuple[str, Callable[[list[str]], None]]]:
    from dbp.components import catalog

    kinds = {registry.group: kind for kind, registry in catalog.items()}
    if point.group not in kinds:
        raise pytest.UsageError(f"--dbp-plugin: {point.group!r} is no group of dbp: {', '.join(kinds)}")
    kind = kinds[point.group]
    yield f"{kind} {point.name}", partial(_declared, kind, point)
    if kind == "estimator":
        for solver in SOLVERS:
            yield f"{kind} {point.name} with {solver}", partial(_estimator, point, solver)
    elif kind == "task":
        own = [p.value for p in points if p.group == "dbp.data"]
        yield f"{kind} {point.name} keeps its promises", partial(_task, point, [*own, *DATA])
    elif kind in ("solver", "noise", "data"):
        yield f"{kind} {point.name} keeps its promises", partial(_PROMISES[kind], point)


def _declared(kind: str, point: EntryPoint, skip: list[str]) -> None:
    """The name is free, the class is of its kind, and its options can be read."""
    from dbp.components import catalog
    from dbp.errors import UserError

    first = catalog[kind].claims()[point.name][0]
    assert first.value == point.value, f"the {kind} name {point.name!r} is taken by {first.value} ({first.source})"
    try:
        catalog[kind].get(point.value)
        catalog[kind].signature(point.value)
    except UserError as error:
        raise AssertionError(str(error)) from None


def _build(kind: str, name: str, **extra: Any) -> Any:
    """A component with its default options."""
    from dbp.components import catalog
    from dbp.errors import UserError

    try:
        return catalog.build(kind, name, **extra)
    except UserError as error:
        pytest.skip(f"not built with default options: {error}")


def _estimator(point: EntryPoint, solver: str, skip: list[str]) -> None:
    from dbp.components import catalog
    from dbp.testing import check_estimator

    options, shape = SOLVERS[solver]
    hard = catalog.build("solver", {"name": solver, **options})
    check_estimator(_build("estimator", point.value), hard, shape, skip=_known("estimator", skip))


def _solver(point: EntryPoint, skip: list[str]) -> None:
    from dbp.errors import UserError
    from dbp.solvers.scores import random_scores
    from dbp.testing import check_solver

    solver = _build("solver", point.value)
    shape = (5,) if solver.event_dim < 2 else (3,) * solver.event_dim
    try:
        solver(random_scores(solver, shape))
    except UserError as error:
        pytest.skip(f"not called with scores of shape {list(shape)} and no instance: {error}")
    check_solver(solver, shape, skip=_known("solver", skip))


def _noise(point: EntryPoint, skip: list[str]) -> None:
    from dbp.testing import check_noise

    check_noise(_build("noise", point.value), skip=_known("noise", skip))


def _data(point: EntryPoint, skip: list[str]) -> None:
    from dbp.errors import UserError
    from dbp.testing import check_data

    data = _build("data", point.value)
    try:
        data.setup()
    except UserError as error:
        pytest.skip(f"not there: {error}")
    check_data(data, skip=_known("data", skip))


def _task(point: EntryPoint, data: list[str], skip: list[str]) -> None:
    from dbp.components import catalog
    from dbp.testing import check_task

    parts = {"solver": catalog.build("solver", "one_hot"), "estimator": catalog.build("estimator", "gumbel_softmax")}
    task = _build("task", point.value, **parts)
    batch = next((b for b in map(_first_batch, data) if b is not None and _takes(task, b)), None)
    if batch is not None:
        check_task(task, batch, skip=_known("task", skip))
    else:
        pytest.skip(f"none of the data {', '.join(data)} fits: call dbp.testing.check_task with a batch")


def _first_batch(name: str) -> Any:
    from dbp.components import catalog
    from dbp.errors import UserError

    try:
        data = catalog.build("data", name)
        data.setup()
        return next(iter(data.train_dataloader()))
    except UserError:
        return None


def _takes(task: Any, batch: Any) -> bool:
    try:
        deepcopy(task).train().step(batch)
    except Exception:  # whatever it does to a batch that is not for it
        return False
    return True


def _known(kind: str, skip: list[str]) -> list[str]:
    """The checks to skip that this kind has."""
    import dbp.testing

    return [name for name in skip if name in getattr(dbp.testing, f"{kind.upper()}_CHECKS")]


_PROMISES = {"solver": _solver, "noise": _noise, "data": _data}
