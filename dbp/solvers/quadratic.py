"""The quadratic assignment of one graph to another, by linear and integer programs."""

from functools import lru_cache
from typing import Any

import numpy as np

from dbp.errors import UserError
from dbp.solvers.highs import maximise


def align(
    scores: np.ndarray, n: int, m: int, first: np.ndarray, second: np.ndarray, exact: bool, time_limit: float | None
) -> np.ndarray:
    """The best matching of two graphs of n and m nodes, and its products: y of `GraphMatching`, for one row.

    If it need not be exact: the linear program's solution, rounded, then improved by exchanges.
    """
    v = _program(scores, n, m, first, second, exact, time_limit)[: n * m]
    if not exact:
        v = _improve(scores, v.reshape(n, m), first, second).ravel()
    return np.concatenate([v, products(v, m, first, second)])


def bound(scores: np.ndarray, n: int, m: int, first: np.ndarray, second: np.ndarray, time_limit: float | None) -> float:
    """An upper bound on every matching's score: the optimum of the linear program."""
    return scores @ _program(scores, n, m, first, second, False, time_limit)


def products(v: np.ndarray, m: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """`v_ik v_jl` of every pair of edges, zero for padding, flattened."""
    tail, head = (first[:, end, None] * m + second[:, end] for end in (0, 1))
    return np.where(_real(first, second), v[tail] * v[head], 0).ravel()


def _program(
    scores: np.ndarray, n: int, m: int, first: np.ndarray, second: np.ndarray, exact: bool, time_limit: float | None
) -> np.ndarray:
    from scipy.sparse import vstack

    links, linked, mapped, at_most_once = _constraints(n, m, first.tobytes(), second.tobytes())
    is_node = np.arange(len(scores)) < n * m
    linked = linked[scores[~is_node] < 0]  # only a negative product has to be pushed up
    A_ub = vstack([at_most_once, linked, links])
    b_ub = np.repeat([1.0, 1.0, 0.0], [at_most_once.shape[0], linked.shape[0], links.shape[0]])
    one, zero = np.ones(len(scores)), np.zeros(len(scores))
    return maximise(scores, A_ub, b_ub, mapped, np.ones(mapped.shape[0]), zero, one, is_node & exact, time_limit)


def _improve(scores: np.ndarray, v: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rounds v, then exchanges the images of two nodes, the best two first, as long as that pays."""
    from scipy.optimize import linear_sum_assignment

    (n, m), size = v.shape, max(v.shape)  # nodes of score zero make the smaller graph as large
    start, node, edge = np.zeros((size, size)), np.zeros((size, size)), np.zeros((len(first), size, size))
    start[:n, :m], node[:n, :m] = v, scores[: n * m].reshape(n, m)
    p, q = _real(first, second).nonzero()
    edge[p, second[q, 0], second[q, 1]] = scores[n * m :].reshape(len(first), len(second))[p, q]
    tail, head = first.clip(0).T

    def value(images: np.ndarray) -> np.ndarray:
        of_edges = edge[np.arange(len(first)), images[:, tail], images[:, head]]
        return node[np.arange(size), images].sum(-1) + of_edges.sum(-1)

    image = linear_sum_assignment(-start)[1][None]
    i, j = np.triu_indices(size, 1)
    while len(i):
        moved = image.repeat(len(i), 0)
        moved[np.arange(len(i)), i], moved[np.arange(len(i)), j] = image[0, j], image[0, i]
        best = moved[[value(moved).argmax()]]
        if value(best) <= value(image):
            break
        image = best
    return np.eye(size)[image[0]][:n, :m]


def _real(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first[:, :1] >= 0) & (second[:, 0] >= 0)


@lru_cache(maxsize=16)
def _constraints(n: int, m: int, first: bytes, second: bytes) -> tuple[Any, Any, Any, Any]:
    """Sparse rows over v and the products p: `links <= 0`, `linked <= 1`, `mapped = 1` and `at_most_once <= 1`.

    For an edge (i, j) and a node k, the products with edges (k, .) add up to v_ik at most, for only one of their ends
    is j's image; in the same way for the edge's other end, and for edges of the second graph. These cut off far more
    fractional points than p <= v_ik. Source: Adams, Johnson, "Improved linear programming-based lower bounds for the
    quadratic assignment problem", 1994.
    """
    from scipy.sparse import coo_array, csr_array, vstack

    a, b = (np.frombuffer(edges, dtype=np.int64).reshape(-1, 2) for edges in (first, second))
    _check(a, n)
    _check(b, m)
    width = n * m + len(a) * len(b)
    p, q = _real(a, b).nonzero()
    product = n * m + p * len(b) + q
    tail, head = (a[p, end] * m + b[q, end] for end in (0, 1))

    def link(group: np.ndarray, v: np.ndarray) -> Any:
        _, one, row = np.unique(group, return_index=True, return_inverse=True)
        place = np.concatenate([row, np.arange(len(one))]), np.concatenate([product, v[one]])
        return coo_array((np.repeat([1.0, -1.0], [len(row), len(one)]), place), shape=(len(one), width))

    of_first = [link(p * m + b[q, 0], tail), link(p * m + b[q, 1], head)]
    of_second = [link(q * n + a[p, 0], tail), link(q * n + a[p, 1], head)]
    row = product - n * m
    place = np.concatenate([row, row, row]), np.concatenate([tail, head, product])
    linked = coo_array((np.repeat([1.0, 1.0, -1.0], len(row)), place), shape=(width - n * m, width))
    cell, one = np.arange(n * m), np.ones(n * m)
    images, origins = (
        coo_array((one, (node, cell)), shape=(count, width)) for node, count in ((cell // m, n), (cell % m, m))
    )
    mapped, at_most_once = (images, origins) if n <= m else (origins, images)
    return vstack([*of_first, *of_second]), csr_array(linked), mapped, at_most_once


def _check(edges: np.ndarray, nodes: int) -> None:
    listed = edges[edges[:, 0] >= 0]
    if listed.min(initial=0) < 0 or listed.max(initial=-1) >= nodes or len(np.unique(listed, axis=0)) < len(listed):
        raise UserError(f"the edges of a graph of {nodes} nodes are different pairs of numbers below {nodes}")
