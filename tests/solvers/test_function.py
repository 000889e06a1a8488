"""Any function as a solver: here and in processes, remembered, and with errors that name the row."""

import copy
import os
import pickle
import threading
import time

import joblib
import numpy as np
import pytest
import torch

import dbp
from dbp import UserError
from dbp.solvers import FromFunction


def draw(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def largest(theta):
    return (theta == theta.amax(-1, keepdim=True)).float()


def largest_array(theta):
    assert isinstance(theta, np.ndarray)
    return (theta == theta.max(-1, keepdims=True)).astype(int)


def first_two(theta):
    return theta[..., :2]


def total(theta):
    return theta.sum(-1)


def sorts_in_place(theta):
    theta.sort()
    return theta


FUNCTIONS = {  # function, takes arrays, y for theta of [*leading, 4]
    "tensors": (largest, False, largest),
    "arrays": (largest_array, True, largest),
    "other shape": (first_two, False, first_two),
    "scalars": (total, False, total),
    "array scalars": (lambda theta: theta.sum(-1), True, total),
    "in place": (sorts_in_place, True, lambda theta: theta.sort(-1).values),
    "booleans": (lambda theta: theta > 0, False, lambda theta: (theta > 0).float()),
}
WAYS = {
    "batch": {},
    "rows": {"batched": False},
    "remembered": {"batched": False, "cache": 100},
    "batch, processes": {"workers": 2},
    "rows, processes": {"batched": False, "workers": 2},
    "rows, processes, timed": {"batched": False, "workers": 2, "timeout": 1800.0, "cache": 3},
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_decides_the_same(name, way):
    function, arrays, expected = FUNCTIONS[name]
    theta = draw(2, 3, 4)
    before = theta.clone()
    y = FromFunction(function, numpy=arrays, **WAYS[way])(theta)
    torch.testing.assert_close(y, expected(theta))
    assert torch.equal(theta, before)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("arrays", [False, True])
def test_dtypes_and_layouts(way, dtype, arrays):
    solver = FromFunction(largest_array if arrays else largest, numpy=arrays, **WAYS[way])
    theta = draw(3, 2, 4, dtype=dtype).transpose(0, 1)
    y = solver(theta)
    assert y.dtype == dtype
    assert torch.equal(y, largest(theta.contiguous()).to(dtype))
    assert solver(theta[:0]).shape == (0, 3, 4)
    assert torch.equal(solver(theta[0, 0]), y[0, 0])


def test_events_of_several_dims():
    theta = draw(5, 3, 4)
    for batched in (True, False):
        y = FromFunction(lambda x: x.flatten(-2).argmax(-1), 2, batched=batched)(theta)
        assert torch.equal(y, theta.flatten(1).argmax(1).float())


def test_instances_are_handed_on_by_name():
    def scale(theta, by, plus=0.0):
        return by * theta + plus

    theta = draw(2, 3, 4)
    for way in ({}, {"batched": False}, {"workers": 2}, {"batched": False, "cache": 9}):
        solver = FromFunction(scale, **way)
        assert torch.equal(solver(theta, {"by": 2.0, "plus": 1.0}), 2 * theta + 1)
        assert torch.equal(solver(theta, {"by": torch.arange(4.0)}), torch.arange(4) * theta)
    for wrong in ((2.0,), [2.0], torch.ones(3)):
        with pytest.raises(UserError, match=r"takes an instance .* of names of its own; got (tuple|list|Tensor)"):
            FromFunction(scale)(theta, wrong)


@pytest.mark.parametrize("way", WAYS)
def test_values_that_differ_from_row_to_row(way):
    def scale(theta, by, plus):
        assert by.ndim == theta.ndim - 1
        return torch.as_tensor(by)[..., None] * theta + plus

    theta, plus = draw(2, 3, 4), torch.arange(4.0)
    solver = FromFunction(scale, per_row={"by": 0}, **WAYS[way])
    for by in (torch.tensor(3.0), torch.tensor([1.0, 2.0, 3.0]), torch.arange(6.0).reshape(2, 3)):
        expected = by.expand(2, 3)[..., None] * theta + plus
        assert torch.equal(solver(theta, {"by": by, "plus": plus}), expected)
    if not solver.workers:
        assert torch.equal(solver(theta, {"by": by.numpy(), "plus": plus}), expected)
    with pytest.raises(UserError, match=r"by of shape \[2\] does not fit .* \[2, 3\]"):
        solver(theta, {"by": torch.ones(2), "plus": plus})


def test_lists_have_an_entry_for_each_row():
    solver = FromFunction(lambda theta, names: theta + len(names), batched=False, per_row={"names": 0})
    theta = draw(2, 3, 4)
    for names in (["", "a", "bc"], ["", "a", "bc", "", "a", "bc"]):
        assert torch.equal(solver(theta, {"names": names}), theta + torch.arange(3.0)[:, None])
    with pytest.raises(UserError, match=r"names of 2 entries does not fit .* \[2, 3\]"):
        solver(theta, {"names": ["", ""]})


def test_a_cache_calls_once_for_each_new_row():
    calls = []

    def count(theta, **instance):
        calls.append(instance)
        return largest(theta)

    solver = FromFunction(count, batched=False, cache=4)
    theta = draw(4, 5)
    for scores in (theta, theta, theta.flip(0), theta[[0, 0, 1]].expand(2, 3, 5)):
        assert torch.equal(solver(scores), largest(scores))
    assert len(calls) == 4
    solver(theta.double())  # other bytes, though equal
    assert len(calls) == 8
    solver(theta)  # the former four were thrown out
    assert len(calls) == 12
    for value in (1, 2, torch.ones(2), torch.zeros(2), torch.ones(2), 1):
        solver(theta[:1], {"value": value})
    assert len(calls) == 16
    assert len(solver._solved) == 4


def test_a_cache_keeps_what_was_used_last():
    calls = []
    solver = FromFunction(lambda x: calls.append(float(x)) or x, 0, batched=False, cache=2)
    for score in (1.0, 2.0, 1.0, 3.0, 1.0, 2.0):
        assert solver(torch.tensor([score])).item() == score
    assert calls == [1.0, 2.0, 3.0, 2.0]


def test_a_cache_holds_copies():
    buffer = np.zeros(3)

    def reuse(theta):
        buffer[:] = theta
        return buffer

    solver, theta = FromFunction(reuse, batched=False, numpy=True, cache=10), draw(4, 3)
    assert torch.equal(solver(theta), theta)
    assert torch.equal(solver(theta), theta)


def test_a_cache_takes_several_threads():
    solver, theta, wrong = FromFunction(largest, batched=False, cache=5), draw(20, 8), []

    def run(seed):
        for _ in range(30):
            rows = theta[torch.randperm(20, generator=torch.Generator().manual_seed(seed))[:6]]
            if not torch.equal(solver(rows), largest(rows)):
                wrong.append(seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(solver._solved) == 5


def test_solvers_are_copied_and_pickled():
    solver = FromFunction(largest, batched=False, cache=5)
    solver(draw(3, 2))
    for twin in (copy.deepcopy(solver), pickle.loads(pickle.dumps(solver))):
        assert twin == solver
        assert len(twin._solved) == 0
        assert torch.equal(twin(draw(3, 2)), solver(draw(3, 2)))


def fails_on_nine(theta):
    if theta[0] == 9:
        raise ValueError("nine is too much")
    return theta


def exits_on_nine(theta):
    if theta[0] == 9:
        raise SystemExit(3)
    return theta


def dies_on_nine(theta):
    if theta[0] == 9:
        os._exit(1)
    return theta


def hangs_on_nine(theta):
    if theta[0] == 9:
        time.sleep(60)
    return theta


FAILURES = {
    "raises": (fails_on_nine, {}, "fails_on_nine raised ValueError: nine is too much"),
    "exits": (exits_on_nine, {}, "exits_on_nine raised SystemExit: 3"),
    "raises there": (fails_on_nine, {"workers": 2}, "fails_on_nine raised ValueError: nine is too much"),
    "dies": (dies_on_nine, {"workers": 2}, "dies_on_nine killed its process"),
    "hangs": (hangs_on_nine, {"workers": 2, "timeout": 0.5}, "hangs_on_nine took longer than the time limit of 0.5 s"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_name_the_row_and_leave_the_solver_at_work(name):
    function, options, message = FAILURES[name]
    solver = FromFunction(function, batched=False, **options)
    theta = torch.zeros(1, 3, 2)
    theta[0, 2] = 9
    start = time.monotonic()
    with pytest.raises(UserError, match=rf"^FromFunction: row \[0, 2\]: {message}"):
        solver(theta)
    assert time.monotonic() - start < 50
    assert torch.equal(solver(theta[:, :2]), theta[:, :2])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_that_fails_is_named_as_one(workers):
    def fail(theta):
        raise ValueError("no")

    with pytest.raises(UserError, match=rf"a batch of {4 // max(workers, 1)}: .*fail raised ValueError: no"):
        FromFunction(fail, workers=workers)(draw(4, 2))


def test_remembered_rows_keep_their_names():
    solver = FromFunction(fails_on_nine, batched=False, cache=10)
    theta = torch.zeros(4, 2)
    solver(theta)
    theta[3] = 9
    with pytest.raises(UserError, match=r"row \[3\]"):
        solver(theta)


def test_user_errors_of_the_function_are_passed_on():
    solver = FromFunction(dbp.solvers.TopK(5), batched=False)
    with pytest.raises(UserError, match=r"^FromFunction: row \[0\]: TopK: cannot choose k=5 of 3"):
        solver(draw(2, 3))


RESULTS = {
    "none": (lambda theta: None, r"row \[0\].*returned NoneType"),
    "ragged": (lambda theta: [[1.0], [1.0, 2.0]], r"row \[0\].*returned list"),
    "changing": (lambda theta: theta[theta > 0], r"row \[1\]: a decision of shape \[1\], and of shape \[2\]"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_what_is_no_decision_is_refused(name):
    function, message = RESULTS[name]
    with pytest.raises(UserError, match=message):
        FromFunction(function, batched=False)(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))


def test_a_batch_must_stay_a_batch():
    with pytest.raises(UserError, match=r"made shape \[3\] of a batch of 2"):
        FromFunction(lambda theta: theta[0])(draw(2, 3))


@pytest.mark.parametrize("options", [{"timeout": 1.0}, {"cache": 3}, {"cache": 3, "workers": 2}])
def test_options_that_contradict_each_other(options):
    with pytest.raises(UserError, match="needs"):
        FromFunction(largest, **options)


@pytest.mark.parametrize("options", [{"timeout": 0.0, "workers": 2}, {"cache": -1, "batched": False}, {"workers": -1}])
def test_options_out_of_range(options):
    with pytest.raises(UserError, match="timeout must be positive, workers and cache not negative"):
        FromFunction(largest, **options)


def test_a_function_that_cannot_be_sent():
    lock = threading.Lock()
    with pytest.raises(UserError, match=r"<lambda> cannot be sent to worker processes: .* a lock"):
        FromFunction(lambda theta: theta if lock else None, batched=False, workers=2)(draw(2, 3))


def test_another_backend_of_joblib():
    theta = draw(6, 3)
    with joblib.parallel_config("threading"):
        assert torch.equal(FromFunction(largest, batched=False, workers=2)(theta), largest(theta))


def test_processes_are_sent_a_row_and_not_the_batch():
    theta = draw(2, 1000, 4)
    y = FromFunction(lambda x: x.new_tensor([x.untyped_storage().nbytes()]), batched=False, workers=2)(theta[:, :2])
    assert y.unique().tolist() == [16]


def test_compiles_into_one_graph():
    solver = FromFunction(largest)
    compiled = torch.compile(lambda theta: solver(theta), fullgraph=True, backend="eager")
    assert torch.equal(compiled(draw(3, 4)), largest(draw(3, 4)))
