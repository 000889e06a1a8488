"""Files from strangers: each is refused in a line, and no code in it runs."""

import ast
import gzip
import os
import pickle
import shutil
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dbp
from dbp.cli import main
from dbp.data import DataError
from dbp.data.idx import LIMIT, read_idx
from dbp.errors import UserError
from dbp.runs.run import load
from dbp.runs.saving import AtomicCheckpointIO

NEEDED = {"task": "slots", "solver": "one_hot", "estimator": "imle"}
GIVEN = [*(f"{key}={value}" for key, value in NEEDED.items()), "data=slots", "data.size=20"]
EVIL = "open('ran', 'w')\n\nclass Evil: ..."


class Payload:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that dbp wrote."""
    folder = tmp_path_factory.mktemp("good")
    where = [f"trainer.default_root_dir={folder}", "trainer.max_epochs=1", "trainer.accelerator=cpu", "run=r"]
    assert main(["fit", *GIVEN, *where]) == 0
    return folder / "lightning_logs" / "r" / "checkpoints" / "last.ckpt"


@pytest.fixture(autouse=True)
def _in_a_folder_with_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused must not be imported, though it could be."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.syspath_prepend(tmp_path / "work")
    monkeypatch.delenv("DBP_RUN", raising=False)
    Path("evil.py").write_text(EVIL)
    Path("ev-il.py").write_text(EVIL)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command line says to it, having run and written nothing."""
    before = {path for path in Path("..").rglob("*") if "__pycache__" not in path.parts}
    code, said = main(list(arguments)), capsys.readouterr().err
    assert code == 2
    assert said.startswith("dbp: error: ")
    assert len(said.splitlines()) <= 4
    assert {path for path in Path("..").rglob("*") if "__pycache__" not in path.parts} - before == set()
    return said


@contextmanager
def memory_below(limit: float) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def with_payload(path: Path, good: Path) -> None:
    torch.save({**torch.load(good, weights_only=True), "more": Payload()}, path)


def payload_in_the_header(path: Path, good: Path) -> None:
    torch.save({**torch.load(good, weights_only=True), "dbp": Payload()}, path)


def payload_as_a_key(path: Path, good: Path) -> None:
    torch.save({**torch.load(good, weights_only=True), "callbacks": {"a": {"b": [Payload()]}}}, path)


def old_format(path: Path, good: Path) -> None:
    torch.save({"state_dict": Payload()}, path, _use_new_zipfile_serialization=False)


def bare_pickle(path: Path, good: Path) -> None:
    path.write_bytes(pickle.dumps(Payload()))


def object_array(path: Path, good: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, x=np.array([Payload()], dtype=object))


