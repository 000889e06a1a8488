"""The sorting task: what its metrics count, decisions in a row, and that it learns."""

from functools import partial

import pytest
import torch

from dbp.core import Draw
from dbp.data import Sequences
from dbp.errors import UserError
from dbp.estimators import DAB, REBAR, Exact, Score, StraightThrough
from dbp.networks import MLP
from dbp.noises import Logistic
from dbp.solvers import Signum, Threshold
from dbp.tasks import Sorting
from tests.training import train


def sorting(estimator=None, solver=None, **options):
    return Sorting(solver or Signum(), estimator or StraightThrough(), length=3, hidden=(16,), width=8, **options)


def batch(count=20):
    numbers = torch.rand(count, 3)
    return numbers, numbers.argsort()


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_a_sequence_counts_only_if_its_whole_order_is_right():
    model, (numbers, order) = sorting().eval(), batch(4)
    said = order.clone()
    said[1] = order[1].roll(1)
    said[2, :2] = order[2, :2].flip(0)
    logits = torch.nn.functional.one_hot(said, 3).float() * 9
    model.predict = lambda sequences: (logits, [Draw(torch.zeros(4, 8))])
    metrics = model.metrics("val")
    for name, seen in model.step((numbers, order)).seen.items():
        metrics[name].update(*seen)
    assert metrics["sorted"].compute().item() == 0.5
    assert metrics["accuracy"].compute().item() == pytest.approx((3 + 0 + 1 + 3) / 12)


def test_the_loss_is_the_cross_entropy_to_the_sorted_order_summed_over_places():
    model, (numbers, order) = sorting().eval(), batch()
    log_p = model.predict(numbers)[0].log_softmax(-1)
    expected = torch.stack([-sum(log_p[i, t, order[i, t]] for t in range(3)) for i in range(len(numbers))])
    torch.testing.assert_close(model.step((numbers, order)).losses, expected)


def test_decisions_in_a_row_have_the_gradient_of_the_sum_over_all_of_them():
    """Two bits, twice: all sixteen paths by enumeration, against four hundred draws of each decision's own."""
    x = batch(2)
    gradients = {}
    for estimator in (Exact(joint=1), Score(samples=400)):
        torch.manual_seed(1)
        model = Sorting(Threshold(), estimator, length=3, model="lstm", hidden=(4,), width=2, ponder=2).double()
        model.step((x[0].double(), x[1])).losses.mean().backward()
        gradients[type(estimator)] = torch.cat([p.grad.flatten() for p in model.encoder.parameters()])
    exact, score = gradients[Exact], gradients[Score]
    assert torch.linalg.vector_norm(score - exact) < 0.05 * torch.linalg.vector_norm(exact)


@pytest.mark.parametrize("estimator", [lambda: StraightThrough(Logistic(), samples=3), REBAR, lambda: Score(2)])
def test_samples_of_decisions_in_a_row(estimator):
    model = sorting(estimator(), Threshold(), model="lstm", ponder=3)
    step = model.step(batch())
    step.losses.mean().backward()
    assert step.seen["sorted"][0].shape == (20, 3)
    assert model.encoder.cell.weight_hh.grad.any()


@pytest.mark.parametrize("soft", ["tanh", "elu"])
def test_a_smooth_function_in_place_of_the_decision(soft):
    model, (numbers, _) = sorting(soft=soft).eval(), batch()
    y = model.predict(numbers)[1][0].y
    assert y.requires_grad
    torch.testing.assert_close(y, getattr(torch.nn.functional, soft)(model.encoder.mlp(numbers)))


def test_dab_learns_to_sort_three_numbers():
    model = Sorting(
        Signum(), DAB(MLP([64, 64, 64], "tanh")), length=3, hidden=(64, 64), width=64,
        optimizer=partial(torch.optim.Adam, lr=5e-3),
    )  # fmt: skip
    trainer = train(model, Sequences(length=3, size=50_000, batch_size=500), epochs=3)
    assert trainer.callback_metrics["val/sorted"] > 0.6  # one of six by chance


def test_the_picture_marks_where_a_sequence_goes_down(tmp_path):
    figure = sorting().figures(batch())["sequences"]
    figure.savefig(tmp_path / "s.png")
    from dbp.tasks.plots import sequences

    bars = sequences(torch.tensor([[0.1, 0.5, 0.9], [0.5, 0.1, 0.9]])).axes
    colours = [[patch.get_facecolor() for patch in axis.patches] for axis in bars]
    assert colours[0] == [colours[1][1]] * 3
    assert colours[1][0] != colours[1][1] == colours[1][2]


def test_what_does_not_fit_is_named():
    with pytest.raises(UserError, match="ponder=2 must be positive, ponder 1 for dense"):
        sorting(ponder=2)
    with pytest.raises(UserError, match=r"have 4 numbers, the model was made for 3: set task\.length=4"):
        sorting().step((torch.rand(2, 4), torch.rand(2, 4).argsort()))


def test_sequences_come_with_the_order_that_sorts_them():
    data = Sequences(length=6, size=100, batch_size=32, seed=3)
    numbers, order = next(iter(data.train_dataloader()))
    assert (numbers.gather(-1, order).diff() >= 0).all()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 100, "val": 2, "test": 20}
    again, other = (Sequences(length=6, size=100, batch_size=32, seed=s).splits["train"].tensors[0] for s in (3, 4))
    assert torch.equal(again, data.splits["train"].tensors[0])
    assert not torch.equal(again, other)
    with pytest.raises(Exception, match="length=1 must be at least 2"):
        Sequences(length=1)
