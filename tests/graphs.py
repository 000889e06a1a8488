"""Small graphs with integer scores, for the tests of solvers on graphs."""

import torch


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def integers(*shape, low=-9, high=10, seed=0):
    return torch.randint(low, high, shape, generator=rng(seed)).float()


def values(y, theta):
    return (y * theta).sum(-1)


def both(edges):
    return (*edges, *((j, i) for i, j in edges))


def complete(n):
    return tuple((i, j) for j in range(n) for i in range(j))
