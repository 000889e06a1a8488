"""The kernels that make noise, against the generator's published answers and the functions as NumPy has them."""

import ctypes
import math

import numpy as np
import pytest
import torch
from scipy import stats

from dbp import noises
from dbp.native import library, loader
from dbp.native.quantiles import of_sum_of_gamma
from dbp.noises import Counted, Gumbel, Logistic, Normal, SumOfGamma, Uniform

pytestmark = pytest.mark.skipif(loader.load()[0] is None, reason="no kernels")

NOISES: dict[str, Counted] = {
    "uniform": Uniform(),
    "normal": Normal(),
    "gumbel": Gumbel(),
    "logistic": Logistic(),
    "quantiles": SumOfGamma(),
}
names = pytest.mark.parametrize("name", NOISES)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
KEY = 0x0123456789ABCDEF


def threefry(counter: list, key: list) -> list:
    """Threefry4x32 with 13 rounds, of arrays of words."""
    rotations = [(10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20)]
    key = [*key, 0x1BD11BDA ^ key[0] ^ key[1] ^ key[2] ^ key[3]]
    x = [np.asarray(c, dtype=np.uint64) + k & 0xFFFFFFFF for c, k in zip(counter, key, strict=False)]
    for r in range(13):
        for rotation, (i, j) in zip(rotations[r % 8], [(0, 3), (2, 1)] if r % 2 else [(0, 1), (2, 3)], strict=True):
            x[i] = x[i] + x[j] & 0xFFFFFFFF
            x[j] = (x[j] << rotation | x[j] >> 32 - rotation) & 0xFFFFFFFF ^ x[i]
        if r % 4 == 3:
            s = r // 4 + 1
            x = [x[i] + key[(s + i) % 5] + (s if i == 3 else 0) & 0xFFFFFFFF for i in range(4)]
    return x


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ([0] * 4, [0] * 4, "531c7e4f 39491ee5 2c855a92 3d6abf9a"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 4, "c4189358 1c9cc83a d5881c67 6a0a89e0"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0, 0x082EFA98, 0xEC4E6C89],
            "4aa71d8f 734738c2 431fc6a8 ae6debf1",
        ),
    ],
)
def test_the_generator_gives_the_published_answers(counter, key, answer):
    """kat_vectors of Random123."""
    assert " ".join(f"{int(word):08x}" for word in threefry(counter, key)) == answer


def numbers(name, dtype, key, begin, n, centre=None, scale=1.0):
    like, noise = torch.empty(n, dtype=dtype), NOISES[name]
    return noises.numbers(like, centre, noise.table(like), torch.tensor(key), noise.kernel, begin, scale)


def words_of(dtype, key, chunks):
    """The first words of a stream, `[chunk, word, block]`, 64 blocks to a chunk."""
    block = np.arange(64 * chunks, dtype=np.uint64)
    words = threefry([block & 0xFFFFFFFF, block >> 32, 0, 0], [key & 0xFFFFFFFF, key >> 32, 0, 0])
    words = np.stack(words).reshape(4, chunks, 64).transpose(1, 0, 2)
    return words if dtype == torch.float32 else words[:, 2:] << 32 | words[:, :2]


def expected(name, dtype, key, chunks):
    """The first numbers of a stream, in float64."""
    words = words_of(dtype, key, chunks)
    bits, kept = (32, 32) if dtype == torch.float32 else (64, 52)
    below = words < 1 << bits - 1
    nearer = np.where(below, words, ~words & (1 << bits) - 1)
    p = ((nearer >> bits - kept).astype(np.float64) + 0.5) / 2.0**kept  # from U to the nearer end
    exponential = np.where(below, -np.log(p), -np.log1p(-p))
    if name == "uniform":
        z = np.where(below, -1, 1) * (1 - 2 * p)
    elif name == "gumbel":
        z = -np.log(exponential)
    elif name == "quantiles":
        nodes = np.append(np.outer(2.0 ** np.arange(-33, -1), 1 + np.arange(128) / 128), 0.5)
        table = of_sum_of_gamma(10, 10, torch.float64, torch.device("cpu"))[..., 0].numpy()
        at_least = p if dtype == torch.float32 else p - 2.0**-53 + 2.0**-33
        z = np.where(below, *(np.interp(at_least, nodes, half) for half in table))
    elif name == "logistic":
        z = np.where(below, 1, -1) * (np.log(p) - np.log1p(-p))
    else:
        even, odd = slice(0, None, 2), slice(1, None, 2)
        length, angle = np.sqrt(2 * exponential[:, even]), words[:, odd].astype(np.float64) * (2 * math.pi / 2.0**bits)
        z = np.stack([length * np.cos(angle), length * np.sin(angle)], 2)
    return z.ravel()


@names
@dtypes
def test_the_numbers_are_those_functions_of_the_words(name, dtype):
    z = numbers(name, dtype, KEY, 0, 100 * (256 if dtype == torch.float32 else 128)).double().numpy()
    tolerance = (2e-6 if name != "quantiles" else 1e-5) if dtype == torch.float32 else 1e-13
    np.testing.assert_allclose(z, expected(name, dtype, KEY, 100), rtol=tolerance, atol=tolerance)


