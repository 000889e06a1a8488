"""README.md and docs/*.md, as they stand: every command and block is run in the order of its page, in an empty folder.

`HOW` declares how, or why not. A command or block without an entry is a failure, and so is an entry without one.
"""

import gzip
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from pages import PAGES, ROOT, Item, items

from dbp.cli import main
from dbp.components import catalog
from dbp.data.mnist import MNIST, Official

BATCHES = ("trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1")
SHORT = ("trainer.max_epochs=1", *BATCHES, "callbacks.pictures=null")


@dataclass
class Reader:
    """Does what a page says in its folder; the blocks of Python of a page are one session."""

    folder: Path
    patch: pytest.MonkeyPatch
    session: dict[str, Any] = field(default_factory=lambda: {"__name__": "session"})


How = Callable[[Item, Reader], object]


def dbp(*arguments: str) -> str:
    """Runs a command line of dbp, which must succeed, and returns what it prints."""
    out = StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        try:
            code = main(arguments)
        except SystemExit as end:  # argparse, after --help
            code = int(end.code or 0)
    assert code == 0, f"exit code {code}\n{out.getvalue()}"
    return out.getvalue()


def run(*more: str) -> How:
    """`python -m dbp ...` with more overrides, to make it short."""

    def how(item: Item, reader: Reader) -> None:
        python, module, name, *arguments = shlex.split(item.text)
        assert (python, module, name) == ("python", "-m", "dbp")
        dbp(*arguments, *more)

    return how


def below(metric: str, limit: float) -> How:
    """`python -m dbp ...`, which prints a metric below a limit."""

    def how(item: Item, reader: Reader) -> None:
        printed = dict(line.split() for line in dbp(*shlex.split(item.text)[3:]).splitlines() if line.count("/") == 1)
        assert float(printed[metric]) < limit

    return how


def completes(item: Item, reader: Reader) -> None:
    """`eval "$(dbp ...)"`: the inner command prints a script."""
    inner = re.fullmatch(r'eval "\$\(dbp (.+)\)"', item.text)
    assert inner
    assert "complete" in dbp(*shlex.split(inner[1]))


def script(item: Item, reader: Reader) -> None:
    """`python FILE`."""
    runpy.run_path(shlex.split(item.text)[1])


def session(old: str = "", new: str = "") -> How:
    """A block of Python, with one thing replaced."""

    def how(item: Item, reader: Reader) -> None:
        assert old in item.text
        exec(compile(item.text.replace(old, new), "session", "exec"), reader.session)

    return how


def written(item: Item, reader: Reader) -> None:
    """A block that is a file."""
    Path(item.file).write_text(item.text, encoding="utf-8")


def laid_over(experiment: str, *more: str) -> How:
    """A block of YAML, as a second file over an experiment."""

    def how(item: Item, reader: Reader) -> None:
        Path("mine.yaml").write_text(item.text, encoding="utf-8")
        dbp("fit", "--config", experiment, "--config", "mine.yaml", *more)

    return how


def target(item: Item, reader: Reader) -> None:
    """`make TARGET`."""
    name = shlex.split(item.text)[1]
    assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def declared(item: Item, reader: Reader) -> None:
    """`pip install NAME[EXTRA]`, of this project."""
    name, extra = re.fullmatch(r"([\w-]+)(?:\[(\w+)\])?", shlex.split(item.text)[-1]).groups()  # type: ignore[union-attr]
    project = (ROOT / "pyproject.toml").read_text()
    assert f'name = "{name}"' in project
    assert extra is None or re.search(rf"^{extra} = \[", project, re.MULTILINE)


def installed(item: Item, reader: Reader) -> None:
    """`pip install FOLDER`: its entry points and its modules, without pip."""
    name = shlex.split(item.text)[-1].partition("[")[0]
    folder = next(place / name for place in (reader.folder, ROOT) if (place / name).is_dir())
    project = (folder / "pyproject.toml").read_text()
    points = re.findall(r'^(\[)project\.entry-points\."(.+)"\]\n((?:.+\n)+)', project, re.MULTILINE)
    distribution = re.search(r'^name = "(.+)"', project, re.MULTILINE)[1]  # type: ignore[index]
    info = reader.folder / f"{distribution.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(
        "".join(f"[{group}]\n{lines}".replace('"', "") for _, group, lines in points)
    )
    reader.patch.syspath_prepend(folder / "src" if (folder / "src").is_dir() else folder)
    forget_plugins()


def forget_plugins() -> None:
    """Registries look for installed packages once in a process."""
    for registry in catalog.values():
        vars(registry).pop("_plugins", None)


def there(path: str) -> How:
    """Something that would be needed is there, in the page's folder or in the repository."""

    def how(item: Item, reader: Reader) -> None:
        assert [*reader.folder.glob(path), *ROOT.glob(path)]

    return how


