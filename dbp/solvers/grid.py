"""The torch twin of the grid_path kernel; feasibility and enumeration of paths on grids."""

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from dbp.solvers.listing import listed
from dbp.solvers.parts import in_parts

NEGATIVE, OUTSIDE, UNREACHABLE = 1, 2, 3  # as in native/src/grid_path.cpp
_FAR = 1 << 30


def steps(pitch: int, neighbours: int) -> list[int]:
    """From a vertex to its neighbours in a grid whose rows are `pitch` apart, in the order of indices."""
    if neighbours == 4:
        return [-pitch, -1, 1, pitch]
    return [-pitch - 1, -pitch, -pitch + 1, -1, 1, pitch - 1, pitch, pitch + 1]


def shortest_path(
    theta: Tensor, mask: Tensor | None, source: Tensor, target: Tensor, neighbours: int
) -> tuple[Tensor, int]:
    """`GridPath` in torch, and a status as from the kernel; Bellman-Ford with the batch as last dim.

    Its fixed point is the distance that Dijkstra's algorithm finds, to the last bit: both add from the source on.
    """
    height, width = theta.shape[-2:]
    mask = mask if mask is None else mask.reshape(-1, height, width)
    each = 16 * (height + 2) * (width + 2)
    ends = source.reshape(-1), target.reshape(-1)
    y, code = in_parts(_solve, each, theta.reshape(-1, height, width), mask, *ends, neighbours)
    if code.any():
        row = int(code.nonzero()[0])
        return theta, 8 * row + int(code[row])
    return y.reshape(theta.shape), 0


def _solve(
    theta: Tensor, mask: Tensor | None, source: Tensor, target: Tensor, neighbours: int
) -> tuple[Tensor, Tensor]:
    """The paths of `[rows, height, width]`, and for each row why there is none, or zero."""
    height, width = theta.shape[-2:]
    cost = 0 - theta
    if mask is not None:
        cost = torch.where(mask, cost, torch.inf)
    outside = (source < 0) | (source >= height * width) | (target < 0) | (target >= height * width)
    negative = ~(cost >= 0).flatten(1).all(1)
    cost = cost.clamp_min(0).nan_to_num(0, torch.inf).permute(1, 2, 0).contiguous()  # [height, width, B]
    start, end = (_padded(v.clamp(0, height * width - 1), width) for v in (source, target))
    d = _distances(cost, start, neighbours)
    lost = ~d.flatten(0, 1).gather(0, end[None])[0].isfinite()
    code = torch.where(outside, OUTSIDE, torch.where(negative, NEGATIVE, torch.where(lost, UNREACHABLE, 0)))
    if code.any():
        return theta, code
    y, tied = _follow(d.flatten(0, 1), None, start, end, steps(width + 2, neighbours))
    if tied.any():
        again, start, end = d[..., tied], start[tied], end[tied]
        hops = _hops(again, start, neighbours)
        y[:, tied] = _follow(again.flatten(0, 1), hops.flatten(0, 1), start, end, steps(width + 2, neighbours))[0]
    return y.unflatten(0, (height + 2, width + 2))[1:-1, 1:-1].permute(2, 0, 1).contiguous(), code


