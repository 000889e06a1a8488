"""What happens to a run that is stopped, damaged, changed, doubled, or given what is not finite."""

import csv
import gc
import os
import random
import re
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dbp.errors import UserError
from dbp.files.lock import locked
from dbp.runs import messages
from dbp.runs.checkpoints import fault_in
from dbp.runs.saving import AtomicCheckpointIO

RUN = [
    "task={name: slots, items: 4, slots: 2, hidden: [8]}",
    "solver=one_hot",
    "estimator={name: imle, samples: 2}",
    "data={name: slots, items: 4, size: 60, batch_size: 10}",  # six batches an epoch
    "callbacks={pictures: null, last: {every_n_train_steps: 4}}",
    "loggers={tensorboard: null}",
    "trainer={max_epochs: 2, accelerator: cpu, num_sanity_val_steps: 0}",
    "run=r",
]
NEEDED = {"state_dict": {}, "optimizer_states": [], "loops": {"x": 1}, "pytorch-lightning_version": "2"}
UNSENT = "callbacks={'faults:Send': null}"  # which the checkpoint names, and may not on its own
CHECKPOINTS = Path("lightning_logs/r/checkpoints")


def outcome():
    state = torch.load(CHECKPOINTS / "last.ckpt", weights_only=True)["state_dict"]
    return {k: v.tolist() for k, v in state.items()}, Path("lightning_logs/r/metrics.csv").read_text()


