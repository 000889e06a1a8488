"""Kernels: equal to their torch twins, safe in threads, forks and compilers, and not needed."""

import os
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dbp.errors import NonFinite, UserError
from dbp.native import loader, ops
from dbp.scores import require_finite
from dbp.solvers import GridPath, OneHot, Rank, TopK
from dbp.solvers.choices import one_hot, one_hot_torch, top_k, top_k_torch
from dbp.solvers.grid import shortest_path
from dbp.solvers.orders import rank, rank_torch
from dbp.solvers.paths import _ends, grid_path

needs_kernels = pytest.mark.skipif(ops.status().startswith("torch"), reason=ops.status())


def grid_twin(theta: Tensor) -> Tensor:
    return shortest_path(theta, None, *_ends(theta, None, None), 8)[0]


# name: kernel, twin, the solver, its event shape, a map to scores that it takes
KERNELS = {
    "one_hot": (one_hot, one_hot_torch, OneHot(), (19,), lambda x: x),
    "top_k": (lambda x: top_k(x, 3), lambda x: top_k_torch(x, 3), TopK(3), (17,), lambda x: x),
    "rank": (rank, rank_torch, Rank(), (17,), lambda x: x),
    "rank long": (rank, rank_torch, Rank(), (300,), lambda x: x),
    "grid_path": (lambda x: grid_path(x, None, None, None, 8), grid_twin, GridPath(), (5, 7), lambda x: -x.abs()),
}
SCORES = {
    "normal": lambda *shape: torch.randn(*shape),
    "integer": lambda *shape: torch.randint(-2, 3, shape).float(),
    "zero": lambda *shape: torch.zeros(*shape) * -1,
    "huge": lambda *shape: torch.randn(*shape) * 1e30,
    "tiny": lambda *shape: torch.randn(*shape) * 1e-40,
    "mixed": lambda *shape: torch.randn(*shape) * 10.0 ** torch.randint(-30, 30, shape),
}
each = pytest.mark.parametrize("name", KERNELS)


@needs_kernels
@each
@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_equals_its_twin(name: str, scores: str, dtype: torch.dtype) -> None:
    kernel, twin, _, event, proper = KERNELS[name]
    torch.manual_seed(0)
    for batch in (1, 2, 31, 50):
        x = proper(SCORES[scores](batch, *event).to(dtype))
        torch.testing.assert_close(kernel(x), twin(x), rtol=0, atol=0)


# What makes a search for the k-th largest hard: ties, gaps, skew, order, the ends of the range of the floats
DIFFICULT = {
    "equal": lambda *shape: torch.full(shape, 0.3),
    "two values": lambda *shape: torch.randint(0, 2, shape).float(),
    "few values": lambda *shape: torch.randint(-9, 10, shape).float(),
    "signed zeros": lambda *shape: torch.randn(*shape).sign() * 0,
    "rising": lambda *shape: torch.randn(*shape).sort(-1).values,
    "falling": lambda *shape: torch.randn(*shape).sort(-1, descending=True).values,
    "close": lambda *shape: 1 + torch.rand(*shape) * 1e-6,
    "skewed": lambda *shape: (30 * torch.randn(*shape)).softmax(-1),
    "two scales": lambda *shape: torch.randn(*shape) * 10.0 ** (40 * torch.randint(0, 2, shape) - 20),
    "denormal": lambda *shape: torch.randn(*shape) * 1e-42,
    "outliers": lambda *shape: torch.randn(*shape).masked_fill(torch.rand(*shape) < 0.01, 3.4e38),
    "depths": lambda *shape: torch.randn(*shape).masked_fill(torch.rand(*shape) < 0.5, -3.4e38),
    "both ends": lambda *shape: 3.4e38 * torch.randn(*shape).sign(),
}


