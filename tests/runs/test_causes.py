"""Errors keep their cause: folders that are gone, files that others changed, options that cannot be, signals to all."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from dbp.runs import lightning, saving
from dbp.runs.loggers import read_rows
from dbp.runs.parent import PARENT

ROOT = Path(__file__).parents[2]
RUN = [
    "task={name: slots, items: 4, slots: 2, hidden: [8]}",
    "solver=one_hot",
    "estimator={name: imle, samples: 2}",
    "data={name: slots, items: 4, size: 60, batch_size: 10}",
    "callbacks={pictures: null}",
    "loggers={tensorboard: null}",
    "trainer={max_epochs: 2, accelerator: cpu, num_sanity_val_steps: 0}",
]
PLACE = Path("lightning_logs/r")
LAST = PLACE / "checkpoints" / "last.ckpt"


# What a run leaves


@pytest.mark.parametrize("run", [".", "..", "", "./", "/abs", "../../x", "a/../../x", "a\0b"])
@pytest.mark.parametrize("more", [[], ["ckpt_path=last"]])
def test_a_run_is_a_folder_below_the_others(dbp, capsys, run, more):
    assert dbp("fit", *RUN, f"run={run}", *more) == 2
    assert f"run={run!r}: a run is a folder below lightning_logs" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_a_run_may_be_a_folder_of_a_folder(dbp):
    assert dbp("fit", *RUN, "run=study/first", "trainer.max_epochs=1") == 0
    assert Path("lightning_logs/study/first/metrics.csv").is_file()


@pytest.mark.parametrize("run", [[], ["run=r"]])
@pytest.mark.parametrize("wrong", ["trainer.precision=nonsense", "trainer.val_check_interval=0", "init_from=none.ckpt"])
def test_a_fit_that_fails_at_once_leaves_no_folder(dbp, run, wrong):
    assert dbp("fit", *RUN, *run, wrong, "loggers.tensorboard={}") == 2
    assert list(Path().iterdir()) == []


def test_a_folder_that_was_there_is_kept(dbp):
    PLACE.mkdir(parents=True)
    assert dbp("fit", *RUN, "run=r", "trainer.precision=nonsense") == 2
    assert PLACE.is_dir()


# Causes


def test_the_true_error_is_said_where_the_runs_folder_is_gone(dbp, capsys):
    assert dbp("fit", *RUN, "run=r", "callbacks={'faults:Vanish': {}}", "optimizer={name: sgd, lr: -1}") == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "dbp: error: ValueError: Invalid learning rate: -1.0"
    assert said[-1].endswith("DBP_TRACEBACK=1 shows the traceback")


@pytest.mark.parametrize("changed", ["semicolons", "byte order mark", "floats", "binary"])
def test_a_metrics_file_that_another_program_saved_is_set_aside(dbp, caplog, changed):
    assert dbp("fit", *RUN, "run=r", "trainer.max_epochs=1") == 0
    path = PLACE / "metrics.csv"
    text = path.read_bytes()
    others = {
        "semicolons": text.replace(b",", b";"),
        "byte order mark": b"\xef\xbb\xbf" + text,
        "floats": text.replace(b"\r\n0,", b"\r\n0.0,"),
        "binary": b"PK\x03\x04\xff\xfe" + text,
    }
    assert others[changed] != text
    path.write_bytes(others[changed])
    assert dbp("fit", *RUN, "run=r", "ckpt_path=last") == 0
    assert any("metrics.csv is not as dbp wrote it" in record.message for record in caplog.records)
    assert (PLACE / "metrics_1.csv").read_bytes() == others[changed]
    assert list(read_rows(path)) == [1]


def test_a_job_configuration_outside_of_a_job_says_what_is_missing(dbp, capsys):
    assert dbp("fit", *RUN, "--config", str(ROOT / "configs" / "trainer" / "slurm.yaml")) == 2
    said = capsys.readouterr().err
    assert "run: the environment variable SLURM_JOB_ID is not set (a job of SLURM has it)" in said


def test_a_validation_every_zero_batches_is_refused(dbp, capsys):
    assert dbp("fit", *RUN, "trainer.val_check_interval=0") == 2
    assert capsys.readouterr().err.startswith("dbp: error: trainer.val_check_interval=0: give a number of batches")


# Checkpoints


def no_file(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def torchs_own(path: Path) -> None:
    """Damage to a field of the archive's directory that zipfile does not read: the disk a record starts on."""
    content = bytearray(path.read_bytes())
    at = content.rfind(b"PK\x01\x02")
    content[at + 34] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [no_file, fifo, torchs_own])
