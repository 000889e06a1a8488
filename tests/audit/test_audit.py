"""The audit's references are exact, and its numbers are those of the estimators."""

import csv
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dbp import estimators, noises, solvers
from dbp.audit import Loss, Row, audit, figure, reference, standard_losses, table, write_csv
from dbp.audit.command import read, run
from dbp.audit.references import _by_difference, _by_score
from dbp.cli import main
from dbp.core import Draw, Target
from dbp.errors import UserError
from dbp.gradients.rules import only_gradient
from dbp.solvers.counting import counted

THETA = torch.tensor([[0.3, -0.2, 1.0, 0.1], [0.0, 0.5, -1.0, -0.4]], dtype=torch.float64)
COSTS = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
LINEAR = Loss("linear", lambda y: y @ COSTS)
SQUARE = Loss("square", lambda y: (y @ COSTS).square())


def test_the_reference_of_one_hot_is_that_of_softmax():
    (exact,) = reference(solvers.OneHot(), noises.Gumbel(), THETA, [SQUARE])
    leaf = THETA.clone().requires_grad_()
    (leaf.softmax(-1) @ COSTS.square()).sum().backward()
    assert torch.allclose(exact.gradient, leaf.grad)
    assert not exact.error.any()


def test_independent_decisions_share_a_loss():
    (exact,) = reference(solvers.Threshold(), noises.Logistic(), THETA, [SQUARE])
    leaf = THETA.clone().requires_grad_()
    p = leaf.sigmoid()
    ((p @ COSTS).square() + (p * (1 - p)) @ COSTS.square()).sum().backward()  # E[x^2] = E[x]^2 + var x
    assert torch.allclose(exact.gradient, leaf.grad)


@pytest.mark.parametrize("method", [_by_score, _by_difference])
@pytest.mark.parametrize("solver", [solvers.OneHot(), solvers.Threshold()])
def test_the_drawn_references_agree_with_the_sum(method, solver):
    torch.manual_seed(0)
    drawn = method(solver, solver.noise, THETA, [LINEAR, SQUARE], 1, None, 100_000)
    summed = reference(solver, solver.noise, THETA, [LINEAR, SQUARE])
    for ours, exact in zip(drawn, summed, strict=True):
        assert ((ours.gradient - exact.gradient).abs() < 5 * ours.error).all()
        assert ours.error.norm() < 0.03 * exact.gradient.norm()


def test_the_gibbs_distribution_is_that_of_one_hot_and_threshold_under_their_noise():
    for solver in (solvers.OneHot(), solvers.Threshold()):
        ours, theirs = (reference(solver, noise, THETA, [SQUARE])[0].gradient for noise in (None, solver.noise))
        assert torch.allclose(ours, theirs)


def test_an_estimator_that_is_gibbs_is_measured_under_that_distribution():
    class Gibbs(estimators.IMLE):
        gibbs = True

    noises_ = {
        row.estimator: row.noise
        for row in audit(solvers.TopK(k=2), {"a": Gibbs(), "b": estimators.IMLE()}, [4], draws=100)
    }
    assert noises_ == {"a": "gibbs", "b": "gumbel"}


def test_too_many_decisions_are_refused():
    with pytest.raises(UserError, match=r"2\^30 decisions are too many"):
        reference(solvers.Threshold(), noises.Logistic(), torch.zeros(1, 30), [LINEAR])


@pytest.mark.parametrize(
    ("solver", "estimator"),
    [
        (solvers.OneHot(), estimators.Score(samples=2)),
        (solvers.Threshold(), estimators.Score(samples=None)),
        (solvers.TopK(k=2), estimators.Score(samples=2, noise=noises.Normal())),
    ],
)
def test_unbiased_estimators_show_no_bias(solver, estimator):
    for row in audit(solver, {"score": estimator}, [4], draws=20_000):
        assert abs(row.z) < 4
        assert row.cosine > 0.98
        assert row.bias < 4 * row.bias_error < 0.3


