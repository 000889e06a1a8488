"""`torch.compile` of a model around a decision gives the gradient of the eager one."""

import pytest
import torch
from examples import ESTIMATORS, estimator
from torch import nn

from dbp.solvers import TopK


class Model(nn.Module):
    def __init__(self, est):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder, self.estimator = nn.Linear(5, 6), nn.Linear(6, 3), est

    def forward(self, x):
        draw = self.estimator(TopK(2), self.encoder(x))
        return draw.surrogate(self.decoder(draw.y).tanh().square().sum(-1)).mean()


def gradient(name, compiled):
    model = Model(estimator(name))
    run = torch.compile(model, backend="aot_eager") if compiled else model
    torch.manual_seed(1)
    run(torch.linspace(-1, 1, 20).view(4, 5)).backward()
    return model.encoder.weight.grad


@pytest.mark.filterwarnings("ignore")  # the compiler's own deprecations
@pytest.mark.parametrize("name", ESTIMATORS)
def test_compiled_and_eager_gradients_agree(name):
    torch._dynamo.reset()
    torch.testing.assert_close(gradient(name, compiled=True), gradient(name, compiled=False))
