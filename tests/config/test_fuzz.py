"""Mutated command lines, configurations, data and checkpoints: refused in a line, or right. `make fuzz` tries more."""

import gzip
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from dbp.cli import main
from dbp.components import catalog
from dbp.config import KEYS
from dbp.data.idx import read_idx
from dbp.errors import UserError
from dbp.registry.names import BUILTIN
from dbp.registry.signature import Type
from dbp.runs.checkpoints import config_in, verify
from dbp.runs.saving import AtomicCheckpointIO

ROOT = Path(__file__).parents[2]
MANY = int(os.environ.get("DBP_FUZZ", 0))  # examples of each test; otherwise few, and always the same
fuzz = settings(
    max_examples=MANY or 50,
    derandomize=not MANY,
    database=None,
    deadline=20_000,  # milliseconds for one example
    suppress_health_check=list(HealthCheck),
)

# Command lines and configurations ---------------------------------------------------------------------------------

LINE = ["fit", "task=slots", "solver=one_hot", "estimator=imle", "data=slots"]
LINES = [
    [*LINE, "estimator.noise={name: gumbel, scale: 2.0}", "optimizer.lr=0.01", "data.batch_size=${task.items}"],
    [*LINE, "scheduler={name: cosine, T_max: 3}", "callbacks.best=null", "loggers.csv={}", "seed=3", "run=a.b"],
    [*LINE, "task.hidden=[8,8]", "trainer.max_epochs=3", "trainer.precision=64-true", "trainer.devices=1"],
    ["test", "run=r", "ckpt_path=best", "trainer.limit_test_batches=0.5"],
    ["predict", "ckpt_path=x.ckpt", "output=o.npz", "--data.batch_size", "7"],
    ["list", "estimators", "imle"],
    ["list", "solver", "--check"],
]
TEXTS = [path.read_text() for path in sorted((ROOT / "configs").rglob("*.yaml"))]
ODD = st.sampled_from(
    ["", "0", "-1", "1e400", ".nan", "null", "true", "~", "[]", "{}", "[[1]]", "{name: 3}", "{name: imle, name: dvae}",
     "a:B", "os:getcwd", "${seed}", "${", "${a.b.c}", "${oc.env:HOME}", "${oc.decode:'[1'}", "!!python/name:os.system",
     "&a [*a]", "*a", "'", '"', "\0", "\ud800", "é" * 300, "../..", "/", "2024-01-01", "0x1F", "1_000",
     "9" * 5000, "[" * 2000, "x" * 10_000, "--", "--config", "=", ".", "a=b=c", "task", "task.", ".task", "best",
     "last", "\n"]
)  # fmt: skip
CHARACTERS = st.sampled_from("{}[]:,$\"'!&*#%@\\|>?-.= \n\t0aé\0")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | ODD
WORDS = st.sampled_from(["name", "lr", "k", "noise", "hidden", "max_epochs", "best", "csv", "items", *KEYS])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=3)
)


@st.composite
def mutated_text(draw: st.DrawFn, text: str, most: int = 4) -> str:
    for _ in range(draw(st.integers(1, most))):
        at, length = draw(st.integers(0, len(text))), draw(st.integers(0, 8))
        text = text[:at] + draw(CHARACTERS | ODD | st.just("")) + text[at + length :]
    return text


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    line = list(draw(st.sampled_from(LINES)))
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(line) - 1))
        match draw(st.sampled_from(["drop", "double", "value", "text", "odd", "yaml"])):
            case "drop" if len(line) > 1:
                del line[at]
            case "double":
                line.insert(draw(st.integers(0, len(line))), line[at])
            case "value":
                line[at] = line[at].partition("=")[0] + "=" + draw(ODD)
            case "yaml":
                line.append(draw(st.sampled_from(list(KEYS))) + "=" + yaml.safe_dump(draw(VALUES)).strip())
            case "text":
                line[at] = draw(mutated_text(line[at], 2))
            case _:
                line.insert(at, draw(ODD))
    return line


