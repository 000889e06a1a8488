"""Times candidates side by side: interleaved in one process, in CPU time, compared round by round."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

Candidates = dict[str, Callable[[], object]]
Clock = Callable[[], float]  # in seconds


@dataclass(frozen=True)
class Timing:
    """Medians over the rounds.

    Args:
        seconds: CPU time of the process for one call, or what another clock says.
        ratio: to the first candidate, in the same round.
    """

    seconds: float
    ratio: float


def interleave(
    candidates: Candidates, rounds: int = 9, at_least: float = 0.02, clock: Clock = time.process_time
) -> dict[str, Timing]:
    """Calls each candidate in each round, often enough to fill `at_least` seconds; the first is the reference.

    The process's CPU time does not count what others do on a busy machine, but caches and the clock are shared:
    only ratios within a round mean much. Candidates of more than a second a call take part in the first round only.
    """
    repeats = {name: _repeats(call, at_least, clock) for name, call in candidates.items()}
    spent: dict[str, list[float]] = {name: [] for name in candidates}
    gc.disable()
    try:
        for number in range(rounds):
            for name, call in candidates.items():
                slow = bool(spent[name]) and spent[name][0] > 1
                spent[name].append(spent[name][0] if slow and number else _measure(call, repeats[name], clock))
    finally:
        gc.enable()
    first = spent[next(iter(candidates))]
    return {
        name: Timing(median(times), median(t / f for t, f in zip(times, first, strict=True)))
        for name, times in spent.items()
    }


def _repeats(call: Callable[[], object], at_least: float, clock: Clock) -> int:
    call()
    return max(1, int(at_least / max(_measure(call, 1, clock), 1e-9)))


def _measure(call: Callable[[], object], repeats: int, clock: Clock) -> float:
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats
