"""The sums of backward passes: kernels against their plain formulas in torch."""

import pytest
import torch

from dbp.gradients.sums import contrasts, mean, own_gradient, weighted, weighted_sum
from dbp.native import ops

SHAPES = [((1,), (1,)), ((3,), ()), ((4, 2), (5,)), ((2, 3), (8, 9)), ((7,), (2100,)), ((2,), (33, 67))]
shapes = pytest.mark.parametrize(("leading", "rest"), SHAPES, ids=str)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)


def spread(x, ndim):
    return x.reshape(x.shape + (1,) * (ndim - x.ndim))


@shapes
@dtypes
def test_a_gradient_is_freed_of_its_weight(leading, rest, dtype):
    torch.manual_seed(0)
    grad, weight = torch.randn(*leading, *rest).to(dtype), torch.rand(leading).to(dtype)
    weight.view(-1)[0] = 0
    own, share = own_gradient(grad, weight)
    expected = torch.where(spread(weight, grad.ndim) == 0, 0, grad / spread(weight, grad.ndim))
    assert torch.equal(own, expected)
    assert torch.equal(share, weight)


@shapes
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_what_overflowed_is_noted_and_taken_out(leading, rest, value):
    grad = torch.ones(*leading, *rest)
    grad.view(-1)[-1] = value
    own, share = own_gradient(grad, torch.full(leading, 0.5))
    assert share.isnan().all()
    assert own.view(-1)[-1] == 0
    assert (own.view(-1)[:-1] == 2).all()


@shapes
@dtypes
@pytest.mark.parametrize("samples", [1, 6])
def test_sums_contrasts_and_means_over_samples(leading, rest, dtype, samples):
    torch.manual_seed(0)
    x, y = torch.randn(samples, *leading, *rest).to(dtype), torch.randn(*leading, *rest).to(dtype)
    weight = torch.randn(samples, *leading).to(dtype)
    precise = {torch.bfloat16: 0.1, torch.float32: 1e-4, torch.float64: 1e-12}[dtype]
    for strided in (x, x.transpose(0, -1).contiguous().transpose(0, -1)):
        total = (spread(weight, x.ndim).double() * x).sum(0)
        torch.testing.assert_close(weighted_sum(strided, weight).double(), total, rtol=precise, atol=precise)
        for minus in (x.roll(1, 0), y[None]):
            less = total - (spread(weight, x.ndim).double() * minus).sum(0)
            found = weighted_sum(strided, weight, minus, -3)
            torch.testing.assert_close(found.double(), -3 * less, rtol=3 * precise, atol=6 * precise)
        products = (x.double() * y).flatten(1 + len(leading)).sum(-1) if rest else x.double() * y
        others = (products.sum(0) - products) / max(samples - 1, 1)
        found = contrasts(strided, y, 1 + len(leading))
        torch.testing.assert_close(found.double() * samples, others - products, rtol=precise, atol=16 * precise)
        if samples % 2 == 0:
            found = contrasts(strided, y, 1 + len(leading), paired=True)
            pairs = products.roll(samples // 2, 0) - products
            torch.testing.assert_close(found.double() * 2 * samples, pairs, rtol=precise, atol=16 * precise)
        torch.testing.assert_close(mean(strided, y).double(), x.double().mean(0), rtol=precise, atol=precise)
    alone = spread(weight, x.ndim).double() * (x.double() - y) / 2
    torch.testing.assert_close(weighted(x, weight, y.expand_as(x), 0.5).double(), alone, rtol=precise, atol=precise)
    plain = spread(weight, x.ndim).double() * x
    torch.testing.assert_close(weighted(x, weight).double(), plain, rtol=precise, atol=precise)
    for chosen in ((x > 0).to(torch.int8), (x > 0).to(torch.int8).transpose(0, -1).contiguous().transpose(0, -1)):
        for paired in [False, True][: 1 + (samples > 1)]:
            assert torch.equal(*(contrasts(z, y, 1 + len(leading), paired) for z in (chosen, chosen.to(dtype))))
        assert torch.equal(mean(chosen, y), chosen.to(dtype).mean(0))


@pytest.mark.skipif(ops.status().startswith("torch"), reason=ops.status())
def test_threads_change_nothing():
    torch.manual_seed(0)
    x, weight, before = torch.randn(40, 50, 1000), torch.randn(40, 50), torch.get_num_threads()
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append([weighted_sum(x, weight), contrasts(x, x[0], 2), mean(x, x), own_gradient(x, weight)[0]])
    torch.set_num_threads(before)
    assert all(map(torch.equal, *found))


def test_they_pass_through_vmap():
    x, weight, y = torch.randn(5, 4, 3, 2), torch.rand(5, 4, 3), torch.randn(5, 3, 2)
    torch.testing.assert_close(torch.vmap(weighted_sum)(x, weight), (x * weight[..., None]).sum(1))
    torch.testing.assert_close(torch.vmap(weighted_sum)(x, weight, x / 3), (x * weight[..., None]).sum(1) / 1.5)
    torch.testing.assert_close(torch.vmap(weighted)(x, weight), x * weight[..., None])
    found, r = torch.vmap(lambda a, b: contrasts(a, b, 2))(x[:, :2], y), (x[:, :2] * y[:, None]).sum(-1)
    torch.testing.assert_close(found, (r.flip(1) - r) / 2)
    torch.testing.assert_close(torch.vmap(mean)(x, x), x.mean(1))
    torch.testing.assert_close(torch.vmap(own_gradient)(x, weight)[0], x / weight[..., None])