@st.composite
def configurations(draw: st.DrawFn) -> str:
    if draw(st.booleans()):
        return draw(mutated_text(draw(st.sampled_from(TEXTS))))
    known = {key: draw(VALUES) for key in draw(st.sets(st.sampled_from(list(KEYS)), max_size=4))}
    return yaml.safe_dump({**yaml.safe_load(draw(st.sampled_from(TEXTS))), **known})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("DBP_TRACEBACK", "DBP_RUN", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str | None:
    """What a command line prints; None if it is refused, which takes a few lines."""
    assume(not any(argument in ("-h", "--help", "--version") for argument in arguments))
    try:
        code = main(arguments)
    except SystemExit as exit:
        code = exit.code
    out, err = capsys.readouterr()
    if code == 0:
        event("accepted")
        return out
    assert code in (1, 2)  # 1: `list --check` found a component that cannot be imported
    assert err.startswith("dbp: error: ") or code == 1
    assert err.count("\n") <= 10 + "".join(arguments).count("\n")  # which may be repeated
    event("refused")
    return None


@fuzz
@given(line=lines())
def test_a_command_line_is_refused_in_short_or_means_one_thing(folder, capsys, line):
    stage = line[0] in ("fit", "test", "validate", "predict")
    printed = answer(capsys, [*line, "--print_config"] if stage else line)
    if printed and stage:
        Path("again.yaml").write_text(printed)
        assert answer(capsys, ["fit", "--config", "again.yaml", "--print_config"]) == printed


@fuzz
@given(text=configurations())
def test_a_configuration_is_refused_in_short_or_means_one_thing(folder, capsys, text):
    Path("x.yaml").write_bytes(text.encode(errors="surrogatepass"))
    needed = ["task=slots", "solver=one_hot", "estimator=imle", "data=slots"]
    given = [override for override in needed if f"{override.split('=')[0]}:" not in text]
    if printed := answer(capsys, ["fit", "--config", "x.yaml", *given, "--print_config"]):
        Path("again.yaml").write_text(printed)
        assert answer(capsys, ["fit", "--config", "again.yaml", "--print_config"]) == printed


# Options that fit their types -------------------------------------------------------------------------------------

RUN = ["trainer.fast_dev_run=true", "trainer.accelerator=cpu", "callbacks={}", "loggers={}"]
ONE_HOT, IMLE = ("one_hot", {}), ("imle", {})
TASKS = {
    "slots": {"task": ("slots", {}), "data": ("slots", {"workers": 0}), "solver": ONE_HOT, "estimator": IMLE},
    "dvae": {
        "task": ("dvae", {"shape": [8, 8]}),
        "data": ("digits", {"workers": 0}),
        "solver": ONE_HOT,
        "estimator": IMLE,
    },
    "vae": {
        "task": ("vae", {"shape": [8, 8]}),
        "data": ("digits", {"workers": 0}),
        "solver": ("threshold", {}),
        "estimator": ("arms", {}),
    },
    "sorting": {
        "task": ("sorting", {"width": 8}),
        "data": ("sequences", {"workers": 0}),
        "solver": ("signum", {}),
        "estimator": ("straight_through", {}),
    },
}
SIMPLE = {
    "bool": st.booleans(),
    "int": st.sampled_from([-1, 0, 1, 2, 3, 4, 8, 64]),
    "float": st.sampled_from([-1.0, 0.0, 0.1, 1.0, 10.0, 1e30]),
    "str": st.sampled_from(["", "x"]),
    "path": st.sampled_from(["", "x"]),
    "none": st.none(),
}


def of_type(type_: Type) -> st.SearchStrategy[Any]:
    """Values that an option of this type takes."""
    match type_:
        case Type("union", parts):
            return st.one_of(map(of_type, parts))
        case Type("literal", words):
            return st.sampled_from(words)
        case Type("list" | "tuple", parts):
            return st.lists(of_type(parts[0]) if parts else SIMPLE["int"], max_size=3)
        case Type("class", (path,)):
            kind = catalog.kind_of(path)
            return component(kind) if kind else st.none()
    return SIMPLE.get(type_.form, VALUES)


@st.composite
def component(draw: st.DrawFn, kind: str, name: str | None = None) -> dict[str, Any]:
    """Any component of a kind, or that of this name, with one of its options perhaps."""
    registry = catalog[kind]
    built_in = [name for name, claims in registry.claims().items() if claims[0].source == BUILTIN]
    name = name or draw(st.sampled_from(built_in))
    options = registry.signature(name).options.values()
    needed = [option for option in options if not option.default and option.name not in registry.hidden]
    free = [option for option in options if option.default]
    changed = [draw(st.sampled_from(free))] if free and not draw(st.integers(0, 3)) else []
    return {"name": name, **{option.name: draw(of_type(option.type)) for option in [*needed, *changed]}}


@st.composite
def runs(draw: st.DrawFn) -> dict[str, Any]:
    task = draw(st.sampled_from(list(TASKS)))
    given = {key: {"name": name, **options} for key, (name, options) in TASKS[task].items()}
    more = {key: draw(component(key)) for key in ("solver", "estimator") if draw(st.booleans())}
    more |= {key: draw(component(key)) for key in ("optimizer", "scheduler") if not draw(st.integers(0, 3))}
    changed = {key: {**draw(component(key, part["name"])), **part} for key, part in given.items()}
    return {**changed, **more}


@settings(fuzz, deadline=120_000)  # an integer program for every decision takes its time
@given(config=runs())
def test_options_that_fit_their_types_run_or_are_refused_in_short(folder, capsys, config):
    Path("x.yaml").write_text(yaml.safe_dump(config))
    answer(capsys, ["fit", "--config", "x.yaml", *RUN])


# Files --------------------------------------------------------------------------------------------------------------


@st.composite
def damage(draw: st.DrawFn) -> tuple[str, int, int]:
    kinds = ["truncated", "flipped", "flipped", "zeroed", "removed", "inserted", "moved"]
    return draw(st.sampled_from(kinds)), draw(st.integers(0, 2**32)), draw(st.integers(0, 2**32))


def damaged(content: bytes, kind: str, seed: int, where: int) -> bytes:
    """Content with a fault; half of them are in the last kilobyte, where archives have their directory."""
    rng, size = random.Random(seed), len(content)
    start = where // 2 % size if where % 2 else max(0, size - 1 - where // 2 % 1024)
    length = rng.choice([1, 4, 64, 1000])
    match kind:
        case "truncated":
            return content[:start]
        case "flipped":
            flipped = bytearray(content)
            for _ in range(rng.choice([1, 1, 2, 8])):
                flipped[min(size - 1, start + rng.randrange(length))] ^= 1 << rng.randrange(8)
            return bytes(flipped)
        case "zeroed":
            return content[:start] + bytes(len(content[start : start + length])) + content[start + length :]
        case "removed":
            return content[:start] + content[start + length :]
        case "inserted":
            return content[:start] + rng.randbytes(length) + content[start:]
    return content[start:] + content[:start]


@contextmanager
def refusal() -> Iterator[None]:
    """Lets an error pass that is meant for users."""
    try:
        yield
        event("read")
    except UserError as error:
        event("refused")
        if str(error).count("\n") > 1:
            raise


IMAGES = torch.randint(0, 256, (40, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IDX = b"\0\0\x08\3" + b"".join(size.to_bytes(4, "big") for size in IMAGES.shape) + IMAGES.numpy().tobytes()


@fuzz
@given(fault=damage(), packed=st.booleans())
def test_damaged_data_is_an_error_or_what_it_was(tmp_path, fault, packed):
    path = tmp_path / ("x.gz" if packed else "x")
    path.write_bytes(damaged(gzip.compress(IDX, mtime=0) if packed else IDX, *fault))
    with refusal():
        assert read_idx(path, sha256(IDX).hexdigest()).equal(IMAGES)
    with refusal():
        read_idx(path)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Any]:
    """The bytes of a checkpoint, and what is in it."""
    folder = tmp_path_factory.mktemp("good")
    where = [f"trainer.default_root_dir={folder}", "trainer.max_epochs=1", "trainer.accelerator=cpu", "run=r"]
    assert main([*LINE, *where, "data.size=20", "task.hidden=[4]"]) == 0
    path = folder / "lightning_logs" / "r" / "checkpoints" / "last.ckpt"
    return path.read_bytes(), torch.load(path, weights_only=True)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@fuzz
@given(fault=damage())
def test_a_damaged_checkpoint_is_an_error_or_what_it_was(tmp_path, good, fault):
    content, held = good
    path = tmp_path / "x.ckpt"
    path.write_bytes(damaged(content, *fault))
    with refusal():
        verify(path)
        config, read = config_in(path), AtomicCheckpointIO().load_checkpoint(path)
        assert config == held["dbp"]["config"]
        assert same(read, held)


@settings(fuzz, max_examples=MANY // 10 or 5)
@given(fault=damage(), stage=st.sampled_from(["fit", "test", "validate"]))
def test_a_damaged_checkpoint_is_said_in_short(folder, capsys, good, fault, stage):
    Path("x.ckpt").write_bytes(damaged(good[0], *fault))
    answer(capsys, [stage, "ckpt_path=x.ckpt", f"trainer.default_root_dir={folder}", "callbacks.best=null"])