class Stretched(estimators.Score):
    """Too long by a fifth."""

    def draw(self, solver: Any, theta: Tensor, instance: Any, target: Target) -> Draw:
        y, surrogate = super().draw(solver, theta, instance, target)
        return Draw(y, lambda losses: losses + 1.2 * only_gradient(surrogate(losses)))


def test_a_bias_is_measured():
    for row in audit(solvers.OneHot(), {"stretched": Stretched()}, [4], draws=20_000):
        assert row.z > 4
        assert row.bias == pytest.approx(0.2, abs=4 * row.bias_error)
        assert row.cosine > 0.99


def test_the_spread_is_that_of_reinforce():
    (row,) = (r for r in audit(solvers.OneHot(), {"score": estimators.Score(None)}, [4], thetas=1) if r.loss == "tanh")
    torch.manual_seed(0)
    theta = torch.randn(1, 4, dtype=torch.float64)
    p, f = theta.softmax(-1)[0], standard_losses(4)[2].function(torch.eye(4, dtype=torch.float64))
    draws = f[:, None] * (torch.eye(4) - p)
    gradient = p @ draws
    variance = (p @ draws.square() - gradient.square()).sum()
    assert row.std == pytest.approx((variance.sqrt() / gradient.norm()).item(), rel=0.02)


def test_supervised_estimators_are_measured_on_the_regret_of_the_right_scores():
    """Fenchel-Young's mean draw is softmax(theta) - y*, which is compared with the gradient of -<theta*, softmax>."""
    (row, *others) = audit(
        solvers.OneHot(), {"fy": estimators.FenchelYoung(noises.Gumbel(), 4)}, [4], draws=20_000, thetas=1
    )
    torch.manual_seed(0)
    theta, right = torch.randn(1, 4, dtype=torch.float64)[0], torch.randn(4, dtype=torch.float64)
    p = theta.softmax(-1)
    gradient = -p * (right - p @ right)
    expected = p - solvers.OneHot()(right)
    assert row.cosine == pytest.approx(torch.cosine_similarity(expected, gradient, 0).item(), abs=0.01)
    assert row.bias == pytest.approx(((expected - gradient).norm() / gradient.norm()).item(), rel=0.02)
    assert [(other.loss, "which this task does not give" in other.note) for other in others] == [
        ("quadratic", True),
        ("tanh", True),
    ]


def test_supervised_estimators_fit_whatever_the_right_scores_fit():
    names = (estimators.SPOPlus, estimators.StructuredSVM, estimators.Contrastive, estimators.Ranking)
    for solver, shape in ((solvers.GridPath(clip=True), [3, 3]), (solvers.TopK(k=2), [2, 4])):
        rows = audit(solver, {c.__name__: c() for c in names}, shape, draws=50, tuning=5)
        assert [row.loss for row in rows if not row.note] == ["linear"] * len(names)
        assert all(row.cosine > 0 and row.std == 0 for row in rows if not row.note)


def test_solver_calls_are_counted():
    several = {
        "identity": (estimators.Identity(), 1),
        "gumbel_softmax": (estimators.GumbelSoftmax(), 0),
        "imle": (estimators.IMLE(), 2),
        "imle of 3": (estimators.IMLE(samples=3), 6),
        "perturbed": (estimators.Perturbed(samples=5), 5),
    }
    for solver in (solvers.OneHot(), solvers.Threshold()):
        for row in audit(solver, {name: e for name, (e, _) in several.items()}, [4], draws=100):
            assert row.calls == several[row.estimator][1], (solver, row.estimator)
            assert row.seconds > 0


def test_counting_leaves_the_solver_as_it_is():
    solver = solvers.TopK(k=2)
    twin, calls = counted(solver)
    twin(torch.randn(3, 2, 5))
    solver(torch.randn(7, 5))
    assert [call.inputs for call in calls] == [6]
    assert isinstance(twin, solvers.TopK)
    assert twin.k == 2


