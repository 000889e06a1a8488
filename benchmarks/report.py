"""From cases to tables: what is timed side by side, Markdown of it, and the gate that `--check` is."""

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.timing import Candidates, Timing, interleave

NEEDS = {
    "rustworkx": "rustworkx",
    "networkx": "networkx",
    "lapx": "lap",
    "OR-Tools": "ortools",
    "PyEPO": "pyepo",
    "torch-linear-assignment": "torch_linear_assignment",
}


@dataclass(frozen=True)
class Case:
    """One row of a table: candidates that do `batch` pieces of work in a call, ours first.

    Args:
        slices: for peers that get only a slice of the batch, how many pieces that is.
        targets: for peers, the ratio that ours is to reach.
        limit: the candidate that does no more than anything in our place must.
    """

    name: str
    batch: int
    candidates: Candidates
    slices: Mapping[str, int] = field(default_factory=dict)
    targets: Mapping[str, float] = field(default_factory=dict)
    limit: str | None = None


Work = Callable[[], Iterator[Case]]
Measured = list[tuple[Case, dict[str, Timing]]]


def run(
    works: Mapping[str, Work], head: str, results: Path, words: Sequence[str], tail: Callable[[], str] = str
) -> int:
    """Measures the works that `words` name, or all, and writes their tables; returns the exit code.

    All of them go to the file `results`, with what falls short of its target and `tail` at the end, a few to the screen
    only. With `--check` among the words it writes nothing and fails where ours is not ahead by half of the target.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    names = [word for word in words if word != "--check"]
    measured = {name: measure(works[name]) for name in names or works}
    if "--check" in words:
        late = list(behind(measured, 0.5))
        sys.stdout.write("".join(late) or "all within half of their targets\n")
        return int(bool(late))
    tables = [table(name, rows) for name, rows in measured.items()]
    short = "".join(f"- {line}" for line in behind(measured, 1.0))
    text = "\n".join([head, *tables, "## Short of the target\n", short or "Nothing.\n", "" if names else tail()])
    sys.stdout.write(text)
    if not names:
        results.write_text(text)
    return 0


def measure(work: Work) -> Measured:
    return [(case, interleave({n: c for n, c in case.candidates.items() if _is_here(n)})) for case in work()]


def table(name: str, rows: Measured) -> str:
    """A Markdown table: ours in microseconds for a piece of work, the peers as multiples of it."""
    names = [n for n in rows[0][0].candidates if n in rows[0][1]]
    lines = [f"## {name}", "", "| | " + " | ".join([f"{names[0]} (us)", *names[1:]]) + " |"]
    lines.append("| --- " * (len(names) + 1) + "|")
    for case, timings in rows:
        ours = timings[names[0]].seconds / case.batch * 1e6
        ratios = [f"{_short(ratio(case, timings, peer))} x" for peer in names[1:]]
        lines.append(f"| {case.name} | " + " | ".join([_short(ours), *ratios]) + " |")
    return "\n".join([*lines, ""])


def ratio(case: Case, timings: dict[str, Timing], peer: str) -> float:
    """How many times as long as ours a peer takes for a piece of work."""
    return timings[peer].ratio * case.batch / case.slices.get(peer, case.batch)


def behind(measured: Mapping[str, Measured], share: float) -> Iterator[str]:
    """The peers to which ours keeps less than this share of the distance it is to keep."""
    for name, rows in measured.items():
        for case, timings in rows:
            for peer, target in case.targets.items():
                if peer in timings and (reached := ratio(case, timings, peer)) < share * target:
                    most = _of_limit(case, timings, peer)
                    yield f"{name}, {case.name}: {_short(reached)} x {peer}, of {target:.3g} x{most}\n"


def _of_limit(case: Case, timings: dict[str, Timing], peer: str) -> str:
    if case.limit in (None, peer):
        return ""
    return f" ({case.limit} itself: {_short(ratio(case, timings, peer) / ratio(case, timings, case.limit))} x)"


def _short(number: float) -> str:
    """Three digits, and no exponents."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _is_here(name: str) -> bool:
    return name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None
