"""Instances and options that are not what they must be: refused with a message, in a process that survives them."""

import math
import subprocess
import sys

import pytest
import torch

from dbp.errors import UserError
from dbp.solvers import (
    Arborescence,
    FromFunction,
    GraphMatching,
    GraphPath,
    GridPath,
    IntegerProgram,
    Knapsack,
    Matching,
    OneHot,
    PerfectMatching,
    Rank,
    SpanningTree,
    TopK,
    Tour,
)
from dbp.solvers.instances import MOST_NODES, whole

EDGES = ((0, 1), (1, 2), (0, 2))
CYCLE = ((0, 1), (1, 2), (2, 3), (3, 0))

# What a solver of EDGES and its instance are given in place of a node
REFUSED = {
    "path source": ("GraphPath(EDGES, source={})(x)", [1.0, math.nan, 2**62, -2, True, "'a'"]),
    "path target": ("GraphPath(EDGES, target={})(x)", [1.5, 2**62, 2**80, -2]),
    "path sources": ("GraphPath(EDGES)(x, dict(source={}))", [0.5, math.inf, 2**24, 2**62, 2**80, -2, "'a'", "None"]),
    "path edges": ("GraphPath(((0, 1), (1, {}), (0, 2)))(x)", [0.5, 2**31, 2**62, 2**80, -2]),
    "tree": (
        "SpanningTree()(x, dict(edges=torch.tensor([[0, 1], [1, {}], [0, 2]])))",
        [2**31 - 1, 2**31, 2**62, -1, 0.5],
    ),
    "tree edges": ("SpanningTree(((0, 1), (1, {}), (0, 2)))(x)", [2**31, 2**62, 2**80, -1, 0.5]),
    "tree nodes": ("SpanningTree(EDGES, nodes={})(x)", [2**31, 2**62, 2, -1, 4.5]),
    "root": ("Arborescence(EDGES, root={})(x)", [2**62, -2, math.nan, math.inf, 0.7, "'a'"]),
    "roots": ("Arborescence(EDGES)(x, dict(root={}))", [2**62, 2**80, -2, math.nan, math.inf, 0.7, "None"]),
    "grid source": ("GridPath(source=({}, 0))(-torch.ones(3, 3))", [0.7, 2**62, 2**80, math.nan]),
    "grid target": ("GridPath()(-torch.ones(3, 3), dict(target=torch.tensor([{}, 2])))", [0.7, math.inf, 2**62]),
}
CODE = """
import torch
from math import inf, nan
from dbp.errors import UserError
from dbp.solvers import *
EDGES, x = ((0, 1), (1, 2), (0, 2)), -torch.ones(2, 3)
for line in {lines!r}:
    try:
        print(line, "gave", eval(line))
    except UserError as error:
        assert 0 < str(error).count(" ") and str(error).count("\\n") < 3
"""


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_node_is_refused(name):
    template, values = REFUSED[name]
    code = CODE.format(lines=[template.format(value) for value in values])
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stdout) == (0, ""), run.stderr


def test_whole_numbers_are_told_by_their_value():
    assert whole([1.0, -1.0], "x", "cpu").dtype == torch.int64
    assert whole(torch._neg_view(torch.tensor([1, 2])), "x", "cpu", bounds=None).numpy().tolist() == [-1, -2]
    assert whole(MOST_NODES - 1, "x", "cpu") == MOST_NODES - 1
    for value in (MOST_NODES, -2, 0.5, 1e30, [1 + 0j], [True], torch.tensor([2**63], dtype=torch.uint64), "x", None):
        with pytest.raises(UserError, match=r"^x: .*whole numbers"):
            whole(value, "x", "cpu")


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("graphs", ["shared", "own"])
def test_paths_whose_costs_overflow(sign, graphs):
    """Paths so long are not taken for missing ones, nor are those that end at minus infinity taken for shortest."""
    edges = torch.tensor([(0, 1), (1, 2)])
    solver = GraphPath(target=2)
    graph = {"edges": edges if graphs == "shared" else edges.expand(2, 2, 2)}
    theta = torch.tensor([[sign, sign], [sign * 3e38, sign * 3e38]])
    with pytest.raises(UserError, match=r"row \[1\]: the costs .* more than torch.float32 holds, 3.4e\+38"):
        solver(theta, graph)
    assert solver(theta.double(), graph).all()
    with pytest.raises(UserError, match=r"row \[0\]: no path leads"):
        solver(theta, {**graph, "target": 3})


SOLVERS = {
    "one_hot": (OneHot(), (5,)),
    "top_k": (TopK(2), (5,)),
    "rank": (Rank(), (5,)),
    "matching": (Matching(), (3, 3)),
    "tour": (Tour(), (4, 4)),
    "long tour": (Tour(directed=True), (14, 14)),
    "knapsack": (Knapsack((3, 4, 2), 5), (3,)),
    "real knapsack": (Knapsack((3.5, 4, 2), 5), (3,)),
    "spanning_tree": (SpanningTree(EDGES), (3,)),
    "arborescence": (Arborescence(EDGES), (3,)),
    "graph_path": (GraphPath(EDGES, clip=True), (3,)),
    "grid_path": (GridPath(clip=True), (3, 3)),
    "perfect_matching": (PerfectMatching(CYCLE), (4,)),
    "graph_matching": (GraphMatching((2, 2), EDGES[:1], EDGES[:1]), (5,)),
    "integer_program": (IntegerProgram(((1.0, 1.0, 1.0),), (2.0,)), (3,)),
    "function": (FromFunction(lambda row: row.round(), batched=False, numpy=True, cache=3), (3,)),
}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_views_of_negatives(name, dtype):
    """The memory of a view that is negated lazily, or is part of a lazy conjugate, has the opposite sign."""
    solver, event = SOLVERS[name]
    x = torch.randn(3, *event, dtype=dtype)
    expected = solver(x)
    assert torch.equal(solver(torch._neg_view(-x)), expected)
    assert torch.equal(solver(torch.complex(x, -x).conj().imag), expected)


def test_instances_that_are_views_of_negatives():
    theta = torch.randn(4, 3)
    edges, weights, capacity = torch.tensor(EDGES), torch.tensor([[3, 4, 2]]), torch.tensor([5])
    hidden = torch._neg_view(-edges)
    for solver in (SpanningTree(), Arborescence(), GraphPath(clip=True)):
        assert torch.equal(solver(theta, {"edges": hidden}), solver(theta, {"edges": edges}))
    for kind in (torch.Tensor.long, torch.Tensor.double):
        parts = {"weights": kind(weights), "capacity": kind(capacity)}
        views = {name: torch._neg_view(-part) for name, part in parts.items()}
        assert torch.equal(Knapsack()(theta, views), Knapsack()(theta, parts))
    program, rows = IntegerProgram(b_ub=(2.0,)), torch.ones(1, 3)
    assert torch.equal(program(theta, {"A_ub": torch._neg_view(-rows)}), program(theta, {"A_ub": rows}))


@pytest.mark.filterwarnings("ignore")  # the compiler's own deprecations
@pytest.mark.parametrize("name", ["perfect_matching", "graph_matching", "integer_program"])
def test_programs_inside_of_compiled_functions(name):
    solver, event = SOLVERS[name]
    x = torch.randn(2, *event)
    torch.compiler.reset()
    compiled = torch.compile(lambda x: solver(2 * x) + 1, backend="aot_eager")
    assert torch.equal(compiled(x), solver(x) + 1)