def test_a_deterministic_estimator_has_no_spread():
    for row in audit(solvers.OneHot(), {"identity": estimators.Identity("none")}, [4], draws=100):
        assert row.std == 0
        assert row.bias > 0


def test_an_estimator_that_does_not_fit_has_a_note():
    rows = audit(solvers.TopK(k=2), {"score": estimators.Score(), "identity": estimators.Identity()}, [4], draws=100)
    notes = {row.estimator: row.note for row in rows}
    assert "a distribution in closed form, which TopK does not claim" in notes["score"]
    assert notes["identity"] == ""
    assert "a distribution in closed form, which TopK does not claim" in table(rows)


class LearnedBaseline(estimators.Score):
    def __init__(self) -> None:
        super().__init__(samples=None)
        self.baseline = nn.Parameter(torch.tensor(8.0))

    def draw(self, solver: Any, theta: Tensor, instance: Any, target: Target) -> Draw:
        y = solver(self.perturb(solver, theta.detach()), instance)
        log_prob = solver.log_prob(theta, y)

        def surrogate(losses: Tensor) -> Tensor:
            reward = losses.detach() - self.baseline
            return losses + only_gradient(reward.detach() * log_prob + reward.square())

        return Draw(y, surrogate)


def test_an_estimators_own_parameters_are_tuned_in_a_copy():
    estimator = LearnedBaseline()
    tuned = audit(solvers.OneHot(), {"learned": estimator}, [4], draws=2000, tuning=1000)
    untuned = audit(solvers.OneHot(), {"learned": estimator}, [4], draws=2000, tuning=0)
    for before, after in zip(untuned, tuned, strict=True):
        assert after.std < before.std / 3
    assert estimator.baseline == 8


def test_a_row_depends_on_nothing_around_it():
    state = torch.random.get_rng_state()
    estimator = estimators.IMLE()
    alone = audit(solvers.OneHot(), {"imle": estimator}, [4], draws=100)
    torch.randn(3)
    among = audit(solvers.OneHot(), {"score": estimators.Score(), "imle": estimator}, [4], draws=100)[3:]
    assert [(r.loss, r.bias, r.std) for r in alone] == [(r.loss, r.bias, r.std) for r in among]
    torch.random.set_rng_state(state)
    audit(solvers.OneHot(), {"imle": estimator}, [4], draws=100)
    assert torch.equal(torch.random.get_rng_state(), state)


ROWS = [
    Row("a", "linear", "gumbel", 0.5, 0.01, 30.0, 1.5, 0.9, 2, 1e-6),
    Row("b", "linear", "gumbel", 0.0, 0.01, 0.3, 0.0, 0.99, 1, 1e-6),
    Row("c", "linear", "gumbel", note="does not fit"),
]


def test_the_table_is_aligned_and_complete():
    lines = table(ROWS).splitlines()
    assert lines[0] == "linear loss"
    assert lines[2].split() == ["a", "gumbel", "0.500", "±", "0.010", "30.0", "1.50", "0.900", "2", "1.00"]
    assert len(lines[2]) == len(lines[3])
    assert lines[-2:] == ["left out", "  c: does not fit"]
    assert table([*ROWS, Row("a", "tanh", note="is not")]).splitlines()[-1] == "  a (tanh): is not"
    assert table([*ROWS, Row("d", "linear", note="does not fit")]).splitlines()[-1] == "  c, d: does not fit"
    assert table(ROWS[2:]).splitlines() == lines[-2:]