def left(reason: str) -> How:
    """Not run."""
    return lambda item, reader: None


HOW: dict[str, dict[str, How]] = {
    "README.md": {
        "make demo": target,
        "make test": target,
        "source .venv/bin/activate": left("make has an environment of its own"),
        "pip install discrete-backprop": declared,
        "pip install 'discrete-backprop[sparse]'": declared,
        "pip install -e .": there("pyproject.toml"),
        "python -m dbp fit --config dvae/digits": run("trainer.max_epochs=1", *BATCHES),
        "python -m dbp fit --config dvae/digits estimator=imle estimator.lam=0.1 estimator.noise.scale=0.3": run(
            *SHORT
        ),
        "python -m dbp fit --config dvae/identity data.root=data trainer.max_epochs=5": run(*SHORT),
        "python -m dbp fit --config slots/gumbel": run(*SHORT),
        "python -m dbp fit --config sorting/dense trainer.max_epochs=4": run(*SHORT, "data.size=4000"),
        "python -m dbp fit --config vae/linear estimator=disarm data=digits task.shape=[8,8]": run(*SHORT),
        "python -m dbp fit --config dvae/digits --config trainer/ddp": run("--print_config"),  # runs in tests/runs
        "task: {name: dvae, rows: 20, columns: 20, hidden: [512, 256]}": laid_over("dvae/imle", *SHORT),
        "python -m dbp list": run(),
        "python -m dbp list estimator imle": run(),
        "python -m dbp list config dvae/digits": run(),
        "python -m dbp fit --help": run(),
        "python -m dbp fit --config dvae/digits run=first trainer.max_epochs=5": run(*SHORT),
        "python -m dbp test run=first ckpt_path=best": run(),
        "python -m dbp validate ckpt_path=lightning_logs/first/checkpoints/last.ckpt": run(),
        "python -m dbp predict run=first ckpt_path=last output=codes.npz": run(),
        "tensorboard --logdir lightning_logs": there("lightning_logs/first/events.out.tfevents.*"),
        "python -m dbp fit --config dvae/digits run=second ckpt_path=last": run(*SHORT),
        "python -m dbp fit ckpt_path=lightning_logs/first/checkpoints/last.ckpt "
        "trainer.max_epochs=8 optimizer.lr=3e-4": run(),
        "python -m dbp fit --config dvae/digits init_from=lightning_logs/first/checkpoints/last.ckpt#encoder": run(
            *SHORT
        ),
        "python -m dbp audit solver=top_k solver.k=3 n=8 "
        "estimator=identity,imle,straight_through,perturbed,simple": run("draws=200"),
        "python -m dbp plot solver top_k solver.k=5": run(),
        "python -m dbp list solver": run(),
        "import torch": session(),
        '@dbp.perturbed(num_samples=1000, sigma=0.5, noise="gumbel")': session(),
        'solver = dbp.build("solver", {"name": "top_k", "k": 10})': session(),
        "pip install ./plugins/dbp-reinmax": installed,
        "python -m dbp fit --config dvae/digits solver=one_hot estimator=reinmax": run(*SHORT),
        "python -m dbp new plugin dbp-mine --kind estimator": run(),
        "make bench-solvers": target,
        "make bench-estimators": target,
    },
    "clusters.md": {
        "#!/bin/bash": left("tests/slurm/requeue.py submits it to a real SLURM"),
        "sbatch train.sh trainer.max_epochs=100": left("likewise"),
        "make test-slurm": target,
        "make test": target,
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun --standalone --nproc-per-node 2 --max-restarts 3 "
        "-m dbp fit --config dvae/digits run=NAME ckpt_path=last trainer.devices=2": left("tests/runs/test_elastic.py"),
    },
    "configuration.md": {
        "python -m dbp fit --help": run(),
        "python -m dbp fit --config dvae/digits estimator=imle --print_config": run(),
        "python -m dbp fit --config dvae/digits --config mine.yaml": left("the blocks below are its files"),
        "optimizer:": laid_over("dvae/digits", *SHORT),
        "scheduler: {name: one_cycle, max_lr: 3e-3}": laid_over("dvae/digits", *SHORT),
        "scheduler: {name: plateau, monitor: val/bce, factor: 0.5, patience: 3}": laid_over("dvae/digits", *SHORT),
        "scheduler:": laid_over("dvae/digits", *SHORT),
        "callbacks:": laid_over("dvae/digits", *SHORT),
        "loggers:": laid_over("dvae/digits", *SHORT, "callbacks.lr_finder.num_training_steps=5"),
        "python -m dbp fit --config dvae/digits loggers.wandb.project=discrete loggers.tensorboard=null": run(
            "--print_config"
        ),
        "pip install 'discrete-backprop[completion]'": declared,
        'eval "$(dbp completion bash)"': completes,
    },
    "extend.md": {
        "# make_maps.py": written,
        "# paths.py": written,
        "# paths.yaml": written,
        "python make_maps.py": script,
        "python -m dbp fit --config paths.yaml run=paths": run(),
        "python -m dbp test --config paths.yaml run=paths ckpt_path=best": below("test/regret", 0.3),  # untrained: 7.6
        "python -m dbp predict --config paths.yaml run=paths ckpt_path=best output=predictions.npz": run(),
        "python -m dbp fit --config paths.yaml "
        "estimator=imle estimator.lam=20 estimator.noise=log_normal estimator.samples=4": run(*SHORT),
        "import dbp": session(),
        "# weights.py": written,
        "python -m dbp fit --config paths.yaml run=norms callbacks.weights:WeightNorm.every=2": run(*SHORT),
        "# lines.py": written,
        "python -m dbp fit --config paths.yaml run=lines loggers.lines:JSONLines.digits=4": run(*SHORT),
        "# subsets.py": written,
        "python -m dbp audit solver=subsets:AtMost n=6 estimator=identity,imle,perturbed": run("draws=200"),
        "# saturating.py": written,
        "python -m dbp fit --config dvae/digits estimator=saturating:StraightThroughTanh estimator.scale=2": run(
            *SHORT
        ),
        "python -m dbp list": run(),
        "python -m dbp new plugin dbp-mine --kind estimator": run(),
        "pip install -e 'dbp-mine[test]'": installed,
        "pytest dbp-mine": left("tests/templates/test_new.py runs the tests of every kind"),
        "python -m dbp list estimator mine": run(),
        '[project.entry-points."dbp.callbacks"]': left("a piece of a pyproject.toml"),
        "pytest --dbp-plugin dbp-mine": left("tests/templates/test_new.py"),
        "python -m dbp.templates.stubs": left("writes into the package; tests/config/test_registry.py compares"),
    },
    "reliability.md": {
        "python -m dbp fit --config dvae/digits run=first ckpt_path=last": run(*SHORT),
        "make torture": target,
        "$ python tests/torture.py --kills 200": there("tests/torture.py"),
        "make fuzz": target,
        "python -m benchmarks.survival": there("benchmarks/survival.py"),
    },
    "results.md": {
        "make results DATA=FOLDER": target,
        "make results-vae DATA=FOLDER": target,
        "make results-sorting": target,
        "make bench DATA=FOLDER": target,
        "python -m dbp fit --config slots/gumbel run=slots seed=0": run(*SHORT),
        "python -m dbp test run=slots ckpt_path=last": run(),
    },
    "solvers.md": {
        "python -m dbp list solver top_k": run(),
        "python -m dbp plot solver top_k solver.k=5": run(),
        "python -m dbp audit solver=top_k solver.k=3 n=8": run("draws=50", "estimator=identity,perturbed"),
        "import torch": session(),
        "import numpy as np": session("workers=8, timeout=10, "),  # processes: tests/solvers/test_function.py
        'solver = dbp.solvers.FromFunction(best_row, 2, batched=False, numpy=True, per_row={"mask": 2})': session(),
        'client = dask.distributed.Client("scheduler:8786")': left("needs a cluster of Dask"),
    },
}


