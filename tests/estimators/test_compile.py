"""`torch.compile` of a model around a decision gives the gradient of the eager one."""

import pytest
import torch
from examples import ESTIMATORS, GENERAL, N, build
from steps import loss, target
from torch import nn

from dbp.errors import Unsupported

OTHERS = {name.split(",")[0]: name for name in reversed(ESTIMATORS)}  # one of each that is not general
SECOND = ["rebar", "relax"]  # which take a second derivative
OTHERS = {kind: name for kind, name in OTHERS.items() if kind not in (*SECOND, *GENERAL)}


class Model(nn.Module):
    def __init__(self, solver, est):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder, self.solver, self.estimator = nn.Linear(5, N), nn.Linear(N, 3), solver, est

    def forward(self, x):
        theta = self.encoder(x)
        draw = self.estimator(self.solver, theta, target=target(self.solver, theta))
        y = draw.y if draw.y.shape[-1] != N else self.decoder(draw.y)
        return draw.surrogate(loss(y)).mean()


def gradient(solver, est, compiled):
    model = Model(solver, est)
    run = torch.compile(model, backend="aot_eager") if compiled else model
    torch.manual_seed(1)
    run(torch.linspace(-1, 1, 20).view(4, 5)).backward()
    return model.encoder.weight.grad


@pytest.mark.filterwarnings("ignore")  # the compiler's own deprecations
@pytest.mark.parametrize("name", [*GENERAL, *OTHERS.values(), "relax, black box"])
def test_compiled_and_eager_gradients_agree(name):
    torch._dynamo.reset()
    eager, compiled = (build(name) for _ in range(2))
    torch.testing.assert_close(gradient(*compiled, compiled=True), gradient(*eager, compiled=False))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SECOND)
def test_a_second_derivative_that_compiled_networks_do_not_have_is_said(name):
    torch._dynamo.reset()
    with pytest.raises(Unsupported, match=r"leave those uncompiled, or take relax with black_box"):
        gradient(*build(name), compiled=True)
