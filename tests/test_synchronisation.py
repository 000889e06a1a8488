"""No estimator waits for the device: nothing that it computes with tensors depends on their values."""

import pytest
import torch
from test_estimator_state import ALL, build, run, theta_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
READS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.is_nonzero, aten._unique2}
# What reads values of the CPU only: the draw whether to call the solver, and the check of torch's one_hot.
HOSTS = ("contrastive", "ranking", "smooth_sort, matrix")


class Unread(TorchDispatchMode):
    """Fails where a value, or a shape that depends on values, is asked for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        op = func.overloadpacket
        filled = op in (aten.index_put, aten.index_put_) and args[2].numel() == 1  # by torch as masked_fill
        indexed = op in (aten.index, aten.index_put, aten.index_put_) and not filled
        masked = indexed and any(isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1])
        waits = masked or op in READS
        assert not waits, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith(HOSTS)])
def test_it_reads_no_value(name, monkeypatch):
    monkeypatch.setattr("dbp.core.require_finite", lambda *args: None)  # it looks at values on the CPU only
    solver, estimator = build(name)
    with Unread():
        run(estimator, solver, theta_of(4))


def test_a_read_is_seen():
    for read in (torch.Tensor.item, torch.Tensor.nonzero, lambda x: torch.ones(1)[x > 0]):
        with pytest.raises(AssertionError, match="waits for the device"), Unread():
            read(torch.ones(1))


if torch.cuda.is_available():

    @pytest.mark.parametrize("name", ALL)
    def test_cuda_never_waits(name):
        solver, estimator = build(name)
        estimator.cuda()
        theta = theta_of(4).cuda()
        run(estimator, solver, theta)  # tables and handles are made once
        torch.cuda.set_sync_debug_mode("error")
        try:
            run(estimator, solver, theta)
        finally:
            torch.cuda.set_sync_debug_mode("default")