def traversal(path: Path, good: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../../outside/data.pkl", pickle.dumps({"state_dict": {}}))
        archive.writestr("/outside", "text")


def bomb(path: Path, good: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a/data.pkl", "w") as file:
        file.write(b"\x80\x02}X\x01\x00\x00\x00xB" + (1 << 26).to_bytes(4, "little"))
        for _ in range(1 << 6):
            file.write(bytes(1 << 20))
        file.write(b"s.")


def far_memo(path: Path, good: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}r" + (1 << 28).to_bytes(4, "little") + b".")


def long_bytes(path: Path, good: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x05\x96" + (1 << 28).to_bytes(8, "little") + b".")


BOMBS = [bomb, far_memo, long_bytes]
CHECKPOINTS = [
    with_payload, payload_in_the_header, payload_as_a_key, old_format, bare_pickle, object_array, traversal, *BOMBS,
]  # fmt: skip


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("make", CHECKPOINTS, ids=lambda make: make.__name__)
def test_a_hostile_checkpoint_is_refused(capsys, good, make, stage):
    path = Path("x.ckpt")
    make(path, good)
    options = ["output=o.npz"] if stage == "predict" else ["trainer.fast_dev_run=true"] if stage == "fit" else []
    refused(capsys, stage, *GIVEN, f"ckpt_path={path}", "trainer.accelerator=cpu", *options)
    with pytest.raises(UserError):
        load(path)
    assert not Path("ran").exists()


@pytest.mark.parametrize("make", BOMBS, ids=lambda make: make.__name__)
def test_a_bomb_is_not_unpacked(capsys, good, make):
    make(Path("x.ckpt"), good)
    with memory_below(20e6):
        refused(capsys, "test", *GIVEN, "ckpt_path=x.ckpt")


NAMES = [
    {"estimator": "evil:Evil"},
    {"estimator": {"name": "imle", "noise": {"name": "evil:Evil"}}},
    {"callbacks": {"evil:Evil": {}}},
    {"estimator": "ev-il:Evil"},
    {"estimator": "evil:"},
    {"estimator": "evil:${callbacks.best.filename}", "callbacks": {"best": {"filename": "Evil"}}},
    {"estimator": "${oc.decode:\"'evil:Evil'\"}"},
    {"seed": "${oc.env:HOME}"},
]


@pytest.mark.parametrize("holds", NAMES, ids=str)
def test_a_checkpoint_cannot_name_code(capsys, good, holds):
    checkpoint = torch.load(good, weights_only=True)
    checkpoint["dbp"]["config"] |= holds
    torch.save(checkpoint, "x.ckpt")
    assert any(name in refused(capsys, "test", "ckpt_path=x.ckpt") for name in ("evil:", "ev-il:", "${"))
    with pytest.raises(UserError):
        load("x.ckpt")
    assert not Path("ran").exists()


def test_a_checkpoint_cannot_say_where_to_write(good, tmp_path):
    checkpoint = torch.load(good, weights_only=True)
    checkpoint["dbp"]["config"] |= {"run": "../../elsewhere", "output": "elsewhere.npz", "ckpt_path": "last"}
    torch.save(checkpoint, "x.ckpt")
    assert main(["fit", "ckpt_path=x.ckpt", "trainer.default_root_dir=.", "callbacks.best=null"]) == 0
    assert [path.name for path in Path("lightning_logs").iterdir()] == ["version_0"]
    assert not list(tmp_path.rglob("*elsewhere*"))


@pytest.mark.parametrize("kind", ["best", "checkpoint"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_checkpoint_cannot_say_what_to_remove(good, tmp_path, kind, inside):
    thesis = tmp_path / "work" / "thesis"
    (thesis / "chapter").mkdir(parents=True)
    folder = tmp_path / "work" / "lightning_logs" / "r" / "checkpoints"
    shutil.copytree(good.parents[1], folder.parents[0])
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    (key,) = (key for key in checkpoint["callbacks"] if key.startswith("Best"))
    paths = ["thesis", str(thesis), str(folder / ".." / ".." / ".." / "thesis"), str(folder / "x" / ".." / "..")]
    if inside:
        (folder / "link").symlink_to(thesis.parent)
        paths.append(str(folder / "link" / "thesis"))
    for path in paths:
        score, where = torch.tensor(1e9), str(folder if inside else good.parent)
        state = {"best_k_models": {path: score}, "kth_best_model_path": path, "kth_value": score}
        checkpoint["callbacks"][key] |= {**state, "best_model_path": path, "last_model_path": path, "dirpath": where}
        states = {key.replace("Best", "ModelCheckpoint"): checkpoint["callbacks"][key], **checkpoint["callbacks"]}
        torch.save({**checkpoint, "callbacks": states}, folder / "last.ckpt")
        other = ["callbacks={best: null, checkpoint: {monitor: val/loss}}"] if kind == "checkpoint" else []
        where = ["trainer.max_epochs=2", "trainer.accelerator=cpu", "trainer.limit_train_batches=1"]
        assert main(["fit", f"ckpt_path={folder / 'last.ckpt'}", *where, *other]) == 0
        assert (thesis / "chapter").is_dir()
        assert folder.is_dir()
    assert len(list(folder.glob("epoch=*.ckpt"))) >= 1


def test_checkpoints_are_written_and_removed_in_the_runs_folder_alone(tmp_path, caplog):
    io, outside = AtomicCheckpointIO(tmp_path / "run"), tmp_path / "thesis"
    outside.mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "link.ckpt").symlink_to(outside)
    for path in (outside, tmp_path / "run" / ".." / "thesis", tmp_path / "run", tmp_path / "run" / "x" / ".."):
        io.remove_checkpoint(path)
        assert "is kept" in caplog.records[-1].message
        with pytest.raises(UserError, match="is outside of the run's folder"):
            io.save_checkpoint({}, path / ".." / "thesis" / "a.ckpt")
    io.remove_checkpoint(tmp_path / "run" / "link.ckpt")  # the link, not what it points to
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "thesis"] or outside.is_dir()
    io.save_checkpoint({}, tmp_path / "run" / "checkpoints" / "a.ckpt")
    io.remove_checkpoint(tmp_path / "run" / "checkpoints" / "a.ckpt")
    assert not any((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize("name", ["best", "checkpoint"])
@pytest.mark.parametrize("filename", ["../../x", "/x", "a/../../x"])
def test_a_filename_stays_in_the_runs_folder(capsys, name, filename):
    said = refused(capsys, "fit", *GIVEN, f"callbacks.{name}.filename={filename}", "trainer.accelerator=cpu")
    assert f"callbacks.{name}.filename={filename}: checkpoints stay in the run's folder" in said


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]\n" for last, name in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = [
    "estimator: !!python/object/apply:os.system [touch ran]",
    "estimator: !!python/object:evil.Evil {}",
    "estimator: !!python/name:evil.Evil",
    "estimator: !!python/module:evil",
    "estimator: ev-il:Evil",
    "task: ${solver}\nsolver: ${task}",
    "task: &a {name: slots, x: *a}",
    f"task: {'[' * 5000}{']' * 5000}",
    f"seed: {'9' * 5000}",
    "trainer: {plugins: {\n" + LAUGHS.replace("\n", ",\n") + "}}",
]


@pytest.mark.parametrize("text", YAML, ids=lambda text: text[:40])
def test_a_hostile_configuration_is_refused(capsys, text):
    Path("x.yaml").write_text(text)
    others = ["data=slots", *(f"{key}={value}" for key, value in NEEDED.items() if f"{key}: " not in text)]
    refused(capsys, "fit", *others, "--config", "x.yaml")
    if "\n" not in text:
        refused(capsys, "fit", *others, text.replace(": ", "=", 1))


def header(*sizes: int) -> bytes:
    return bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)


IDX = {
    "more than there is": (header(4, 4) + bytes(15), "expected 28 bytes of content, found 27"),
    "more than memory": (header(2**32 - 1, 2**32 - 1), "more than the 1,073,741,824 that are read"),
    "more than a tensor can be": (header(*[2**32 - 1] * 255), "more than the 1,073,741,824 that are read"),
    "nothing, in too many ways": (header(0, *[2**32 - 1] * 254), "overflowed"),
    "less than there is": (header(2, 2) + bytes(100 << 20), "expected 16 bytes of content, found more"),
    "all that a limit allows": (header(LIMIT - 8) + bytes(10), "found 18"),
}


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("name", IDX)
def test_a_header_that_lies_is_an_error_and_costs_no_memory(tmp_path, name, suffix):
    content, message = IDX[name]
    path = tmp_path / f"x{suffix}"
    path.write_bytes(gzip.compress(content, 1) if suffix else content)
    with memory_below(5e6), pytest.raises(DataError, match=message):
        read_idx(path)


def test_a_name_inside_an_archive_is_not_followed(tmp_path):
    path = tmp_path / "x.gz"
    with path.open("wb") as file, gzip.GzipFile("../../../outside", "wb", fileobj=file) as archive:
        archive.write(header(3) + b"abc")
    assert read_idx(path).tolist() == list(b"abc")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file() and p.name == "outside"] == []


def test_nothing_is_read_in_a_way_that_could_run_code():
    banned = {"pickle.load", "pickle.loads", "joblib.load", "yaml.load", "eval", "exec", "shutil.unpack_archive"}
    for path in Path(dbp.__file__).parent.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name, keywords = ast.unparse(call.func), {k.arg: ast.unparse(k.value) for k in call.keywords}
            assert name not in banned, path
            assert not name.endswith((".extractall", ".extract")), path
            assert name != "torch.load" or keywords.get("weights_only") == "True", path
            assert keywords.get("allow_pickle", "False") == "False", path
            assert keywords.get("weights_only", "True") == "True", path