@dtypes
def test_torch_makes_the_same_quantiles_of_the_same_words(dtype, monkeypatch):
    word = torch.int32 if dtype == torch.float32 else torch.int64
    words = torch.from_numpy(words_of(dtype, KEY, 40).astype(f"u{word.itemsize}").view(f"i{word.itemsize}")).flatten()
    extremes = torch.tensor([0, 1, -1, -2, torch.iinfo(word).max, torch.iinfo(word).min], dtype=word)
    monkeypatch.setattr(torch.Tensor, "random_", lambda self, *_, **__: self.copy_(torch.cat([words, extremes])))
    z = SumOfGamma().draw(torch.empty(len(words) + 6, dtype=dtype), None)
    torch.testing.assert_close(z[:-6], numbers("quantiles", dtype, KEY, 0, len(words)), rtol=1e-6, atol=1e-8)
    lowest, _, highest, _, *medians = z[-6:]
    assert (lowest, highest) == (z.min(), z.max())
    assert medians[0] == pytest.approx(medians[1].item(), abs=1e-7)


@names
@dtypes
def test_a_number_depends_on_nothing_but_key_and_place(name, dtype):
    whole = numbers(name, dtype, KEY, 0, 3000)
    for begin, end in ((0, 1), (255, 257), (100, 2900), (1, 3000), (2999, 3000), (70, 70)):
        assert torch.equal(numbers(name, dtype, KEY, begin, end - begin), whole[begin:end])
    far = 4 * 2**32 - 500  # where the block's number passes 32 bits
    assert torch.equal(numbers(name, dtype, KEY, far + 7, 993), numbers(name, dtype, KEY, far, 1000)[7:])
    assert not torch.equal(numbers(name, dtype, KEY + 1, 0, 3000), whole)
    assert not torch.equal(numbers(name, dtype, KEY + 2**32, 0, 3000), whole)


@names
@dtypes
@pytest.mark.parametrize("period", [1, 7, 256, 1000])
def test_numbers_are_scaled_and_moved(name, dtype, period):
    centre, (begin, end) = torch.linspace(-3, 5, period, dtype=dtype), (3 * period, 3 * period + 2111)
    plain = numbers(name, dtype, KEY, begin, end - begin)
    expected = plain * 0.3 + centre[torch.arange(begin, end) % period]
    assert torch.equal(numbers(name, dtype, KEY, begin, end - begin, centre, 0.3), expected)
    assert torch.equal(numbers(name, dtype, KEY, begin, end - begin, None, 0.3), plain * 0.3)


@names
@dtypes
def test_threads_and_instruction_sets_agree(name, dtype):
    n, threads = 700_001, torch.get_num_threads()
    once = numbers(name, dtype, KEY, 5, n)
    try:
        torch.set_num_threads(3)
        assert torch.equal(numbers(name, dtype, KEY, 5, n), once)
    finally:
        torch.set_num_threads(threads)
    plain = ctypes.CDLL(str(loader._path("kernels")))
    function = getattr(plain, f"dbp_{name}_{library._SUFFIX[dtype]}")
    z, table = torch.empty(n, dtype=dtype), of_sum_of_gamma(10, 10, dtype, once.device)
    pointers, sizes = (z.data_ptr(), None, table.data_ptr()), (KEY, 5, n, n)
    function(*map(ctypes.c_void_p, pointers), *map(ctypes.c_int64, sizes), ctypes.c_double(1), ctypes.c_int64(1))
    assert torch.equal(z, once)


@dtypes
@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("uniform", stats.uniform(-1, 2)),
        ("normal", stats.norm()),
        ("gumbel", stats.gumbel_r()),
        ("logistic", stats.logistic()),
    ],
)
def test_a_million_numbers_follow_the_law_into_its_tails(name, law, dtype):
    z = numbers(name, dtype, KEY, 0, 1_000_000)
    assert stats.kstest(z.double().numpy(), law.cdf).pvalue > 1e-3
    z = torch.cat([z, numbers(name, dtype, KEY + 1, 0, 7_000_000)])
    for p in (1e-3, 1e-5):  # of 8 million
        for beyond in ((z < law.ppf(p)).sum().item(), (z > law.isf(p)).sum().item()):
            assert abs(beyond - p * len(z)) < 4 * math.sqrt(p * len(z))
    assert z.isfinite().all()


def test_neighbouring_numbers_and_keys_are_not_correlated():
    z = torch.stack([numbers("normal", torch.float32, KEY + i, 0, 2**20) for i in range(4)]).double()
    for step in (1, 2, 64, 128, 256):
        assert abs((z[:, step:] * z[:, :-step]).mean()) < 4 / math.sqrt(z.numel())
        assert abs((z[:, step:] ** 2 * z[:, :-step] ** 2).mean() - 1) < 4 * math.sqrt(8 / z.numel())
    assert ((z @ z.T / 2**20 - torch.eye(4)).abs() < 4 * math.sqrt(2) / 2**10).all()


def test_the_operator_keeps_torchs_rules():
    like, key, table = torch.empty(2, 5), torch.tensor(KEY), SumOfGamma().table(torch.empty(0))
    torch.library.opcheck(torch.ops.dbp.numbers.default, (like, None, None, key, "normal", 3, 0.5))
    torch.library.opcheck(torch.ops.dbp.numbers.default, (like, torch.ones(5), table, key, "quantiles", 5, 1.0))


@names
def test_compiled_code_draws_the_same(name):
    noise, like = NOISES[name], torch.zeros(3, 50)
    torch.manual_seed(1)
    expected = noise.sample(like), noise.sample(like)
    torch.manual_seed(1)
    compiled = torch.compile(lambda: (noise.sample(like), noise.sample(like)), backend="aot_eager")()
    assert all(torch.equal(*pair) for pair in zip(compiled, expected, strict=True))
