"""Checks of what a solver offers besides its decision: relaxation, log-partition, samples, log-probability."""

import torch
from torch import Tensor

from dbp.testing.checks import require, same
from dbp.testing.solving import SolverCase, masked

_MANY = 40_000


def relaxation(case: SolverCase) -> None:
    if not case.solver.offers("relax"):
        return
    theta = case.scores(16).requires_grad_()
    y = case.solve(theta)
    soft = [case.solver.relax(theta, temperature, case.instance) for temperature in (1.0, 0.01)]
    require(all(s.shape == y.shape for s in soft), "has a relaxation of another shape than the decision")
    empty = case.solver.relax(theta[:0], 1.0, case.instance).shape
    require(empty == (0, *y.shape[1:]), f"relaxes an empty batch to shape {list(empty)}")
    warm, cold = ((s - y).abs().mean().item() for s in soft)
    message = f"is {warm:.2g} from the decision at temperature 1 and {cold:.2g} at 0.01"
    require(cold < warm / 4, f"has a relaxation that does not approach the decision: it {message}")
    (grad,) = torch.autograd.grad(soft[0].square().sum(), theta)
    require(grad.isfinite().all() and grad.any(), "has a relaxation without a finite gradient")


def finite_relaxation(case: SolverCase) -> None:
    if not case.solver.offers("relax"):
        return
    plain = case.scores(16)
    for where, theta in {"zero": 0 * plain, "large": 1e4 * plain, "-1e9": masked(plain, case.event)}.items():
        leaf = theta.clone().requires_grad_()
        soft = case.solver.relax(leaf, 1.0, case.instance)
        (grad,) = torch.autograd.grad(soft.square().sum(), leaf)
        finite = soft.isfinite().all() and grad.isfinite().all()
        require(finite, f"has a relaxation that is not finite where scores are {where}")


def partition(case: SolverCase) -> None:
    if not case.solver.offers("log_partition") or case.vertices is None:
        return
    theta = case.events(4)
    worth = case.worth(theta, case.vertices)
    offset = case.solver.log_partition(theta, case.instance).double() - worth.logsumexp(1)
    require(offset.shape == (len(theta),), f"has a log_partition of shape {list(offset.shape)} for 4 inputs")
    require(
        same(offset, offset[:1].expand(4)), "has a log_partition that is not log sum_y exp <theta, y> of its vertices"
    )
    mean = torch.tensordot(worth.softmax(1), case.vertices.to(worth), 1)
    message = "has a log_partition whose gradient is not the mean of its vertices"
    require(same(case.solver.marginals(theta, case.instance), mean), message)


def gibbs(case: SolverCase) -> None:
    if not case.solver.offers("sample_gibbs") or case.vertices is None:
        return
    theta = case.events(1)
    y = case.solver.sample_gibbs(theta.expand(_MANY, *case.event), None, case.instance)
    away = _standard_errors(case, y, case.worth(theta, case.vertices).softmax(1)[0])
    require(away < 5, f"has a sample_gibbs that does not draw y by exp <theta, y>: {away:.0f} standard errors away")


def distribution(case: SolverCase) -> None:
    solver, vertices = case.solver, case.vertices
    if not solver.offers("log_prob") or solver.noise is None or vertices is None:
        return
    theta = case.events(1)
    p = solver.log_prob(theta.expand_as(vertices), vertices.to(theta), case.instance).exp()
    require(p.shape == vertices.shape[:1], f"has a log_prob of shape {list(p.shape)} for {len(vertices)} decisions")
    require(abs(p.sum().item() - 1) < 1e-6, f"has probabilities that add up to {p.sum().item():.6g}")
    many = theta.expand(_MANY, *case.event)
    y = case.solve(many + solver.noise.sample(many))
    away = _standard_errors(case, y, p)
    require(away < 5, f"has a log_prob that is not that of solver(theta + noise): {away:.0f} standard errors away")
    if solver.offers("conditional"):
        tied = solver.conditional(many[:1000], y[:1000], None, case.instance)
        require(torch.equal(case.solve(tied), y[:1000]), "draws a conditional that solves to another decision")


def _standard_errors(case: SolverCase, y: Tensor, p: Tensor) -> float:
    """The most by which a vertex's share of the decisions is away from its probability."""
    assert case.vertices is not None
    seen = case.matches(y, case.vertices).double().mean(0)
    return ((seen - p) / (p * (1 - p) / len(y)).sqrt().clamp_min(1e-12)).abs().max().item()
