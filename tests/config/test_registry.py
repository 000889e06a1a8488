"""Names stand for what the source code says, and for nothing else."""

import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dbp import components
from dbp.components import catalog, estimators
from dbp.errors import UserError
from dbp.registry import Registry
from dbp.registry.catalog import Catalog, merge
from dbp.registry.names import BUILTIN
from dbp.registry.signature import signature, signature_of_class
from dbp.runs.run import load
from dbp.templates.stubs import stubs

BUILTINS = [(kind, name) for kind, registry in catalog.items() for name in registry.claims()]


@pytest.mark.parametrize(("kind", "name"), BUILTINS)
def test_source_says_what_the_class_says(kind: str, name: str) -> None:
    cls, read = catalog[kind].claim(name).load(), signature(catalog[kind].claim(name).path)
    assert read is not None
    parameters = inspect.signature(cls).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    required = {p.name for p in named if p.default is p.empty}
    assert {p.name for p in named} <= set(read.options)
    assert required == {key for key, option in read.options.items() if option.default is None}


@pytest.mark.parametrize("name", catalog["noise"].claims())
def test_the_imported_class_gives_the_same_signature(name: str) -> None:
    registry = catalog["noise"]
    imported, read = signature_of_class(registry.get(name)), registry.signature(name)
    assert {k: o.type for k, o in imported.options.items()} == {k: o.type for k, o in read.options.items()}


NETWORK = {"name": "mlp", "sizes": [3, 3]}
REQUIRED: dict[str, Any] = {
    "dab": {"bridge": NETWORK},
    "relax": {"network": NETWORK},
}


@pytest.mark.parametrize("name", catalog["estimator"].claims())
def test_completing_is_idempotent_and_builds_the_defaults(name: str) -> None:
    options = REQUIRED.get(name, {})
    complete = catalog.complete("estimator", {"name": name, **options})
    assert catalog.complete("estimator", complete) == complete
    built, plain = catalog.build("estimator", complete), catalog["estimator"].get(name)(**options)
    assert built.noise == plain.noise
    assert built.samples == plain.samples


NESTED: list[tuple[Any, Any]] = [
    ({}, {"name": "gumbel", "scale": 1.0}),
    ({"noise": "normal"}, {"name": "normal", "scale": 1.0}),
    ({"noise": {"scale": 2}}, {"name": "gumbel", "scale": 2.0}),
    ({"noise": {"name": "sum_of_gamma", "k": 3}}, {"name": "sum_of_gamma", "scale": 1.0, "k": 3.0, "terms": 10}),
    ({"noise": None}, None),
    ({"noise": "dbp.noises:Logistic"}, {"name": "dbp.noises:Logistic", "scale": 1.0}),
]


@pytest.mark.parametrize(("given", "expected"), NESTED)
def test_an_option_annotated_with_a_base_is_a_component(given: dict[str, Any], expected: Any) -> None:
    complete = catalog.complete("estimator", {"name": "imle", **given})
    assert complete["noise"] == expected
    built = catalog.build("estimator", complete).noise
    assert built == (None if expected is None else catalog.build("noise", expected))


OVER: list[tuple[Any, Any, Any]] = [
    ("imle", {"lam": 3}, {"name": "imle", "lam": 3}),
    ({"name": "imle", "lam": 3}, "identity", {"name": "identity"}),
    ({"name": "imle", "lam": 3}, "imle", {"name": "imle", "lam": 3}),
    ({"name": "imle", "lam": 3}, {"name": "imle", "samples": 2}, {"name": "imle", "lam": 3, "samples": 2}),
    ({"name": "a", "noise": {"name": "b", "k": 1}}, {"noise": "c"}, {"name": "a", "noise": {"name": "c"}}),
    ({"name": "a", "noise": {"name": "b", "k": 1}}, {"noise": None}, {"name": "a", "noise": None}),
    ({"name": "a", "noise": "b"}, {"noise": {"k": 1}}, {"name": "a", "noise": {"name": "b", "k": 1}}),
    ({"devices": [0, 1]}, {"devices": [2]}, {"devices": [2]}),
    (None, {"name": "cosine"}, {"name": "cosine"}),
]


