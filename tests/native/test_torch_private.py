"""The private names of torch that dbp uses exist and work; kernels run without threads of torch."""

import ctypes
import subprocess
import sys

import pytest
import torch

from dbp.native import loader, torch_private
from dbp.solvers import Rank

needs_kernels = pytest.mark.skipif(loader.load()[0] is None, reason=loader.status())


def test_gradients_are_switched():
    assert torch.is_grad_enabled()
    try:
        torch_private.set_grad_enabled(False)
        assert not torch.is_grad_enabled()
    finally:
        torch_private.set_grad_enabled(True)
    assert torch.is_grad_enabled()


def test_transforms_are_seen():
    levels = []
    torch.vmap(lambda x: (levels.append(torch_private.functorch_level()), x)[1])(torch.zeros(2))
    assert torch_private.functorch_level() is None
    assert levels == [1]


def test_modes_are_seen():
    from torch.utils._python_dispatch import TorchDispatchMode

    assert torch_private.dispatch_modes() == 0
    with TorchDispatchMode():
        assert torch_private.dispatch_modes() == 1


def test_torch_lends_its_threads():
    assert torch_private.parallel_for() is not None
    without = ctypes.CDLL(loader._path("kernels")) if loader._path("kernels").exists() else object()
    assert torch_private.parallel_for(without) is None


CODE = """
import threading, torch
from dbp.native import torch_private
torch_private.parallel_for = lambda library=None: None
from dbp.native import library, loader
from dbp.solvers import Rank
torch.set_num_threads(3)
x = torch.randn(3000, 200, generator=torch.Generator().manual_seed(0))
print(Rank()(x).double().mul(torch.arange(200)).sum().item())
"""


@needs_kernels
def test_kernels_make_threads_of_their_own_where_torch_lends_none():
    x = torch.randn(3000, 200, generator=torch.Generator().manual_seed(0))
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) == Rank()(x).double().mul(torch.arange(200)).sum().item()
