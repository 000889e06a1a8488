"""A component that is built by name equals the one that its class makes in Python: types, fields, dtypes."""

import json
import types
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import dbp
from dbp.components import catalog
from dbp.registry.names import BUILTIN

CODE = types.FunctionType | types.MethodType | types.BuiltinFunctionType | type


def difference(a: Any, b: Any, where: str = "", seen: frozenset[int] = frozenset()) -> str | None:
    """Where two objects differ, by their fields and those of what they hold; None if they are alike.

    3 and 3.0 are alike as numbers; as what a tensor was made from they are not.
    """
    if type(a) in (int, float) and type(b) in (int, float):
        return None if a == b or a != a != b else f"{where}: {a!r} and {b!r}"
    if type(a) is not type(b):
        return f"{where}: {type(a).__name__} and {type(b).__name__}"
    if a is b or id(a) in seen:
        return None
    seen |= {id(a)}
    if isinstance(a, Tensor):
        return None if a.dtype == b.dtype and torch.equal(a, b) else f"{where}: {a} and {b}"
    if isinstance(a, CODE):
        return None if a.__qualname__ == b.__qualname__ else f"{where}: {a} and {b}"
    if isinstance(a, partial):
        pairs: Any = {"func": (a.func, b.func), "keywords": (a.keywords, b.keywords), "args": (a.args, b.args)}
    elif isinstance(a, Mapping):
        pairs = {key: (a.get(key), b.get(key)) for key in {**a, **b}}
    elif isinstance(a, list | tuple) and len(a) == len(b):
        pairs = dict(enumerate(zip(a, b, strict=True)))
    elif hasattr(a, "__dict__") and not isinstance(a, list | tuple):
        pairs = {key: (vars(a).get(key), vars(b).get(key)) for key in {**vars(a), **vars(b)}}
    else:
        return None if a == b else f"{where}: {a!r} and {b!r}"
    found = (difference(x, y, f"{where}.{key}", seen) for key, (x, y) in pairs.items())
    return next(filter(None, found), None)


def needs_nothing(kind: str, name: str) -> bool:
    return all(option.default is not None for option in catalog[kind].signature(name).options.values())


def hidden(kind: str, folder: Path) -> dict[str, Any]:
    """Arguments of a kind's constructors that are no options."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    return {
        "task": {"solver": dbp.solvers.Threshold(), "estimator": dbp.estimators.Identity()},
        "logger": {"save_dir": str(folder)},
        "optimizer": {"params": [parameter]},
        "scheduler": {"optimizer": torch.optim.SGD([parameter])},
    }.get(kind, {})


def built(make: Any, arguments: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return make(**arguments)


BUILT_IN = [(kind, name) for kind, r in catalog.items() for name, c in r.claims().items() if c[0].source == BUILTIN]


@pytest.mark.parametrize(("kind", "name"), [pair for pair in BUILT_IN if needs_nothing(*pair)])
def test_by_name_is_as_in_python(kind: str, name: str, tmp_path: Path) -> None:
    if package := catalog[kind].lacks(name):
        pytest.skip(f"{package} is not installed")
    by_name = partial(catalog.build, kind, name)
    given = hidden(kind, tmp_path)
    made = (lambda **extra: by_name()(*extra.values())) if catalog[kind].factory else by_name
    first = built(made, given)
    second = built(catalog[kind].get(name), hidden(kind, tmp_path))
    assert difference(first, second) is None


GIVEN: list[tuple[str, str, dict[str, Any]]] = [
    ("solver", "top_k", {"k": 3}),
    ("solver", "knapsack", {"weights": (3, 4, 2), "capacity": 5}),
    ("solver", "spanning_tree", {"edges": ((0, 1), (0, 2), (1, 2))}),
    ("solver", "graph_path", {"edges": ((0, 1), (1, 2)), "source": 0, "target": 2}),
    ("solver", "integer_program", {"A_ub": ((1, 2),), "b_ub": (3,)}),
    ("noise", "sum_of_gamma", {"k": 3}),
    ("estimator", "imle", {"lam": 3, "samples": 2}),
    ("network", "mlp", {"sizes": [3, 4]}),
]


@pytest.mark.parametrize(("kind", "name", "options"), GIVEN)
def test_options_of_a_file_mean_what_they_mean_in_python(kind: str, name: str, options: dict[str, Any]) -> None:
    first = built(partial(catalog.build, kind), {"spec": {"name": name, **json.loads(json.dumps(options))}})
    assert difference(first, built(catalog[kind].get(name), options)) is None


def test_what_differs_is_named() -> None:
    def holding(value: Any) -> Any:
        return partial(dict, a=[torch.zeros(2), value])

    assert (
        difference(holding(torch.tensor([3])), holding(torch.tensor([3.0])))
        == ".keywords.a.1: tensor([3]) and tensor([3.])"
    )
    assert (
        difference(holding(dbp.noises.Normal(2.0)), holding(dbp.noises.Normal())) == ".keywords.a.1.scale: 2.0 and 1.0"
    )
    assert difference(holding(3), holding(3.0)) is None
