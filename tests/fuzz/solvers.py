"""Solvers with odd options, scores and instances: `python tests/fuzz/solvers.py SEED BEGIN END` runs these trials.

It prints each trial before running it, so that the last line names the one that ended the process. A trial ends in a
UserError or in a feasible decision; a number that is not whole is never taken for a node, a size or a count.
"""

import faulthandler
import math
import random
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

import dbp.solvers  # noqa: F401, what takes long to import is no trial that hangs
from dbp.components import catalog
from dbp.errors import UserError
from dbp.registry.names import BUILTIN

SECONDS = 60  # for one trial, on a busy machine
EDGES = [[0, 1], [1, 2], [2, 3], [3, 0], [0, 2]]
ODD = [-1, -2, 0, 1, 2, 3, 2**24, 2**31 - 1, 2**31, 2**53, 2**62, -(2**62), 2**80, 0.5, 0.7, 1.0, -0.0, 1e30, 1e308,
       math.nan, math.inf, -math.inf, True, None, "", "x", [], [1], [[0, 1]], (), {}]  # fmt: skip
SCORES = ["normal", "tied", "zero", "huge", "tiny", "mixed", "negative", "empty", "negated", "double", "half", "int"]
VALUES = {"mask": [True, True, False, True], "k": 2, "lengths": 3}  # of names that examples have no values for
WHOLE_KEYS = {"edges", "source", "target", "root", "first", "second"}  # of instances


class Example(NamedTuple):
    shape: tuple[int, ...]  # of one input
    options: Mapping[str, Any] = MappingProxyType({})
    instance: Mapping[str, Any] = MappingProxyType({})  # what may be given for these names


PROGRAM = {"A_ub": [[1.0, 2.0, 1.0]], "b_ub": [3.0], "lower": 0.0, "upper": 1.0, "integer": True}
EXAMPLES = {
    "arborescence": Example((5,), {"edges": EDGES}, {"edges": EDGES, "root": 0}),
    "graph_matching": Example(
        (5,), {"nodes": [2, 2], "first": [[0, 1]], "second": [[0, 1]]}, {"first": [[0, 1]], "second": [[1, 0]]}
    ),
    "graph_path": Example((5,), {"edges": EDGES, "clip": True}, {"edges": EDGES, "source": 0, "target": 2}),
    "grid_path": Example((3, 4), {"clip": True}, {"mask": [[1] * 4] * 3, "source": [0, 0], "target": [2, 1]}),
    "integer_program": Example((3,), PROGRAM, PROGRAM),
    "k_means": Example((6, 2), {"k": 2}),
    "knapsack": Example((3,), {"weights": [3, 1, 2], "capacity": 4}, {"weights": [[3, 1, 2]], "capacity": [4]}),
    "matching": Example((3, 4)),
    "perfect_matching": Example((5,), {"edges": EDGES}, {"edges": EDGES}),
    "spanning_tree": Example((5,), {"edges": EDGES}, {"edges": EDGES}),
    "tour": Example((5, 5)),
}  # the others solve vectors, with no options that they must have but k


def scores(rng: random.Random, shape: tuple[int, ...]) -> Tensor:
    kind = rng.choice(SCORES)
    leading = rng.choice([(), (1,), (3,), (2, 2)]) if kind != "empty" else rng.choice([(0,), (2, 0)])
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    x = torch.randn(*leading, *shape, generator=generator)
    scale = 10.0 ** torch.randint(-30, 30, x.shape, generator=generator)
    return {
        "tied": x.round(),
        "zero": x * 0,
        "huge": 3e38 * x.sign(),
        "tiny": x * 1e-42,
        "mixed": x * scale,
        "negative": -x.abs(),
        "negated": torch._neg_view(x),
        "double": x.double() * 1e300,
        "half": x.bfloat16(),
        "int": (3 * x).long(),
    }.get(kind, x)


def is_whole(value: Any) -> bool:
    """Tells whether all numbers in a value are whole."""
    if isinstance(value, list | tuple):
        return all(map(is_whole, value))
    return not isinstance(value, float) or (math.isfinite(value) and value == math.trunc(value))


def changed(rng: random.Random, value: Any) -> Any:
    """The value with an odd one instead of it, or instead of a number within it."""
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [*value[:at], changed(rng, value[at]), *value[at + 1 :]]
    return rng.choice(ODD)


def as_tensors(rng: random.Random, instance: dict[str, Any]) -> dict[str, Any]:
    """Instances hold tensors, as loaders make them, but where a user's numbers make none."""
    given = {}
    for name, value in instance.items():
        given[name] = value
        if rng.random() < 0.7:
            with suppress(TypeError, ValueError, RuntimeError, OverflowError):
                given[name] = torch.tensor(value)
    return given


def trial(seed: int, number: int) -> None:
    rng = random.Random(f"{seed}/{number}")
    registry = catalog["solver"]
    name = rng.choice(sorted(name for name, claims in registry.claims().items() if claims[0].source == BUILTIN))
    signature = registry.signature(name)
    example = EXAMPLES.get(name, Example((4,), {"k": 2} if "k" in signature.options else {}))
    options, instance = dict(example.options), {}
    if rng.random() < 0.6 and signature.options:
        option = rng.choice(sorted(signature.options))
        if option not in ("workers", "time_limit", "timeout", "iterations", "function"):  # which may take long, rightly
            is_flag = signature.options[option].type.form == "bool"
            options[option] = rng.choice([True, False]) if is_flag else changed(rng, options.get(option, 0))
    keys = registry.get(name).instance_keys or ()
    if keys and rng.random() < 0.7:
        instance = {key: example.instance.get(key, VALUES.get(key, 1)) for key in keys if rng.random() < 0.7}
        if instance and rng.random() < 0.8:
            key = rng.choice(sorted(instance))
            instance[key] = changed(rng, instance[key])
    shape = tuple(rng.choice([n, n, n, 1, n + 1]) for n in example.shape)
    theta, given = scores(rng, shape), as_tensors(rng, instance)
    print(f"{number} {name} {options} {instance} {list(theta.shape)} {theta.dtype}", flush=True)
    try:
        solver = registry.get(name)(**options)
        y = solver(theta, given or None)
        feasible = solver.is_feasible(y, given or None) if y.numel() else torch.ones(1)
    except UserError as error:
        if str(error).count("\n") > 2:
            raise
        return
    except (TypeError, ValueError, RuntimeError, OverflowError):
        if options != dict(example.options):  # of a wrong type, which configurations are checked for
            return
        raise
    leading = theta.ndim - solver.event_dim
    assert (y.dtype, y.shape[:leading]) == (theta.dtype, theta.shape[:leading]), "another dtype or batch"
    assert y.isfinite().all(), f"a decision that is not finite: {y}"
    assert feasible.all(), f"not feasible: {y}"
    integers = {f.name for f in fields(solver) if f.type in ("int", "int | None", int)}
    for key, value in [*options.items(), *instance.items()]:
        if key in WHOLE_KEYS | integers and (key not in instance or value is instance[key]):
            assert is_whole(value), f"{key} is taken though it is {value}"


if __name__ == "__main__":
    seed, begin, end = map(int, sys.argv[1:])
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    failed = 0
    for number in range(begin, end):
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            trial(seed, number)
        except Exception as error:
            failed += 1
            print(f"FAILED {number}: {type(error).__name__}: {error}", flush=True)
    faulthandler.cancel_dump_traceback_later()
    sys.exit(1 if failed else 0)
