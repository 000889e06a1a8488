"""`dbp fit` against a hand-written PyTorch loop of the same model: batches a second of CPU time, in one process.

    python -m benchmarks.training [data.root=FOLDER]

Both train the k-subset DVAE on MNIST with Adam and batches of 100; the loop has no metrics, no logging, no checkpoints.
The two are interleaved, a round of each at a time, on one thread; the ratio is the median over the rounds.
"""

import statistics
import sys
import tempfile
import time

import torch
import torch.nn.functional as F
from pytorch_lightning import Callback
from torch import Tensor, nn

from dbp.components import callbacks
from dbp.config import compose, validate
from dbp.data.mnist import MNIST
from dbp.noises import SumOfGamma
from dbp.runs import run

BATCHES, ROUNDS = 300, 5


def top_k(theta: Tensor) -> Tensor:
    return torch.zeros_like(theta).scatter(-1, theta.topk(10, -1).indices, 1.0)


class HandIdentity(torch.autograd.Function):
    @staticmethod
    def forward(ctx, theta):
        return top_k(theta)

    @staticmethod
    def backward(ctx, grad):
        return grad


class HandIMLE(torch.autograd.Function):
    @staticmethod
    def forward(ctx, theta, lam):
        noisy = theta + SumOfGamma(0.1, k=10).sample(theta)
        y = top_k(noisy)
        ctx.save_for_backward(noisy, y)
        ctx.lam = lam
        return y

    @staticmethod
    def backward(ctx, grad):
        noisy, y = ctx.saved_tensors
        return (y - top_k(noisy - ctx.lam * grad)) / ctx.lam, None


def decide(name: str, theta: Tensor) -> Tensor:
    if name == "imle":
        return HandIMLE.apply(theta, 1.0)
    theta = theta - theta.mean(-1, keepdim=True)
    return HandIdentity.apply(theta / theta.norm(dim=-1, keepdim=True))


class Hand:
    """The loop that a researcher writes in an afternoon."""

    def __init__(self, name: str, images: Tensor) -> None:
        self.name, self.images = name, images.flatten(1).float() / 255
        sizes = [(784, 512), (512, 256), (256, 400), (400, 256), (256, 512), (512, 784)]
        self.layers = nn.ModuleList(nn.Linear(*size) for size in sizes)
        self.optimizer = torch.optim.Adam(self.layers.parameters())

    def train(self) -> float:
        a, b, c, d, e, f = self.layers
        order = torch.randperm(len(self.images))
        start = time.process_time()
        for rows in order[: BATCHES * 100].split(100):
            x = self.images[rows]
            theta = c(F.relu(b(F.relu(a(x))))).view(-1, 20, 20)
            logits = f(F.relu(e(F.relu(d(decide(self.name, theta).flatten(1))))))
            log_p = theta.log_softmax(-1)
            kl = (log_p.exp() * log_p).sum((-1, -2)).mean() + 20 * torch.tensor(20.0).log()
            loss = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1).mean() + kl
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return BATCHES / (time.process_time() - start)


@callbacks.register("stopwatch")
class Stopwatch(Callback):
    """CPU time from the start of an epoch to the end of its last batch."""

    speed = 0.0

    def on_train_epoch_start(self, *_):
        self.start = time.process_time()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx == BATCHES - 1:
            Stopwatch.speed = BATCHES / (time.process_time() - self.start)


def ours(name: str, overrides: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        limits = [
            f"trainer.default_root_dir={folder}",
            "trainer.max_epochs=1",
            f"trainer.limit_train_batches={BATCHES}",
            "trainer.limit_val_batches=1",
            "callbacks.stopwatch={}",
        ]
        run.fit(validate(compose([f"configs/dvae/{name}.yaml"], [*limits, *overrides])))
    return Stopwatch.speed


def main() -> None:
    torch.set_num_threads(1)
    overrides = sys.argv[1:]
    root = next((o.partition("=")[2] for o in overrides if o.startswith("data.root=")), "data")
    images = MNIST(root).datasets()["train"].tensors[0]  # type: ignore[attr-defined]
    for name in ("identity", "imle"):
        Hand(name, images).train(), ours(name, overrides)  # warm up
        rounds = [(Hand(name, images).train(), ours(name, overrides)) for _ in range(ROUNDS)]
        ratio = statistics.median(b / a for a, b in rounds)
        by_hand, by_dbp = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{name:10} by hand {by_hand:6.1f}, dbp {by_dbp:6.1f} batches a second; ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
