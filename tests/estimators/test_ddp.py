"""Under DistributedDataParallel, without `find_unused_parameters`, every estimator trains the same in all processes."""

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from examples import ESTIMATORS, N, build
from steps import loss, target
from torch import nn

PROCESSES = 2


class Model(nn.Module):
    def __init__(self, solver, est):
        super().__init__()
        self.encoder, self.solver, self.estimator = nn.Linear(4, N), solver, est

    def forward(self, x):
        theta = self.encoder(x)
        draw = self.estimator(self.solver, theta, target=target(self.solver, theta))
        return draw.surrogate(loss(draw.y)).mean()


def train(rank: int, solver, est) -> bool:
    """True if all processes have the same parameters after three steps, each on data of its own."""
    model = nn.parallel.DistributedDataParallel(Model(solver, est))  # refuses a step that left a parameter out
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(3):
        torch.manual_seed(PROCESSES * step + rank)
        optimizer.zero_grad()
        model(torch.randn(5, 4)).backward()
        optimizer.step()
    own = nn.utils.parameters_to_vector(model.parameters()).detach()
    every = [torch.empty_like(own) for _ in range(PROCESSES)]
    dist.all_gather(every, own)
    return bool(own.isfinite().all()) and all(torch.equal(own, other) for other in every)


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=PROCESSES)
    apart = [name for name in ESTIMATORS if not train(rank, *build(name))]
    assert not apart, f"other parameters in other processes: {apart}"
    dist.destroy_process_group()


def test_every_estimator_trains_the_same_in_all_processes(tmp_path):
    mp.spawn(work, (tmp_path,), PROCESSES)