@pytest.mark.parametrize("stage", ["fit", "test"])
def test_a_last_checkpoint_that_cannot_be_read_is_passed_over(dbp, caplog, damage, stage):
    assert dbp("fit", *RUN, "run=r") == 0
    damage(LAST)
    assert dbp(stage, *RUN, "run=r", "ckpt_path=last", "trainer.max_epochs=3") == 0
    assert any(f"passed over {LAST}" in record.message for record in caplog.records)


def test_the_kernels_are_in_the_header_and_a_change_is_said(dbp, caplog, monkeypatch):
    assert dbp("fit", *RUN, "run=r") == 0
    assert torch.load(LAST, weights_only=True)["dbp"]["kernels"] == saving.kernels()
    assert saving.kernels() in ("native", "torch")
    assert dbp("fit", *RUN, "run=r", "ckpt_path=last", "trainer.max_epochs=3") == 0
    assert not any("noise was drawn" in record.message for record in caplog.records)
    monkeypatch.setattr(saving, "kernels", lambda: "abacus")
    assert dbp("fit", *RUN, "run=r", "ckpt_path=last", "trainer.max_epochs=4") == 0
    assert [record.message for record in caplog.records if "noise was drawn" in record.message] == [
        f"noise was drawn by {NATIVE} and is now drawn by abacus: the same seed gives different numbers"
    ]


NATIVE = saving.kernels()


# Dead gradients


@pytest.mark.parametrize(
    ("estimator", "warns"), [("{name: blackbox, lam: 1.0e-9}", 1), ("{name: imle, lam: 100.0}", 0)]
)
def test_an_epoch_of_zero_gradients_is_warned_of_once(dbp, caplog, estimator, warns):
    assert dbp("fit", *RUN, f"estimator={estimator}", "trainer.max_epochs=3") == 0
    said = [record.message for record in caplog.records if "only gradients of zero" in record.message]
    assert len(said) == warns
    assert all("estimator blackbox passed only gradients of zero to theta in epoch 0" in line for line in said)
    assert all("try a larger estimator.lam" in line for line in said)


# Processes


def test_the_private_names_of_lightning_are_there():
    for name in lightning.NAMES:
        found = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        for part in name.split("."):
            found = getattr(found, part)  # AttributeError names what is gone


def test_a_signal_to_all_processes_leaves_a_checkpoint(tmp_path):
    """As `timeout`, scancel and systemd send it: to those that load data, too."""
    line = [sys.executable, "-m", "dbp", "fit", *RUN, "run=r", "data.workers=2", "trainer.max_epochs=1000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        line,
        cwd=tmp_path,
        env=environment,
        start_new_session=True,
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / LAST).exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143, said
    assert "stopped by SIGTERM" in said
    assert "memory" not in said
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] > 0


