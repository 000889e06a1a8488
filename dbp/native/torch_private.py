"""Private names of torch that dbp uses, gathered here, as read in torch 2.13. tests/native has a test of each."""

import torch

set_grad_enabled = torch._C._set_grad_enabled  # called by torch.no_grad, which takes five times as long
functorch_level = torch._C._functorch.maybe_current_level  # not null within vmap, grad and jvp
dispatch_modes = torch._C._len_torch_dispatch_stack
