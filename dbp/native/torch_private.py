"""Private names of torch that dbp uses, in one place; read in torch 2.13 and present since 2.10, the oldest supported.

`tests/native/test_torch_private.py` fails where a name is missing. Users: core (`set_grad_enabled`), scores and noises
(`functorch_level`), native/operator.py (`functorch_level`, `dispatch_modes`), native/library.py (`parallel_for`).
"""

import ctypes
from typing import Any

import torch

# torch.no_grad() calls it; alone it takes a fifth of the time.
set_grad_enabled = torch._C._set_grad_enabled  # torch/autograd/grad_mode.py

# The number of the innermost torch.func transform (vmap, grad), or None; nothing public tells.
functorch_level = torch._C._functorch.maybe_current_level  # torch/_functorch/pyfunctorch.py

# How many dispatch modes are active (FakeTensorMode while exporting, a user's TorchDispatchMode).
dispatch_modes = torch._C._len_torch_dispatch_stack  # torch/utils/_python_dispatch.py


def parallel_for(library: Any = None) -> Any:
    """Returns `torch_parallel_for` of torch's stable C ABI (torch/csrc/stable/c/shim.h, from 2.10), or None without it.

    Args:
        library: the loaded shared library that is searched; by default torch's own.
    """
    library = ctypes.CDLL(torch._C.__file__) if library is None else library
    return getattr(library, "torch_parallel_for", None)
