"""The libraries for different instruction sets return the same bits for every kernel."""

import ctypes
import re

import pytest
import torch
from torch import Tensor

from dbp.native import library, loader
from dbp.native.quantiles import of_sum_of_gamma

pytestmark = pytest.mark.skipif(loader.load()[0] is None, reason=loader.status())

SIZES = (1, 3, 7, 16, 31, 64, 129, 500)
EDGES = torch.tensor([(i, j) for j in range(12) for i in range(j)])


def run(
    x: Tensor, name: str, tensors: list, *sizes: int, scale: float | None = None, out: Tensor | None = None
) -> list:
    """The status of a kernel, and what it wrote: into `out`, or where the tensors say "y"."""
    y = torch.zeros_like(x) if out is None else out
    status = library.call(name, [y if t == "y" else t for t in tensors], *sizes, scale=scale)
    return [status, y]


def flat(n: int, dtype: torch.dtype):
    x = torch.randn(9, n, dtype=dtype) * 10.0 ** torch.randint(-3, 3, (9, n))
    weight = torch.randn(3, 3, dtype=dtype)
    yield run(x, "one_hot", [x, "y"], 9, n)
    yield run(x, "top_k", [x, "y"], 9, n, 1 + n // 3)
    yield run(x, "rank", [x, "y"], 9, n)
    yield run(x, "own_gradient", [x, torch.randn(9, dtype=dtype), "y"], 9, n)
    out = torch.zeros(3, n, dtype=dtype)
    for minus in (None, torch.randn(3, 3, n, dtype=dtype)):
        yield run(x, "weighted_sum", [x, minus, weight, "y"], 3, 3, 3, n, scale=0.3, out=out.clone())
    yield run(x, "mean", ["y", x], 3, 3 * n, out=out.clone())
    bytes_ = torch.randint(-3, 4, (9, n), dtype=torch.int8)
    yield run(x, "mean_of_bytes", ["y", bytes_], 3, 3 * n, out=out.clone())
    for kind, samples in (("contrasts", x), ("contrasts_of_bytes", bytes_)):
        yield run(x, kind, [x[:3].clone(), samples, "y"], 3, 3, n, 0, out=weight.clone())
    items = torch.randint(1, 9, (1, n))
    yield run(x, "knapsack", [x, items, torch.tensor([4 * n]), "y"], 9, n, 1, 1)
    for value in (1.0, torch.nan):
        function = loader.function("dbp_finite_" + library._SUFFIX[dtype], 1, 1)
        part = torch.full((n,), value, dtype=dtype)
        yield [function(part.data_ptr(), n), part]
    table = of_sum_of_gamma(10.0, 10, dtype, torch.device("cpu"))
    for law in ("uniform", "normal", "gumbel", "logistic", "quantiles"):
        yield run(x, law, ["y", x[0].clone(), table], 12345678901234567, n, x.numel(), n, scale=0.7)


def graphs(n: int, dtype: torch.dtype):
    edges = EDGES[: min(n, len(EDGES))]
    n, x = len(edges), torch.randn(37, len(edges), dtype=dtype)
    tied = torch.randint(-2, 1, x.shape).to(dtype)
    source, target = torch.zeros(37, dtype=torch.int64), torch.full((37,), int(edges[-1, 1]))
    nodes = int(edges.max()) + 1
    for theta in (-x.abs(), tied, x):
        yield run(x, "graph_path", [theta, edges, source, target, "y"], 37, n, nodes)
        yield run(x, "spanning_tree", [theta, edges, "y"], 37, n, nodes, 1)
        yield run(x, "arborescence", [theta, edges, source, "y"], 37, n, nodes, 1)


def squares(n: int, dtype: torch.dtype):
    side = min(n, 40)
    x = torch.randn(19, side, side + n % 3, dtype=dtype)
    for theta in (x, (10 * x).round(), (30 * x).softmax(-1), 3e38 * x.sign()):
        yield run(x, "matching", [theta, "y"], 19, *x.shape[1:])
    for theta in (-x.abs(), (3 * x).round().clamp_max(0)):
        for neighbours in (4, 8):
            yield run(x, "grid_path", [theta, None, None, None, "y"], 19, *x.shape[1:], neighbours, 1, 0)
    cities = min(n, 15)
    x = torch.randn(4, cities, cities, dtype=dtype)
    for directed in (0, 1):
        yield run(x, "tour", [x, "y"], 4, cities, directed, 20)


def outputs(kind, n: int, dtype: torch.dtype) -> list:
    torch.manual_seed(n)
    return list(kind(n, dtype))


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch):
    """Makes a library the one that is called; collects the names of the kernels that are."""
    called = set()

    def choose(name: str) -> set[str]:
        chosen = ctypes.CDLL(str(loader._path(name)))

        def function(symbol: str, pointers: int, integers: int, scaled: bool = False):
            called.add(re.fullmatch(r"dbp_(\w+)_f\d\d", symbol).group(1))
            found = chosen[symbol]
            found.argtypes = [ctypes.c_void_p] * pointers
            found.argtypes += [*[ctypes.c_int64] * (integers - 1), *[ctypes.c_double] * scaled, ctypes.c_int64]
            found.restype = ctypes.c_int64
            return found

        monkeypatch.setattr(loader, "function", function)
        return called

    return choose