@needs_kernels
@pytest.mark.parametrize("scores", DIFFICULT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_top_k_of_difficult_rows(scores: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for n in (1, 2, 15, 64, 255, 256, 1003):
        x = DIFFICULT[scores](7, n).to(dtype)
        for k in {1, 2, 10, n // 4, n // 2, n - 1, n} & set(range(1, n + 1)):
            assert torch.equal(top_k(x, k), top_k_torch(x, k)), (n, k)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 7, 16, 33])
def test_the_one_score_that_is_not_finite_is_found(n: int, dtype: torch.dtype) -> None:
    x = torch.full((n,), torch.finfo(dtype).max, dtype=dtype)
    require_finite(x, 1, "x")  # though the sum is not
    for i in range(n):
        for value in (torch.nan, torch.inf, -torch.inf):
            with pytest.raises(NonFinite, match=rf"a score of {value} at \[{i}\]"):
                require_finite(x.index_fill(0, torch.tensor(i), value), 1, "x")


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_dtype_and_layout_follow_theta(name: str, dtype: torch.dtype) -> None:
    _, _, solver, event, proper = KERNELS[name]
    x = proper((10 * torch.randn(2, 3, *event)).to(dtype))
    y = solver(x)
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    assert torch.equal(y, solver(x.double()).to(dtype))
    turned = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(solver(turned), y)
    assert torch.equal(solver(x[:, ::2]), y[:, ::2])
    assert torch.equal(solver(x[:1].expand(4, *x.shape[1:])), y[:1].expand(4, *x.shape[1:]))


@each
def test_empty_batches(name: str) -> None:
    _, _, solver, event, _ = KERNELS[name]
    for leading in ((0,), (2, 0), ()):
        assert solver(-torch.zeros(*leading, *event)).shape == (*leading, *event)


@each
def test_nonsense_ends_within_its_memory(name: str) -> None:
    """What no check can look at (compiled code) may be wrong; the kernel must not hang or write outside."""
    kernel, _, _, event, _ = KERNELS[name]
    for value in (torch.nan, torch.inf, -torch.inf):
        x = torch.full((20, *event), value)
        x[:10] = -torch.rand(10, *event)
        try:
            assert kernel(x).shape == x.shape
        except Exception as error:
            assert "row [10]" in str(error)  # noqa: PT017


@each
def test_compiles_into_one_graph(name: str) -> None:
    _, _, solver, event, proper = KERNELS[name]
    x = torch.rand(4, *event)
    compiled = torch.compile(lambda x: solver(proper(x * 2)) + 1, fullgraph=True, backend="aot_eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        assert torch.equal(compiled(x), solver(proper(x * 2)) + 1)


@each
def test_exports(name: str) -> None:
    _, _, solver, event, proper = KERNELS[name]

    class Model(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return solver(proper(x))

    x = torch.randn(4, *event)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(Model(), (x,))
    assert torch.equal(exported.module()(x), Model()(x))


@each
def test_vmap(name: str) -> None:
    _, _, solver, event, proper = KERNELS[name]
    x = proper(torch.randn(4, 3, *event))
    assert torch.equal(torch.vmap(solver)(x), solver(x))
    assert torch.equal(torch.vmap(solver, in_dims=1, out_dims=1)(x), solver(x))


def test_instances_are_traced_too() -> None:
    theta, mask = -torch.rand(6, 5, 5), torch.rand(5, 5) < 0.9
    mask[0, 0] = mask[-1, :] = mask[:, 0] = True
    target = torch.tensor([[4, 4], [4, 0], [0, 0], [4, 2], [4, 1], [4, 3]])
    expected = GridPath()(theta, {"mask": mask, "target": target})
    each = torch.vmap(lambda x, t: GridPath()(x, {"mask": mask, "target": t}))
    assert torch.equal(each(theta, target), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(GridPath().__call__, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(theta, {"mask": mask, "target": target}), expected)
        with pytest.raises(Exception, match=r"row \[2\] has a positive score"):
            compiled(theta + torch.tensor([0.0, 0, 1, 0, 0, 0])[:, None, None], None)


@needs_kernels
@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        ("top_k", (torch.randn(3, 8), 2)),
        ("rank", (torch.randn(3, 8),)),
        ("grid_path", (-torch.rand(3, 4, 4), None, None, torch.tensor([15, 3, 0]), 8)),
    ],
)
def test_operators_keep_torchs_rules(operator: str, arguments: tuple) -> None:
    torch.library.opcheck(getattr(torch.ops.dbp, operator).default, arguments)


@needs_kernels
@each
def test_threads_agree(name: str) -> None:
    kernel, _, _, event, proper = KERNELS[name]
    x = proper(torch.randn(20_000, *event))
    once, before = kernel(x), torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            assert torch.equal(kernel(x), once)
    finally:
        torch.set_num_threads(before)


@each
def test_python_threads(name: str) -> None:
    kernel, _, _, event, proper = KERNELS[name]
    inputs = [proper(torch.randn(2000, *event)) for _ in range(4)]
    expected, results = [kernel(x) for x in inputs], [None] * 4

    def work(i: int) -> None:
        for _ in range(3):
            results[i] = kernel(inputs[i])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(1800)  # minutes on a busy machine; a deadlock, for ever
    assert all(torch.equal(a, b) for a, b in zip(expected, results, strict=True))


class Ranked(Dataset):
    """Ranks in the worker, by a kernel with two threads. No torch operation here is large enough to use any of its own:
    those hang in a forked process."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        torch.set_num_threads(2)
        x = torch.randn(120, 256, dtype=torch.float64, generator=torch.Generator().manual_seed(index))
        return Rank()(x).sum(0)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_after_the_parent_used_threads(start: str) -> None:
    before = torch.get_num_threads()
    expected = torch.stack([Ranked()[i] for i in range(4)])
    torch.set_num_threads(before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on forks of processes with threads
        loader = DataLoader(Ranked(), batch_size=4, num_workers=1, multiprocessing_context=start, timeout=1800)
        assert torch.equal(next(iter(loader)), expected)


@needs_kernels
@pytest.mark.parametrize("change", ["// Another line.\n", None])
def test_kernels_of_other_sources(change: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(loader._FOLDER, tmp_path / "native")
    monkeypatch.setattr(loader, "_FOLDER", folder)
    assert loader.load.__wrapped__()[1] == ops.status()
    if change is None:  # as in a wheel
        shutil.rmtree(folder / "src")
        assert loader.load.__wrapped__()[1] == ops.status()
    else:
        with (folder / "src" / "rank.cpp").open("a") as file:
            file.write(change)
        with pytest.raises(UserError, match=r"not of the sources in dbp/native/src: install again.*DBP_NATIVE=0"):
            loader.load.__wrapped__()


def test_runs_without_kernels() -> None:
    code = (
        "import torch; from dbp.native import ops; from dbp.solvers import GridPath, Rank, TopK\n"
        "assert ops.status() == 'torch (DBP_NATIVE=0)'\n"
        "x = -torch.arange(12.).reshape(3, 4)\n"
        "print(GridPath()(x).tolist(), TopK(2)(x).tolist(), Rank()(x).tolist())\n"
        "assert torch.equal(torch.vmap(GridPath())(x[None]), GridPath()(x[None]))\n"
    )
    environment = {**os.environ, "DBP_NATIVE": "0"}
    without = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert without.returncode == 0, without.stderr
    x = -torch.arange(12.0).reshape(3, 4)
    assert without.stdout.strip() == " ".join(str(s(x).tolist()) for s in (GridPath(), TopK(2), Rank()))


def test_a_batch_in_huge_pages_is_solved_as_its_parts() -> None:
    x = torch.randn(2**23 // 1000 + 1, 1000)  # more than 32 MB
    y = TopK(10)(x)
    assert all(torch.equal(TopK(10)(part), decided) for part, decided in zip(x.chunk(3), y.chunk(3), strict=True))
