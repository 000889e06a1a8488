"""The command line: what users get wrong costs them nothing, and a run can be stopped, resumed and measured."""

import csv
import json
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dbp.cli import COMMANDS, main
from dbp.components import catalog
from dbp.errors import Stopped, UserError

GIVEN = ["task=slots", "solver=one_hot", "estimator=imle", "data=slots"]
FILES = {
    "toy.yaml": "task: slots\nsolver: one_hot\nestimator: imle\ndata: slots\n",
    "broken.yaml": "task: {name: slots",
    "twice.yaml": "task: slots\nsolver: one_hot\ntask: dvae\n",
    "list.yaml": "- task\n",
    "key.yaml": "estimatr: imle\n",
    "empty.ckpt": "",
}
USAGE = [
    (["fti"], "unknown command 'fti'. Did you mean 'fit'?"),
    (["fit"], "no task, no solver, no estimator, no data: give a --config that has it, or task=NAME"),
    (["fit", "estimatr=imle"], "'estimatr=imle': there is no key 'estimatr'. Did you mean 'estimator'?"),
    (
        ["fit", "--confg", "toy.yaml"],
        "'--confg': there is no key 'confg'. Did you mean '--config' or '--print_config'?",
    ),
    (["fit", "--config", "toyy.yaml"], "--config toyy.yaml: no such file or experiment. Did you mean 'toy.yaml'"),
    (["fit", "--config", "broken.yaml"], "--config broken.yaml: while parsing a flow mapping"),
    (["fit", "--config", "twice.yaml"], "found duplicate key task"),
    (["fit", "--config", "list.yaml"], "--config list.yaml: expected a mapping at the top level, got a list"),
    (["fit", "--config", "key.yaml"], "--config key.yaml: there is no key 'estimatr'. Did you mean 'estimator'?"),
    (["fit", "estimator"], "'estimator': an override is written estimator=VALUE or estimator.option=VALUE"),
    (["fit", "estimator..lam=3"], "'estimator..lam=3': an override is written"),
    (["fit", "estimator={name: imle"], "'estimator={name: imle': while parsing a flow mapping"),
    (["list", "estimater"], "unknown kind 'estimater'. Did you mean 'estimator' or 'estimators'?"),
    (["list", "estimator", "imel"], "unknown estimator 'imel'. Did you mean 'imle' or 'simple'?"),
    (["list", "estimator", "imle", "lam"], "unexpected 'lam'"),
    (["list", "--chek"], "unexpected '--chek'"),
    (["plot", "solver"], "the following arguments are required: NAME"),
    (["plot", "solver", "topk"], "unknown solver 'topk'. Did you mean 'top_k'?"),
    (["plot", "solver", "top_k", "solver.k=few"], "solver.k: expected"),
    (["plot", "solver", "top_k", "solver.kk=3"], "solver: solver 'top_k' has no option 'kk'. Did you mean 'k'?"),
    (["plot", "solver", "top_k", "seed=3"], "'seed=3': there is no key 'seed'.\n  keys (KEY=VALUE): solver, output"),
    (["plot", "solver", "top_k", "solver=rank"], "plot: the solver is 'top_k' already; give its options"),
    (["plot", "solver", "top_k", "output=no/x.png"], "plot: output=no/x.png: there is no folder no"),
    (["plot", "solver", "top_k", "output=x.pdf"], "plot: output=x.pdf: pictures are PNG files"),
    (["test", "ckpt_path=nosuch.ckpt"], "ckpt_path=nosuch.ckpt: no such file"),
    (["test", "ckpt_path=emty.ckpt"], "ckpt_path=emty.ckpt: no such file. Did you mean 'empty.ckpt'?"),
    (["test", "ckpt_path=empty.ckpt"], "ckpt_path=empty.ckpt: no checkpoint, or a damaged one"),
    (["test", "ckpt_path=foreign.ckpt"], "ckpt_path=foreign.ckpt: not written by dbp (no configuration in it)"),
    (["test", "ckpt_path=best"], "ckpt_path=best: of which run? give run=NAME, or ckpt_path=FILE"),
    (["test", "ckpt_path=last", "run=none"], "ckpt_path=last: there is no checkpoint in lightning_logs/none"),
]
CONFIGURATION = [
    (["estimator=imel"], "unknown estimator 'imel'. Did you mean 'imle' or 'simple'?"),
    (["estimator.betaa=3"], "estimator: estimator 'imle' has no option 'betaa'."),
    (["estimator.lamb=3"], "estimator: estimator 'imle' has no option 'lamb'. Did you mean 'lam'?"),
    (["estimator.lam=abc"], "estimator.lam: expected float, got 'abc'"),
    (["estimator.noise=gumble"], "unknown noise 'gumble'. Did you mean 'gumbel'?"),
    (["estimator.noise.scal=2"], "estimator.noise: noise 'gumbel' has no option 'scal'. Did you mean 'scale'?"),
    (["solver=top_k", "solver.k=2.5"], "solver.k: expected int, got 2.5"),
    (["solver=top_k"], "solver: solver 'top_k' needs k"),
    (
        ["estimator=[1]"],
        "estimator: expected a name (adaptive_imle) or a mapping ({name: adaptive_imle, ...}), got [1]",
    ),
    (["optimizer.lr=abc"], "optimizer.lr: expected float, got 'abc'"),
    (["optimizer=adan"], "unknown optimizer 'adan'. Did you mean 'adam'"),
    (["scheduler=cosine"], "scheduler: scheduler 'cosine' needs T_max"),
    (["data=mnits"], "unknown data 'mnits'. Did you mean 'mnist'"),
    (["data.batch_size=${solver.kk}"], "data.batch_size: Interpolation key 'solver.kk' not found"),
    (["run=${oc.env:DBP_NOPE}"], "the environment variable DBP_NOPE is not set"),
    (
        ["trainer.max_epoch=3"],
        "trainer: pytorch_lightning.Trainer has no option 'max_epoch'. Did you mean 'max_epochs'",
    ),
    (["trainer.max_epochs=x"], "trainer.max_epochs: expected int or null, got 'x'"),
    (["trainer.logger=true"], "trainer.logger: logger is set by the key loggers, next to trainer"),
    (["trainer.callbacks=[]"], "trainer.callbacks: callbacks is a key of its own, next to trainer"),
    (["trainer.accelerator=cpuu"], "trainer.accelerator: expected one of 'auto', 'cpu', 'gpu'"),
    (["trainer=3"], "trainer: expected a mapping, got 3"),
    (["callbacks.earlystopping={}"], "unknown callback 'earlystopping'. Did you mean 'early_stopping'?"),
    (["callbacks.early_stopping={}"], "callbacks.early_stopping: callback 'early_stopping' needs monitor"),
    (["callbacks.best=3"], "callbacks.best: expected a mapping of options, or null, got 3"),
    (["loggers=csv"], "loggers: expected a mapping of names to options ({csv: {}})"),
    (["seed=x"], "seed: expected int or null, got 'x'"),
    (["estimator=nosuch:Thing"], "estimator 'nosuch:Thing' cannot be imported:\n  ModuleNotFoundError"),
]
EVALUATION = [
    (["test"], "test of an untrained model: give ckpt_path=FILE"),
    (["predict", "ckpt_path=foreign.ckpt"], "predict writes an .npz file: give output=FILE.npz, got None"),
    (["predict", "ckpt_path=foreign.ckpt", "output=o.csv"], "predict writes an .npz file: give output=FILE.npz"),
    (["predict", "ckpt_path=foreign.ckpt", "output=no/o.npz"], "output=no/o.npz: there is no folder no"),
]
ERRORS: list[tuple[list[str], str]] = [
    *USAGE,
    *((["fit", *GIVEN, *overrides], message) for overrides, message in CONFIGURATION),
    *((["fit" if not a else a[0], *GIVEN, *a[1:]], message) for a, message in EVALUATION),
]
COLLECT = """
import contextlib, io, json, sys
from dbp.cli import COMMANDS, main
from dbp.components import catalog
for arguments in json.loads(sys.argv[1]):
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        try:
            code = main(arguments)
        except SystemExit as exit:
            code = exit.code
    print(json.dumps([code, stderr.getvalue(), "torch" in sys.modules]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("errors")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    with zipfile.ZipFile(folder / "foreign.ckpt", "w") as archive:
        header = {"state_dict": {}, "pytorch-lightning_version": "2.6.6"}
        archive.writestr("archive/data.pkl", pickle.dumps(header, protocol=2))
    return folder


@pytest.fixture(scope="module")
def answers(folder: Path) -> list[Any]:
    """What one process without torch says to all of them."""
    arguments = json.dumps([arguments for arguments, _ in ERRORS])
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, arguments], cwd=folder, capture_output=True, text=True, env=_environment()
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _environment(**extra: str) -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]), **extra}


@pytest.mark.parametrize("index", range(len(ERRORS)), ids=[" ".join(arguments) for arguments, _ in ERRORS])
def test_what_users_get_wrong_is_said_in_short_without_torch(answers: list[Any], index: int) -> None:
    code, stderr, torch = answers[index]
    assert code == 2
    assert stderr.startswith("dbp: error: ")
    assert ERRORS[index][1] in stderr
    assert len(stderr.splitlines()) <= 4
    assert not torch


@pytest.mark.parametrize(
    "arguments", [["--help"], ["fit", "--help"], ["list"], ["list", "task", "dvae"], ["fit", *GIVEN, "estimator=imel"]]
)
def test_answers_come_at_once(arguments: list[str]) -> None:
    spent = []
    while not spent or (min(spent) >= 0.5 and len(spent) < 10):  # others who share a core only make it longer
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "dbp", *arguments], capture_output=True, env=_environment())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == (2 if "estimator=imel" in arguments else 0)
        spent.append(after.ru_utime - before.ru_utime)
    assert min(spent) < 0.5


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbp.cli._command", lambda argv: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main([])


def test_a_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBP_TRACEBACK", "1")
    with pytest.raises(Exception, match="unknown command"):
        main(["fti"])


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(argv: list[str]) -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)  # as Lightning does

    monkeypatch.setattr("dbp.cli._command", interrupted)
    assert main([]) == 130


RUN = [*GIVEN, "data.size=64", "task.hidden=[8]", "trainer.accelerator=cpu", "trainer.max_epochs=3"]


def rows(run: str) -> list[dict[str, str]]:
    with Path("lightning_logs", run, "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights(run: str) -> dict[str, Any]:
    import torch

    return torch.load(Path("lightning_logs", run, "checkpoints", "last.ckpt"), weights_only=True)["state_dict"]


def same(a: str, b: str) -> bool:
    first, second = weights(a), weights(b)
    return all(first[key].equal(second[key]) for key in first) and rows(a) == rows(b)


def test_a_run_has_one_folder_with_everything(dbp: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert dbp("fit", *RUN) == 0
    assert "run: lightning_logs/version_0  best: " in capsys.readouterr().out
    names = {path.name for path in Path("lightning_logs/version_0").rglob("*")}
    assert {"config.yaml", "metrics.csv", "checkpoints", "last.ckpt"} <= names
    assert any("tfevents" in name for name in names)
    assert [row["epoch"] for row in rows("version_0")] == ["0", "1", "2"]
    assert list(rows("version_0")[0])[:2] == ["epoch", "step"]
    assert not any(key.endswith("_step") for key in rows("version_0")[0])

    assert dbp("fit", "--config", "lightning_logs/version_0/config.yaml") == 0  # the same again, in the next folder
    assert same("version_0", "version_1")


def test_the_same_command_starts_and_resumes(dbp: Any) -> None:
    schedule = ["scheduler={name: cosine, T_max: 3}", "ckpt_path=last"]
    assert dbp("fit", *RUN, *schedule, "run=whole") == 0
    assert dbp("fit", *RUN, *schedule, "run=cut", "trainer.max_epochs=1") == 0
    assert len(rows("cut")) == 1
    assert dbp("fit", *RUN, *schedule, "run=cut") == 0
    assert same("whole", "cut")


def test_lines_after_the_resumed_epoch_are_written_anew(dbp: Any) -> None:
    assert dbp("fit", *RUN, "run=a", "callbacks.checkpoint={save_top_k: -1, every_n_epochs: 1}") == 0
    once = rows("a")
    first = next(Path("lightning_logs/a/checkpoints").glob("epoch=0-*.ckpt"))
    assert dbp("fit", f"ckpt_path={first}", "trainer.max_epochs=2") == 0  # in the folder of the checkpoint
    assert rows("a") == once[:2]


def test_a_checkpoint_is_enough_to_test_and_predict(dbp: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    assert dbp("fit", *RUN, "run=r") == 0
    trained = rows("r")
    assert dbp("test", "run=r", "ckpt_path=best") == 0
    assert "test/loss" in capsys.readouterr().out
    assert [{k: v for k, v in row.items() if not k.startswith("test/")} for row in rows("r")] == trained
    assert sum(bool(row["test/loss"]) for row in rows("r")) == 1
    assert dbp("predict", "ckpt_path=lightning_logs/r/checkpoints/last.ckpt", "output=p.npz") == 0
    with np.load("p.npz") as arrays:
        assert len({len(arrays[name]) for name in arrays}) == 1
    assert sorted(p.name for p in Path("lightning_logs").iterdir()) == ["r"]


def test_a_checkpoint_loads_in_python(dbp: Any) -> None:
    import torch

    from dbp.runs.run import load

    assert dbp("fit", *RUN, "run=r", "trainer.max_epochs=1") == 0
    path = Path("lightning_logs/r/checkpoints/last.ckpt")
    task = load(path)
    assert not task.training
    assert all(task.state_dict()[key].equal(value) for key, value in weights("r").items())
    header = torch.load(path, weights_only=True)["dbp"]
    assert header["config"]["estimator"]["name"] == "imle"


OWN = """
import dbp