@pytest.mark.parametrize(("old", "new", "expected"), OVER)
def test_naming_another_component_drops_the_options_of_the_old_one(old: Any, new: Any, expected: Any) -> None:
    assert merge(old, new) == expected


def test_plain_python_builds_by_name() -> None:
    import dbp

    assert dbp.build("solver", {"name": "top_k", "k": 10}) == dbp.solvers.TopK(k=10)
    assert dbp.build("noise", "gumbel") == dbp.noises.Gumbel()
    noise = dbp.noises.Normal(scale=3.0)
    assert dbp.build("noise", noise) is noise


def test_optimizers_build_to_factories() -> None:
    import torch

    factory = catalog.build("optimizer", {"name": "adamw", "lr": 1, "betas": [0.5, 0.9]})
    group = factory([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert (group["lr"], group["betas"]) == (1.0, (0.5, 0.9))


@pytest.fixture
def registry() -> Registry:
    return Registry("thing", "things", None, {"mine": "dbp.noises:Normal"})


def test_registered_classes_need_no_source_file(registry: Registry) -> None:
    namespace: dict[str, Any] = {}
    exec("class Made:\n    'Made.'\n    def __init__(self, size: int, rate: float = 0.5): self.size = size", namespace)
    registry.register("made")(namespace["Made"])
    things = Catalog(registry)
    assert things.complete("thing", {"name": "made", "size": 2}) == {"name": "made", "size": 2, "rate": 0.5}
    assert things.build("thing", {"name": "made", "size": 2}).size == 2


def test_a_taken_name_is_not_registered_twice(registry: Registry) -> None:
    class Thing:
        pass

    registry.register("thing")(Thing)
    registry.register("thing")(Thing)  # a notebook's cell that runs again
    with pytest.raises(UserError, match=r"'mine' is taken by dbp.noises:Normal \(built in\)"):
        registry.register("mine")(Thing)


VALUES: list[tuple[str, Any, str]] = [
    ("lam", "abc", "estimator.lam: expected float, got 'abc'"),
    ("lam", True, "estimator.lam: expected float, got True"),
    ("lam", None, "estimator.lam: expected float, got None"),
    ("samples", 2.5, "estimator.samples: expected int or null, got 2.5"),
    ("noise", "gumble", "unknown noise 'gumble'. Did you mean 'gumbel'?"),
    ("noise", 3, "estimator.noise: expected Noise or null, got 3"),
    ("noise", {"scal": 2}, "estimator.noise: noise 'gumbel' has no option 'scal'. Did you mean 'scale'?"),
]


@pytest.mark.parametrize(("option", "value", "message"), VALUES)
def test_wrong_values_are_named(option: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as error:
        catalog.complete("estimator", {"name": "imle", option: value})
    assert str(error.value).splitlines()[0] == message


@pytest.mark.parametrize(("given", "kept"), [(2, 2), (2.0, 2)])
def test_whole_numbers_are_integers(given: float, kept: int) -> None:
    complete = catalog.complete("estimator", {"name": "imle", "samples": given})
    assert complete["samples"] == kept
    assert type(complete["samples"]) is int


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> str:
    """The start of the message about an estimator that has a different name now."""
    monkeypatch.setitem(estimators.former, "old_imle", "write estimator=imle")
    return "the estimator 'old_imle' is gone: write estimator=imle"


@pytest.mark.parametrize("word", ["estimator=old_imle", "estimator={name: old_imle, lam: 3}", "--config=old.yaml"])
def test_a_former_name_says_what_to_write_instead(
    renamed: str, word: str, dbp: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("old.yaml").write_text("estimator: {name: old_imle}\n")
    assert dbp("fit", "task=slots", "solver=one_hot", "data=slots", word) == 2
    assert capsys.readouterr().err == f"dbp: error: {renamed}\n"


def test_a_former_name_is_no_suggestion_and_has_no_options(renamed: str) -> None:
    for ask in (estimators.signature, estimators.get, lambda name: catalog.build("estimator", name)):
        with pytest.raises(UserError, match=f"^{renamed}$"):
            ask("old_imle")
    assert "old_imle" not in estimators.claims()


def test_a_checkpoint_that_has_a_former_name_says_so(
    renamed: str, dbp: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setitem(estimators._builtins, "old_imle", "dbp.estimators:IMLE")
        small = ["data.size=20", "task.hidden=[4]", "trainer.max_epochs=1", "trainer.accelerator=cpu", "run=r"]
        assert dbp("fit", "task=slots", "solver=one_hot", "estimator=old_imle", "data=slots", *small) == 0
    path = "lightning_logs/r/checkpoints/last.ckpt"
    assert dbp("test", f"ckpt_path={path}") == 2
    assert renamed in capsys.readouterr().err
    with pytest.raises(UserError, match=renamed):
        load(path)
    assert dbp("test", f"ckpt_path={path}", "estimator=imle") == 0


@pytest.mark.parametrize("registry", catalog.values(), ids=list(catalog))
def test_former_names_are_free(registry: Registry) -> None:
    assert not registry.former.keys() & {n for n, c in registry.claims().items() if c[0].source == BUILTIN}


@pytest.mark.parametrize(
    ("name", "solver", "relaxations"),
    [
        ("smooth_sort", {"name": "sort"}, ["neural_sort", "permutahedron", "soft_sort", "network"]),
        ("sparse", {"name": "one_hot"}, ["entmax"]),
        ("sparse", {"name": "top_k", "k": 2}, ["budget"]),
    ],
)
def test_the_advice_for_a_former_name_can_be_followed(
    name: str, solver: dict[str, Any], relaxations: list[str]
) -> None:
    for relaxation in relaxations:
        assert relaxation in estimators.former[name]
        assert f"name: {solver['name']}" in estimators.former[name]
        assert catalog.complete("solver", {**solver, "relaxation": relaxation})["relaxation"] == relaxation
    assert "estimator=straight_through" in estimators.former[name]


@pytest.fixture
def impolite() -> Iterator[str]:
    @estimators.register("impolite")
    class Impolite(estimators.get("identity")):  # type: ignore[misc]
        def __init__(self) -> None:
            raise ValueError("never on a Sunday")

    yield "impolite"
    del estimators._local["impolite"]


def test_what_a_constructor_refuses_is_the_users_to_put_right(impolite: str) -> None:
    with pytest.raises(UserError, match="estimator 'impolite': never on a Sunday"):
        catalog.build("estimator", impolite)


PACKAGES = ["data", "estimators", "networks", "solvers", "tasks"]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_offers_the_classes_of_the_table(package: str) -> None:
    found = importlib.import_module(f"dbp.{package}")
    assert {"data": "Data", "solvers": "FromFunction", "tasks": "Step"}.get(package, found.__all__[0]) in dir(found)
    for claims in getattr(components, package).claims().values():
        module, _, name = claims[0].value.partition(":")
        assert getattr(found, name) is getattr(importlib.import_module(module), name)
        assert name in found.__all__
        assert name in vars(found)  # the second time it is found at once
    with pytest.raises(AttributeError, match=rf"'dbp.{package}' has no attribute 'X{name}'. Did you mean '{name}'"):
        getattr(found, f"X{name}")


def test_a_package_imports_one_class_at_a_time() -> None:
    code = "import sys; from dbp.estimators import Identity; assert 'dbp.estimators.score' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_source_finds_a_class_by_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever subclasses `dbp.solvers.TopK` has its kind and its options, with nothing imported."""
    (tmp_path / "of_mine.py").write_text("import dbp\n\n\nclass Mine(dbp.solvers.TopK):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert catalog.kind_of("of_mine.Mine") == "solver"
    assert catalog.complete("solver", {"name": "of_mine:Mine", "k": 2}) == catalog.complete(
        "solver", {"name": "dbp.solvers:TopK", "k": 2}
    ) | {"name": "of_mine:Mine"}
    assert "of_mine" not in sys.modules
    assert catalog.build("solver", {"name": "dbp.solvers:TopK", "k": 2}) == components.build(
        "solver", {"name": "top_k", "k": 2}
    )


def test_the_stubs_say_what_the_table_says() -> None:
    for path, text in stubs().items():
        assert set(path.read_text().splitlines()) == set(text.splitlines()), "run python -m dbp.templates.stubs"