def _padded(vertex: Tensor, width: int) -> Tensor:
    return (vertex // width + 1) * (width + 2) + vertex % width + 1


def _distances(cost: Tensor, start: Tensor, neighbours: int) -> Tensor:
    """Least sums of costs from the start, `[height + 2, width + 2, B]` with an infinite border."""
    height, width, count = cost.shape
    d = cost.new_full((height + 2, width + 2, count), torch.inf)
    first = torch.nn.functional.pad(cost, (0, 0, 1, 1, 1, 1)).flatten(0, 1).gather(0, start[None])
    d.flatten(0, 1).scatter_(0, start[None], first)
    # Line after line pays when a line of the batch is much work and an operation starts at once.
    relax = _relax_lines if count >= 32 and cost.device.type == "cpu" else _relax_all
    while True:
        before = d.clone()
        relax(d, cost, neighbours)
        if torch.equal(before, d):
            return d


def _relax_all(d: Tensor, cost: Tensor, neighbours: int) -> None:
    inner = d[1:-1, 1:-1]
    inner.copy_(torch.minimum(inner, cost + _nearest(d, neighbours)))


def _nearest(d: Tensor, neighbours: int) -> Tensor:
    """The least distance among the neighbours (and, with diagonals, the vertex itself)."""
    if neighbours == 8:
        wide = torch.minimum(torch.minimum(d[:, :-2], d[:, 1:-1]), d[:, 2:])
        return torch.minimum(torch.minimum(wide[:-2], wide[1:-1]), wide[2:])
    vertical = torch.minimum(d[:-2, 1:-1], d[2:, 1:-1])
    return torch.minimum(vertical, torch.minimum(d[1:-1, :-2], d[1:-1, 2:]))


def _relax_lines(d: Tensor, cost: Tensor, neighbours: int) -> None:
    """Each row from the one before, down and up, then each column, there and back."""
    for lines, costs in ((d, cost), (d.transpose(0, 1), cost.transpose(0, 1))):
        last = len(costs)
        for to, fro in [*((i, i - 1) for i in range(1, last + 1)), *((i, i + 1) for i in range(last, 0, -1))]:
            near = lines[fro]
            least = near[1:-1]
            if neighbours == 8:
                least = torch.minimum(torch.minimum(near[:-2], least), near[2:])
            torch.minimum(lines[to, 1:-1], costs[to - 1] + least, out=lines[to, 1:-1])


def _follow(d: Tensor, hops: Tensor | None, start: Tensor, end: Tensor, to: list[int]) -> tuple[Tensor, Tensor]:
    """The paths back from the ends, `[vertices, B]`, and which of them met a tie, which takes hops to break."""
    y = torch.zeros_like(d)
    offsets = torch.tensor(to, device=d.device)[:, None]
    tied = torch.zeros_like(end, dtype=torch.bool)
    v = end
    while True:
        y.scatter_(0, v[None], 1)
        if torch.equal(v, start):
            return y, tied
        near = v + offsets  # [neighbours, B]
        x = d.gather(0, near.clamp(0, len(d) - 1))
        closest = x == x.amin(0)
        if hops is None:
            tied = tied | (v != start) & (closest.sum(0) > 1)
            rank = (~closest).to(torch.int64)
        else:
            rank = torch.where(closest, hops.gather(0, near), _FAR)
        v = torch.where((v == start) | tied, start, near.gather(0, rank.argmin(0, keepdim=True))[0])


def _hops(d: Tensor, start: Tensor, neighbours: int) -> Tensor:
    """The fewest steps from the start along edges to a neighbour of least distance, like d."""
    height, width = d.shape[0] - 2, d.shape[1] - 2
    shifts = [divmod(s + (width + 2) + 1, width + 2) for s in steps(width + 2, neighbours)]
    near = [d[r : r + height, c : c + width] for r, c in shifts]
    nearest = functools.reduce(torch.minimum, near)
    links = [x == nearest for x in near]
    hops = torch.full_like(d, _FAR, dtype=torch.int32)
    hops.flatten(0, 1).scatter_(0, start[None], 0)
    inner = hops[1:-1, 1:-1]
    while True:
        new = inner.clone()
        for link, (r, c) in zip(links, shifts, strict=True):
            torch.minimum(new, torch.where(link, hops[r : r + height, c : c + width] + 1, _FAR), out=new)
        if torch.equal(new, inner):
            return hops
        inner.copy_(new)


def is_chordless(y: Tensor, source: Tensor, target: Tensor, neighbours: int) -> Tensor:
    """True where the marked vertices are a path from source to target that touches itself nowhere."""
    height, width = y.shape[-2:]
    marked = y.reshape(-1, height, width)
    rows = torch.arange(len(marked), device=y.device)
    start, end = source.reshape(-1), target.reshape(-1)
    ends = torch.zeros_like(marked, dtype=torch.int64)
    for vertex in (start, end):
        ends[rows, vertex // width, vertex % width] += 1
    proper = (~marked | (_touching(marked, neighbours) == 2 - ends)).flatten(1).all(1)
    reached = torch.zeros_like(marked)
    reached[rows, start // width, start % width] = True
    reached &= marked
    while not torch.equal(grown := reached | marked & (_touching(reached, neighbours) > 0), reached):
        reached = grown
    whole = ((reached == marked) & (marked | (ends == 0))).flatten(1).all(1)
    return (proper & whole).reshape(y.shape[:-2])


def _touching(marked: Tensor, neighbours: int) -> Tensor:
    """The number of marked neighbours of each vertex."""
    height, width = marked.shape[-2:]
    framed = torch.nn.functional.pad(marked.to(torch.int64), (1, 1, 1, 1))
    shifts = [divmod(s + (width + 2) + 1, width + 2) for s in steps(width + 2, neighbours)]
    return torch.stack([framed[:, r : r + height, c : c + width] for r, c in shifts]).sum(0)


def paths(open_: Tensor, source: int, target: int, neighbours: int) -> Tensor:
    """All paths without shortcuts from source to target through the open vertices, `[count, height, width]`."""
    height, width = open_.shape
    near = {v: frozenset(_neighbours(v, height, width, neighbours)) for v in range(height * width)}
    free = {v for v in near if open_.flatten()[v]}

    def extend(path: list[int], closed: frozenset[int]) -> Iterator[list[int]]:
        yield path
        here = path[-1]
        for v in sorted((near[here] & free) - closed) if here != target else ():
            yield from extend([*path, v], closed | near[here] | {here})

    tried = listed(extend([source], frozenset())) if {source, target} <= free else []
    found = [path for path in tried if path[-1] == target]
    y = torch.zeros(len(found), height * width)
    for row, path in zip(y, found, strict=True):
        row[path] = 1
    return y.reshape(-1, height, width)


def _neighbours(v: int, height: int, width: int, neighbours: int) -> list[int]:
    row, column = divmod(v, width)
    return [
        r * width + c
        for r in range(max(row - 1, 0), min(row + 2, height))
        for c in range(max(column - 1, 0), min(column + 2, width))
        if (r, c) != (row, column) and (neighbours == 8 or r == row or c == column)
    ]