def test_a_further_rank_that_is_starting_ends_with_the_first(tmp_path):
    """It waits for the others to meet it, where no hook of Lightning's runs."""
    code = (
        "import os, subprocess, sys\n"
        "environment = {**os.environ, 'LOCAL_RANK': '1', 'NODE_RANK': '0', 'MASTER_PORT': '1',"
        " 'MASTER_ADDR': '127.0.0.1',"
        f" '{PARENT}': str(os.getpid()), 'DBP_RUN': sys.argv[1]}}\n"
        "child = subprocess.Popen([sys.executable, '-m', 'dbp', 'fit', *sys.argv[2:]], env=environment)\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    more = ["trainer.strategy=ddp", "trainer.devices=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lightning_logs" / "r"), *RUN, *more],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert first.stdout is not None
    child = int(first.stdout.readline())
    time.sleep(1)
    first.kill()
    first.wait()
    first.stdout.close()
    deadline = time.monotonic() + 60  # to import torch on a busy machine, and a second
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(child)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# A lock that waits

HOLD = """
import sys, time
from pathlib import Path
from dbp.files.lock import locked
with locked(Path(sys.argv[1]), wait=True):
    print("held", flush=True)
    sys.stdin.readline()
    Path(sys.argv[1], "order").open("a").write(sys.argv[2])
"""


def test_a_lock_that_waits_is_given_when_the_other_process_lets_go(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path), name],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in "ab"
    )  # fmt: skip
    assert first.stdout is not None
    assert second.stdout is not None
    (ready,), _, _ = select.select([first.stdout, second.stdout], [], [], 60)
    holder, other = (first, second) if ready is first.stdout else (second, first)
    assert select.select([other.stdout], [], [], 1)[0] == []  # it waits
    holder.communicate("\n", timeout=30)
    other.communicate("\n", timeout=30)
    assert sorted((tmp_path / "order").read_text()) == ["a", "b"]


# Weights of another run


def test_weights_start_another_run_with_another_optimizer_schedule_and_estimator(dbp, caplog):
    caplog.set_level("INFO", logger="dbp")
    assert dbp("fit", *RUN, "run=r", "estimator=adaptive_imle") == 0
    given = torch.load(LAST, weights_only=True)["state_dict"]
    other = ["optimizer={name: sgd, lr: 0.0}", "scheduler={name: step, step_size: 1}", "estimator=identity"]
    line = [*RUN, *other, "run=new", f"init_from={LAST}"]
    assert dbp("fit", *line, "trainer.max_epochs=1") == 0
    path = Path("lightning_logs/new/checkpoints/last.ckpt")
    found = torch.load(path, weights_only=True)
    assert (found["epoch"], found["global_step"]) == (0, 6)
    assert found["dbp"]["config"]["init_from"] == str(LAST)
    assert all(value.equal(given[name]) for name, value in found["state_dict"].items())
    assert any("weights from" in record.message for record in caplog.records)
    LAST.unlink()  # to resume, it is not read again
    assert dbp("fit", *line, "ckpt_path=last", "trainer.max_epochs=2") == 0


def test_a_part_of_the_weights_is_chosen_by_prefix(dbp):
    assert dbp("fit", *RUN, "run=r") == 0
    given = torch.load(LAST, weights_only=True)["state_dict"]
    freeze = "optimizer={name: sgd, lr: 0.0}"
    part = ["run=part", "seed=7", freeze, f"init_from={LAST}#encoder.0"]
    assert dbp("fit", *RUN, *part) == 0
    found = torch.load("lightning_logs/part/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    same = {name for name in given if found[name].equal(given[name])}
    assert {"encoder.0.weight", "encoder.0.bias"} <= same
    assert "encoder.2.weight" not in same


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["init_from=none.ckpt"], "init_from=none.ckpt: no such file"),
        (["init_from={last}", "task.hidden=[4]"], "its weights do not fit: encoder.0.bias is [8] there and [4] here"),
        (["init_from={last}#encodr"], "no weights are called 'encodr'. Did you mean 'encoder'?"),
        (["init_from={last}#encoder.0", "task.hidden=[4]"], "do not fit: encoder.0.bias is [8] there and [4] here"),
        (["init_from=text"], "init_from=text: no checkpoint, or a damaged one"),
    ],
)
def test_weights_that_do_not_fit_are_named(dbp, capsys, more, said):
    assert dbp("fit", *RUN, "run=r", "trainer.max_epochs=1") == 0
    Path("text").write_text("x")
    before = sorted(Path().rglob("*"))
    assert dbp("fit", *RUN, "run=new", *(word.replace("{last}", str(LAST)) for word in more)) == 2
    assert said in capsys.readouterr().err
    assert sorted(Path().rglob("*")) == before


def test_scores_that_cannot_be_kept_hide_no_error(dbp, capsys, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(ValueError, match="no decision"):
        dbp("fit", *RUN, "run=r", "solver='faults:Raises'", "estimator=identity")