def rows():
    with Path("lightning_logs/r/metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# Damage


def test_a_flipped_bit_is_refused_or_harmless(tmp_path):
    value = {**NEEDED, "state_dict": {"a": torch.randn(40)}, "optimizer_states": [{"s": torch.randn(9)}]}
    good, bad = tmp_path / "good.ckpt", tmp_path / "bad.ckpt"
    torch.save(value, good)
    whole, rng, passed = good.read_bytes(), random.Random(0), 0
    assert fault_in(good) is None
    for place in rng.sample(range(len(whole)), 400):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.randrange(8)
        bad.write_bytes(flipped)
        if fault_in(bad) is None:
            try:
                found = torch.load(bad, weights_only=True)
            except RuntimeError:  # torch reads fields of the archive's directory that zipfile does not
                continue
            passed += 1
            assert found["state_dict"]["a"].equal(value["state_dict"]["a"])
            assert found["optimizer_states"][0]["s"].equal(value["optimizer_states"][0]["s"])
            assert found["loops"] == value["loops"]
    assert passed  # padding and dates


def test_a_record_marked_as_a_folder_is_refused(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save({**NEEDED, "state_dict": {"a": torch.randn(40)}}, path)
    whole = path.read_bytes()
    for entry in re.finditer(rb"PK\x01\x02", whole):
        flipped = bytearray(whole)
        flipped[entry.start() + 38] ^= 0x10  # torch.load would not read the record, and say nothing
        path.write_bytes(flipped)
        assert "is marked as a folder" in (fault_in(path) or "")


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save(NEEDED, path)
    whole = path.read_bytes()
    for end in range(0, len(whole), 11):
        path.write_bytes(whole[:end])
        assert fault_in(path)


def test_a_compressed_checkpoint_is_refused(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    assert "is compressed" in (fault_in(tmp_path / "bomb.ckpt") or "")


def test_a_damaged_checkpoint_is_passed_over(dbp, capsys, caplog):
    assert dbp("fit", *RUN) == 0
    history, last = Path("lightning_logs/r/metrics.csv"), CHECKPOINTS / "last.ckpt"
    lines = history.read_text()
    damaged = bytearray(last.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    last.write_bytes(damaged)
    assert dbp("test", f"ckpt_path={last}") == 2
    assert f"ckpt_path={last}: no checkpoint, or a damaged one" in capsys.readouterr().err
    assert dbp("fit", *RUN, "ckpt_path=last") == 0
    assert history.read_text() == lines
    assert any(f"passed over {last} (the checksum of" in record.message for record in caplog.records)
    for path in CHECKPOINTS.glob("epoch=*.ckpt"):
        os.truncate(path, 1000)
    last.write_bytes(damaged)
    assert dbp("fit", *RUN, "ckpt_path=last") == 2
    assert "no checkpoint in lightning_logs/r is valid; remove them to start again" in capsys.readouterr().err


def test_weights_alone_are_read_as_processes_that_lightning_spawned_hand_them_over(tmp_path):
    path = tmp_path / ".temp.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": torch.ones(2)}, path)
    assert AtomicCheckpointIO().load_checkpoint(path)["a"].equal(torch.ones(2))


@pytest.mark.parametrize("named", [False, True])
def test_a_run_that_went_on_from_the_best_checkpoint_removes_it_when_another_is_better(dbp, named):
    run = [*RUN, "callbacks.best={monitor: step, mode: max, filename: '{step}'}"]  # each is better
    assert dbp("fit", *run, "trainer.max_epochs=1") == 0
    (CHECKPOINTS / "last.ckpt").unlink()  # as if killed between the two
    (best,) = CHECKPOINTS.iterdir()
    assert dbp("fit", *run, f"ckpt_path={best}" if named else "ckpt_path=last") == 0
    names = {path.name for path in CHECKPOINTS.iterdir()}
    assert names == {"last.ckpt", "step=12.ckpt"} | ({best.name} if named else set())


def test_a_full_disk_keeps_the_checkpoint_that_was_there(dbp, capsys):
    assert dbp("fit", *RUN) == 0
    before = {path.name: path.read_bytes() for path in CHECKPOINTS.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        assert dbp("fit", *RUN, "ckpt_path=last", "trainer.max_epochs=3") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large; what was there is kept" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in CHECKPOINTS.iterdir()} == before


def test_a_folder_that_cannot_be_made_is_said_at_the_start(dbp, capsys):
    Path("file").write_text("")
    assert dbp("fit", *RUN, "trainer.default_root_dir=file") == 2
    assert "cannot make a folder for the run in file/lightning_logs: Not a directory" in capsys.readouterr().err


# Signals


@pytest.fixture
def whole(dbp, tmp_path, monkeypatch):
    """What the run becomes that nobody stops."""
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    assert dbp("fit", *RUN, "trainer.val_check_interval=3") == 0
    found = outcome()
    monkeypatch.chdir(tmp_path)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_ends_a_run_with_a_checkpoint(dbp, capsys, whole, number):
    ignored = signal.signal(number, signal.default_int_handler)  # as in a process of the background
    handler = signal.getsignal(number)
    more = ["trainer.val_check_interval=3", "ckpt_path=last"]
    step = {signal.SIGTERM: 1, signal.SIGUSR1: 5, signal.SIGINT: 9}[number]  # 5 ends an epoch
    send = f"callbacks={{'faults:Send': {{step: {step}, number: {int(number)}, validating: {step == 9}}}}}"
    assert dbp("fit", *RUN, *more, send) == 128 + number
    stopped, again = capsys.readouterr().err.splitlines()[-1].split("; to resume: python -m dbp ")
    assert stopped.startswith(f"stopped by {number.name} at step ")
    assert shlex.split(again) == ["fit", *RUN, more[0], send, f"ckpt_path={CHECKPOINTS / 'last.ckpt'}"]
    assert signal.getsignal(number) is handler
    signal.signal(number, ignored)
    assert dbp("fit", *RUN, *more, UNSENT) == 0
    assert outcome() == whole


# Changes


def test_what_changed_is_said(dbp, capsys):
    assert dbp("fit", *RUN) == 0
    capsys.readouterr()
    assert dbp("fit", *RUN, "ckpt_path=last", "trainer.max_epochs=3", "optimizer.lr=0.25", "estimator=identity") == 0
    said = capsys.readouterr().out.splitlines()[:4]
    assert said[0] == f"resuming from {CHECKPOINTS / 'last.ckpt'} with a changed configuration:"
    assert said[1:] == [
        "  estimator: imle -> identity",
        "  optimizer.lr: 0.001 -> 0.25",
        "  trainer.max_epochs: 2 -> 3",
    ]
    assert dbp("fit", *RUN, "ckpt_path=last", "trainer.max_epochs=3", "optimizer.lr=0.25", "estimator=identity") == 0
    assert "another configuration" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("task.hidden=[4]", "changed: task.hidden: [8] -> [4]"),
        ("estimator=adaptive_imle", "changed: estimator: imle -> adaptive_imle"),
    ],
)
def test_what_a_checkpoint_does_not_fit_is_named(dbp, capsys, change, message):
    assert dbp("fit", *RUN) == 0
    assert dbp("fit", *RUN, "ckpt_path=last", "trainer.max_epochs=3", change) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "give the old values, or start a new run: init_from=FILE run=NAME" in said


def test_other_batches_are_refused_in_the_middle_of_an_epoch_alone(dbp, capsys):
    assert dbp("fit", *RUN, "callbacks={'faults:Send': {step: 7}}") == 143
    other = ["ckpt_path=last", "data.batch_size=20", "seed=3"]
    assert dbp("fit", *RUN, *other, UNSENT) == 2
    assert "data.batch_size: 10 -> 20, seed: 0 -> 3" in capsys.readouterr().err
    assert dbp("fit", *RUN, "ckpt_path=last", UNSENT) == 0
    assert dbp("fit", *RUN, *other, UNSENT, "trainer.max_epochs=3") == 0
    assert [row["step"] for row in rows()] == ["5", "11", "14"]


# Two at once

HOLD = """
import sys, time
from pathlib import Path
from dbp.files.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_run_has_one_process_and_a_dead_one_holds_nothing(dbp, capsys, tmp_path):
    place = tmp_path / "lightning_logs" / "r"
    place.mkdir(parents=True)
    root = str(Path(__file__).parents[2])
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, place], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert dbp("fit", *RUN) == 2
        said = capsys.readouterr().err
        assert f"lightning_logs/r is in use by process {holder.pid} on " in said
        assert not (place / "config.yaml").exists()
    finally:
        holder.kill()
        holder.communicate()
    assert dbp("fit", *RUN, "trainer.max_epochs=1") == 0


def test_a_folder_without_write_access_is_said(tmp_path):
    with pytest.raises(UserError, match=r"cannot write to .*missing: No such file"), locked(tmp_path / "missing"):
        pass


# Not finite

BAD = "task={name: 'faults:Bad', items: 4, slots: 2, hidden: [8], what: %s}"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("loss", "the loss is nan, the gradient of encoder.0.weight is nan (and "),
        ("gradient", "the gradient of encoder.0.weight is nan. A lower"),
        ("scores", "OneHot was given a score of nan at [0, 0] (row [0])"),
    ],
)
def test_what_is_not_finite_is_named_or_skipped(dbp, capsys, what, said):
    assert dbp("fit", *RUN, BAD % what) == 2
    where = "step 4, rank 0 (task faults:Bad, estimator imle, solver one_hot): "
    assert where + said in capsys.readouterr().err
    assert dbp("fit", *RUN, BAD % what, "ckpt_path=last", "on_nonfinite=skip") == 0
    assert [row["train/skipped"] for row in rows()] == ["1.0", "0.0"]
    state = torch.load(CHECKPOINTS / "last.ckpt", weights_only=True)
    assert all(v.isfinite().all() for v in state["state_dict"].values())
    assert {int(s["step"]) for s in state["optimizer_states"][0]["state"].values()} == {11}  # of twelve


# Others' faults


def test_a_killed_process_that_loads_data_is_explained(dbp, capsys):
    data = "data={name: 'faults:DeadlyData', items: 4, size: 60, batch_size: 10, workers: 1}"
    assert dbp("fit", *RUN, data) == 2
    assert "a process that loads data was killed, most often because memory ran out" in capsys.readouterr().err


def test_a_loaders_death_told_by_signal_while_another_error_is_handled_is_explained(dbp, capsys, monkeypatch):
    def signalled(traceback):
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")

    monkeypatch.setattr(messages, "walk_tb", signalled)
    assert dbp("fit", *RUN, "data={name: 'faults:CutData', items: 4, size: 60, batch_size: 10}") == 2
    assert "a process that loads data was killed, most often because memory ran out" in capsys.readouterr().err


def test_the_scores_that_a_solver_failed_on_are_kept(dbp, caplog):
    with pytest.raises(ValueError, match="no decision"):
        dbp("fit", *RUN, "solver='faults:Raises'", "estimator=identity")
    assert "failed on: lightning_logs/r/failed_scores.npy" in caplog.records[-1].message
    assert np.load("lightning_logs/r/failed_scores.npy").shape == (10, 2, 4)


# What is left behind


def test_a_run_leaves_no_file_open_and_no_process(dbp):
    assert dbp("fit", *RUN, "data.workers=2", "loggers={}") == 0  # with what is opened once
    gc.collect()
    children = Path(f"/proc/self/task/{os.getpid()}/children")  # other tests may have left some
    before = len(os.listdir("/proc/self/fd")), children.read_text()
    assert dbp("fit", *RUN, "data.workers=2", "loggers={}", "ckpt_path=last", "trainer.max_epochs=4") == 0
    gc.collect()
    assert (len(os.listdir("/proc/self/fd")), children.read_text()) == before
    assert not list(Path("lightning_logs/r").glob("hparams.yaml"))