def test_the_csv_has_every_field(tmp_path):
    write_csv(ROWS, tmp_path / "audit.csv")
    with open(tmp_path / "audit.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["estimator"] for row in read] == ["a", "b", "c"]
    assert float(read[0]["bias"]) == 0.5
    assert read[2]["note"] == "does not fit"


def test_the_picture_has_a_labelled_point_for_each(tmp_path):
    picture = figure(ROWS, "title")
    (axis,) = picture.axes
    assert [text.get_text() for text in axis.texts[1:]] == ["a", "b"]
    assert [tuple(line.get_xydata()[0]) for line in axis.lines] == [(1.5, 0.5), (0.0, 0.01)]
    assert [line.get_markerfacecolor() == "white" for line in axis.lines] == [False, True]
    picture.savefig(tmp_path / "audit.png")
    assert (tmp_path / "audit.png").stat().st_size > 5000


def test_the_command_prints_the_table_and_writes_the_files(tmp_path, capsys):
    words = ["solver=top_k", "solver.k=2", "n=4", "draws=50", f"output={tmp_path / 'found'}"]
    assert run([*words, "estimator=[identity, {name: imle, lam: 10}, score]"]) == 0
    out = capsys.readouterr().out
    assert "TopK(k=2, relaxation='softmax'), theta [4]" in out
    assert "imle(lam=10)" in out
    assert "score: Score needs a solver that has a distribution" in out
    assert (tmp_path / "found.csv").exists()
    assert (tmp_path / "found.png").exists()


def test_a_file_that_cannot_be_written_costs_no_numbers(tmp_path, capsys):
    (tmp_path / "audit.csv").mkdir()
    with pytest.raises(UserError, match="audit: Is a directory"):
        run(["estimator=identity", "n=3", "draws=50", f"output={tmp_path / 'audit'}"])
    assert "linear loss" in capsys.readouterr().out


def test_a_single_decision_has_no_gradient_to_compare_with():
    rows = audit(solvers.OneHot(), {"identity": estimators.Identity()}, [1], draws=50)
    assert all("the exact gradient is zero" in row.note for row in rows)


def test_all_estimators_that_need_no_options_are_the_default():
    assert {"identity", "imle", "score", "perturbed"} <= set(read([]).estimators)


@pytest.mark.parametrize("solver", ["solver=top_k", "solver={name: top_k}"])
def test_a_name_may_stand_after_its_options(solver):
    assert (
        read(["solver.k=2", solver]).solver
        == read([solver, "solver.k=2"]).solver
        == {"name": "top_k", "k": 2, "relaxation": "softmax"}
    )


@pytest.mark.parametrize("words", [["--solver=top_k", "--solver.k", "3"], ["solver={name: top_k}", "solver.k=${n}"]])
def test_words_mean_what_they_mean_to_every_command(words):
    assert read([*words, "n=3"]).solver == {"name": "top_k", "k": 3, "relaxation": "softmax"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["solver=topk"], r"unknown solver 'topk'. Did you mean 'top_k'"),
        (["solver=top_k"], r"needs k"),
        (["estimator=imle,identty"], r"unknown estimator 'identty'"),
        (["estimator={name: imle, la: 2}"], r"no option 'la'"),
        (["sover=top_k"], r"no key 'sover'. Did you mean 'solver'"),
        (["top_k"], r"KEY=VALUE"),
        (["n=${m}"], r"n: Interpolation key 'm' not found"),
        (["draws=1"], r"draws is a whole number, at least 2, got 1"),
        (["shape=3"], r"shape is a list"),
        (["output=nowhere/audit"], r"no folder nowhere"),
        (["estimator={"], r"'estimator={': while parsing"),
    ],
)
def test_wrong_words_are_explained(words, message):
    with pytest.raises(UserError, match=message):
        read(words)


def test_a_mistake_costs_no_import_of_torch():
    code = "import sys; from dbp.audit.command import read; read(['estimator=imle']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_line_has_it(tmp_path, capsys):
    assert main(["audit", "estimator=identity", "n=3", "draws=50", f"output={tmp_path / 'audit'}"]) == 0
    assert "OneHot(relaxation='softmax', alpha=1.5), theta [3]" in capsys.readouterr().out
    assert main(["audit", "solver=top_j"]) == 2
    assert "Did you mean 'top_k'" in capsys.readouterr().err