class Mine(dbp.estimators.Identity):
    pass
"""


def test_own_classes_load_if_they_are_trusted(dbp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dbp.runs.run import load

    Path("own_estimator.py").write_text(OWN)
    monkeypatch.syspath_prepend(os.getcwd())
    assert dbp("fit", *RUN, "estimator=own_estimator:Mine", "run=r", "trainer.max_epochs=1") == 0
    path = "lightning_logs/r/checkpoints/last.ckpt"
    with pytest.raises(UserError, match=r"dbp.load\(path, trust=\['own_estimator:Mine'\]\)"):
        load(path)
    with pytest.raises(UserError, match="the checkpoint names 'own_estimator:Mine'"):
        load(path, trust=["own_estimator:Other"])
    import own_estimator

    for trust in (["own_estimator:Mine"], [own_estimator.Mine]):
        assert type(load(path, trust=trust).estimator) is own_estimator.Mine


@pytest.mark.parametrize("start", [["-m", "dbp"], ["bin/dbp"]])
def test_modules_of_the_current_folder_are_found(tmp_path: Path, start: list[str]) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "dbp").write_text("import sys; from dbp.cli import main; sys.exit(main())")  # as pip writes it
    (tmp_path / "own_estimator.py").write_text(OWN)
    line = ["fit", "task=slots", "solver=one_hot", "data=slots", "estimator=own_estimator:Mine", "--print_config"]
    done = subprocess.run(
        [sys.executable, *start, *line], cwd=tmp_path, env=_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "name: own_estimator:Mine" in done.stdout


def test_a_run_is_not_overwritten(dbp: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert dbp("fit", *RUN, "run=r", "trainer.max_epochs=1") == 0
    assert dbp("fit", *RUN, "run=r") == 2
    assert "run=r: lightning_logs/r has checkpoints; give ckpt_path=last to resume" in capsys.readouterr().err


def test_what_the_command_line_changes_is_what_runs(dbp: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    assert dbp("fit", *RUN, "run=r", "trainer.max_epochs=1") == 0
    assert dbp("fit", "run=r", "ckpt_path=last", "optimizer.lr=0.25", "trainer.max_epochs=2") == 0
    state = torch.load("lightning_logs/r/checkpoints/last.ckpt", weights_only=True)
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == 0.25
    assert state["dbp"]["config"]["optimizer"]["lr"] == 0.25
    assert dbp("fit", "run=r", "ckpt_path=last", "optimizer=sgd") == 2
    assert "optimizer: the checkpoint holds the state of adam, which sgd cannot resume" in capsys.readouterr().err


def test_a_restarted_job_goes_on_and_another_configuration_does_not(dbp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")  # Lightning: no cluster environment, but the job has its number
    assert dbp("fit", *RUN) == 0
    before = Path("lightning_logs/job_7/checkpoints/last.ckpt").stat().st_mtime_ns
    assert dbp("fit", *RUN) == 0  # nothing left to train
    assert Path("lightning_logs/job_7/checkpoints/last.ckpt").stat().st_mtime_ns == before
    assert dbp("fit", *RUN, "seed=1") == 0
    assert sorted(p.name for p in Path("lightning_logs").iterdir()) == ["job_7", "job_7_1"]


@pytest.mark.parametrize("name", ["estimator", "callback"])
def test_a_pickle_that_asks_for_more_is_refused(dbp: Any, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    assert dbp("fit", *RUN, "run=r", "trainer.max_epochs=1") == 0
    path = Path("lightning_logs/r/checkpoints/last.ckpt")
    torch.save({**torch.load(path, weights_only=True), "more": _Marker()}, path)
    assert dbp("test", f"ckpt_path={path}") == 2
    assert "holds more than plain data and tensors, and is refused" in capsys.readouterr().err
    assert not Path("ran").exists()


class _Marker:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def test_a_checkpoint_of_another_shape_is_said_in_short(dbp: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert dbp("fit", *RUN, "run=r", "trainer.max_epochs=1") == 0
    assert dbp("test", "run=r", "ckpt_path=last", "task.hidden=[4]") == 2
    assert "Error(s) in loading state_dict for Slots" in capsys.readouterr().err


def test_debugging_runs_leave_no_folder(dbp: Any) -> None:
    assert dbp("fit", *RUN, "trainer.fast_dev_run=true") == 0
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_that_was_stopped_says_how_to_go_on(tmp_path, monkeypatch, capsys, rank):
    def stopped(argv: list[str]) -> int:
        raise Stopped(signal.SIGTERM, 5, str(last.absolute()), rank)

    monkeypatch.chdir(tmp_path)
    line = ["fit", *GIVEN, "trainer.max_epochs=1", "trainer.accelerator=cpu", "data.size=20", "run=r", "ckpt_path=last"]
    assert main(line) == 0
    last = Path("lightning_logs/r/checkpoints/last.ckpt")
    monkeypatch.setattr("dbp.cli._command", stopped)
    assert main(line) == 128 + signal.SIGTERM
    said = f"stopped by SIGTERM at step 5; to resume: python -m dbp fit ckpt_path={last}\n"
    assert capsys.readouterr().err.endswith(said) == (rank == 0)


HELP = [["--help"], *([command, "--help"] for command in COMMANDS), ["list"]]
PAGES = [*HELP, *(["list", kind, name] for kind, registry in catalog.items() for name in registry.claims())]


def test_help_is_written_for_terminals_of_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for arguments in PAGES:
        with suppress(SystemExit):  # argparse ends --help with one
            assert main(arguments) == 0
        page = capsys.readouterr().out
        assert page
        for line in page.splitlines():
            assert len(line) <= 80 or "<http" in line, (arguments, line)  # an address cannot be broken
            assert not re.search(r"on_nonfinite\S", line)
