"""No estimator waits for the device: nothing that it does depends on the values of its tensors."""

import pytest
import torch
from examples import ESTIMATORS, build
from steps import loss, run, target, theta_of


@pytest.mark.parametrize("name", ESTIMATORS)
def test_it_reads_no_value(name, monkeypatch):
    """Tensors of the meta device have no values: whoever asks for one, or for a copy on the host, gets an error."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # which knows no meta device
    solver, made = build(name)
    made.to_empty(device="meta").train()
    theta = torch.empty(4, 6, device="meta", requires_grad=True)
    draw = made(solver, theta, target=target(solver, theta))
    draw.surrogate(loss(draw.y)).mean().backward()
    assert theta.grad.device.type == "meta"


@pytest.mark.parametrize("read", [torch.Tensor.item, torch.Tensor.nonzero, torch.Tensor.cpu, lambda x: x[x > 0]])
def test_a_read_is_seen(read):
    with pytest.raises((RuntimeError, NotImplementedError)):
        read(torch.empty(1, device="meta"))


if torch.cuda.is_available():

    @pytest.mark.parametrize("name", ESTIMATORS)
    def test_cuda_never_waits(name):
        solver, made = build(name)
        made.cuda()
        theta = theta_of(4).cuda()
        run(made, solver, theta)  # tables and handles are made once
        torch.cuda.set_sync_debug_mode("error")
        try:
            run(made, solver, theta)
        finally:
            torch.cuda.set_sync_debug_mode("default")