def idx(values: torch.Tensor) -> bytes:
    """The official format of MNIST's files."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.dim()]) + sizes + values.numpy().tobytes()


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few images in `data`, in MNIST's layout; their checksums stand in for the official ones."""
    digests, place = {}, tmp_path / "data" / "mnist"
    place.mkdir(parents=True)
    for name in MNIST.files:
        rows = 200 if name.startswith("train") else 100
        shape, high = ((rows, 28, 28), 256) if "images" in name else ((rows,), 10)
        content = idx(torch.randint(high, shape, dtype=torch.uint8))
        packed = gzip.compress(content, mtime=0)
        (place / f"{name}.gz").write_bytes(packed)
        digests[name] = Official(sha256(packed).hexdigest(), sha256(content).hexdigest())
    monkeypatch.setattr(MNIST, "files", digests)


@pytest.fixture
def reader(mnist: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    before = set(sys.modules)
    for name in ("DBP_RUN", "SLURM_JOB_ID", "TORCHELASTIC_RUN_ID", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as `python -m dbp` has it
    yield Reader(tmp_path, monkeypatch)
    monkeypatch.undo()
    forget_plugins()
    for name in set(sys.modules) - before:  # modules of this folder
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_block_of_a_page_has_an_entry(page: Path) -> None:
    assert {item.name for item in items(page)} == set(HOW.get(page.name, {}))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_says_what_works(page: Path, reader: Reader) -> None:
    for item in items(page):
        try:
            HOW[page.name][item.name](item, reader)
        except Exception as error:
            raise AssertionError(f"{page.name}: {item.name}") from error


def test_every_built_in_component_is_named() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    names = {claim.name for registry in catalog.values() for found in registry.claims().values() for claim in found}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
