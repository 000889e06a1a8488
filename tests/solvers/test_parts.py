"""The torch twins take the rows of a large batch in parts: with the same results, and errors that name the row."""

import sys
from typing import Any

import pytest
import torch
from examples import LINE, ROUND, SOLVERS
from graphs import integers
from torch import Tensor

from dbp.errors import UserError
from dbp.native import ops
from dbp.solvers import Arborescence, GraphPath, GridPath, parts

ROWS = (4, 3)  # the leading dims of all scores
LATE = (3, 1)  # a row of a later part


def late(own: Any, other: Any) -> Tensor:
    """The same for each row, but for the late one."""
    tensor = torch.as_tensor(own).expand(*ROWS, *torch.as_tensor(own).shape).clone()
    tensor[LATE] = torch.as_tensor(other)
    return tensor


PARTS = {name: example for name, example in SOLVERS.items() if example.parts}


def in_parts_of_few_rows(patch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each part has, of whatever is solved from now on."""
    sizes: list[int] = []

    def spied(solve: Any, each: int, rows: Tensor, *others: Any) -> Any:
        def counted(*part: Any) -> Any:
            sizes.append(len(part[0]))
            return solve(*part)

        patch.setattr(parts, "_BYTES", 5 * each)
        return parts.in_parts(counted, each, rows, *others)

    for name, module in list(sys.modules.items()):
        if name.startswith("dbp.solvers.") and hasattr(module, "in_parts") and module is not parts:
            patch.setattr(module, "in_parts", spied)
    return sizes


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parts_are_as_the_whole(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "serves", lambda theta: False)
    solver, shape, own, other, *_ = PARTS[name]
    instance = own and {key: late(value, other[key]) for key, value in own.items()}
    draws = torch.rand(*ROWS, *shape, generator=torch.Generator().manual_seed(0)), integers(*ROWS, *shape, high=1) / 9
    for theta in (-x.to(dtype).abs() if solver.nonpositive else x.to(dtype).abs() for x in draws):
        whole = solver(theta, instance)
        with monkeypatch.context() as patch:
            sizes = in_parts_of_few_rows(patch)
            y = solver(theta, instance)
        assert sizes == [4, 4, 4]
        assert torch.equal(y, whole)
        assert (y.dtype, y.is_contiguous()) == (dtype, True)


@pytest.mark.parametrize(
    ("solver", "theta", "instance", "message"),
    [
        (GridPath(), late(-torch.ones(4, 5), 1.0), None, r"row \[3, 1\] has a positive score"),
        (GridPath(), late(-torch.ones(4, 5), -1.0), {"source": late([0, 0], [9, 9])}, r"row \[3, 1\].*outside"),
        (GraphPath(ROUND), late(-torch.ones(5), 1.0), None, r"row \[3, 1\].*negative cost"),
        (GraphPath(LINE, 1), late(-torch.ones(5), -1.0), {"target": late(2, 0)}, r"row \[3, 1\]: no path"),
        (Arborescence(LINE), late(-torch.ones(5), -1.0), {"root": late(0, 1)}, r"row \[3, 1\].*from node 1"),
    ],
)
def test_errors_name_the_row_of_all_rows(solver, theta, instance, message, monkeypatch):
    monkeypatch.setattr(ops, "serves", lambda theta: False)
    sizes = in_parts_of_few_rows(monkeypatch)
    with pytest.raises(UserError, match=message):
        solver(theta, instance)
    assert len(sizes) == (6 if "no path" in message else 3)  # wider numbers say if it was an overflow