def libraries() -> list[str]:
    """Those that this processor runs."""
    best = ctypes.CDLL(str(loader._path("kernels"))).dbp_best_instruction_set()
    return [name for name in loader._SETS[: best + 1] if loader._path(name).exists()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_all_instruction_sets_return_the_same_bits(use, dtype):
    plain, *wider = libraries()
    if not wider:
        pytest.skip("this processor has one instruction set")
    for n in SIZES:
        for kind in (flat, graphs, squares):
            use(plain)
            expected = outputs(kind, n, dtype)
            for name in wider:
                called = use(name)
                for number, (a, b) in enumerate(zip(expected, outputs(kind, n, dtype), strict=True)):
                    assert a[0] == b[0], (name, kind, n, number)
                    if not a[0] or kind is flat:  # unsolvable rows leave what comes after them to chance
                        assert torch.equal(a[1].view(torch.uint8), b[1].view(torch.uint8)), (name, kind, n, number)
    sources = "".join(path.read_text() for path in (loader._FOLDER / "src").glob("*.cpp"))
    kernels = set(re.findall(r"^DBP_(?:BOTH|NOISE)\((\w+),", sources, re.MULTILINE))
    assert called == kernels, "a kernel is not compared"


# The kernel of so much work space that no vector can have it, or that there is no memory for
TOO_MUCH = {
    "arborescence": lambda x, e, i: ([x, e, i, x], (1, 3, 2**62, 1)),
    "graph_path": lambda x, e, i: ([x, e, i, i, x], (1, 3, 2**62)),
    "spanning_tree": lambda x, e, i: ([x, e, x], (1, 3, 2**62, 1)),
    "knapsack": lambda x, e, i: ([x, e, i, x], (1, 2**62, 1, 1)),
    "top_k": lambda x, e, i: ([x, x], (1, 2**58, 1)),
    "matching": lambda x, e, i: ([x, x], (1, 2**31 - 1, 2**31 - 1)),
}


@pytest.mark.parametrize("name", TOO_MUCH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_exceptions_of_kernels_are_python_errors(name, dtype):
    tensors, sizes = TOO_MUCH[name](
        torch.zeros(1, 3, dtype=dtype), torch.tensor([[0, 1], [1, 2], [0, 2]]), torch.tensor([0])
    )
    with pytest.raises((MemoryError, RuntimeError), match=rf"{name} kernel"):
        library.call(name, tensors, *sizes)


def test_no_kernel_is_exported_but_by_the_macro_that_catches():
    sources = {path.name: path.read_text() for path in (loader._FOLDER / "src").iterdir()}
    exported = [(name, line) for name, text in sources.items() for line in re.findall(r"DBP_EXPORT.*", text)]
    assert {name for name, _ in exported} == {"kernel.h", "kernel.cpp"}
    assert sum("dbp_##NAME##" in line for name, line in exported if name == "kernel.h") == 2
    assert "dbp::guarded" in sources["kernel.h"]
