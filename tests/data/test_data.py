"""Order, resume, splits and batches of data modules."""

import random
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dbp.data import MNIST, Data, DataError, Digits, FashionMNIST, Loader, Order, SlotsData, Tensors, key

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
SIZES = [(24, 4, 1), (25, 4, 1), (3, 8, 1), (25, 4, 2), (24, 4, 3), (26, 4, 3), (5, 4, 5), (97, 8, 4)]


class Numbers(Data):
    """Rows 0, 1, 2, ... so that a batch shows its own indices."""

    def __init__(self, size: int = 22, **options: Any) -> None:
        super().__init__(**options)
        self.size, self.calls = size, 0

    def datasets(self) -> Mapping[str, Dataset]:
        self.calls += 1
        return {name: Tensors(torch.arange(self.size)) for name in ("train", "val", "test")}


class Augmented(Dataset[Tensor]):
    """Draws from all three generators, and counts nothing: only the batch decides."""

    def __len__(self) -> int:
        return 22

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([index, float(torch.rand(())), float(np.random.rand()), random.random()])


class AugmentedData(Numbers):
    def datasets(self) -> Mapping[str, Dataset]:
        return {name: Augmented() for name in ("train", "val", "test")}


class Recorder(pl.LightningModule):
    """Notes what it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[int]]] = []
        self.evaluated: list[int] = []

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        self.seen.append((self.trainer.current_epoch, batch[0].tolist()))
        return self.weight * batch[0].sum()

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        self.evaluated += batch[0].tolist()

    test_step = predict_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def trainer(folder: Path, **options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(default_root_dir=folder, accelerator="cpu", **{"enable_checkpointing": False, **quiet, **options})


def tensors(data: Data, split: str) -> tuple[Tensor, ...]:
    dataset = data.splits[split]
    assert isinstance(dataset, Tensors)
    return dataset.tensors


def flat(order: Order, epoch: int = 0) -> list[int]:
    return [index for batch in order.batches(epoch) for index in batch.indices]


@pytest.mark.parametrize(("examples", "batch_size", "world"), SIZES)
@pytest.mark.parametrize("shuffle", [True, False])
def test_ranks_partition_an_epoch_in_equally_many_batches(examples, batch_size, world, shuffle):
    orders = [Order(examples, batch_size, shuffle, 0, world, rank) for rank in range(world)]
    epochs = [[batch.indices for batch in order.batches(1)] for order in orders]
    assert sorted(index for order in orders for index in flat(order, 1)) == list(range(examples))
    assert {len(epoch) for epoch in epochs} == {len(orders[0])}
    assert all(1 <= len(batch) <= batch_size + 1 for epoch in epochs for batch in epoch)
    assert all(len(batch) == batch_size for epoch in epochs for batch in epoch[:-1])


def test_one_process_evaluates_in_order():
    assert flat(Order(25, 4)) == list(range(25))


def test_global_batches_do_not_depend_on_the_number_of_processes():
    one = [set(batch.indices) for batch in Order(24, 6, True).batches(2)]
    three = zip(*(Order(24, 2, True, 0, 3, rank).batches(2) for rank in range(3)), strict=True)
    assert one == [{index for batch in batches for index in batch.indices} for batches in three]


def test_order_differs_by_epoch_and_seed_and_repeats():
    orders = [flat(Order(50, 8, True, seed), epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9
    assert flat(Order(50, 8, True, 2), 2) == orders[-1]


def test_keys_are_the_same_on_every_machine():
    assert key(1, "order", 2) == 1_671_847_539_343_688_486


@pytest.mark.parametrize("start", [0, 1, 5, 6])
def test_skipping_drops_the_first_batches(start):
    order = Order(22, 4, True)
    assert list(order.batches(3, start)) == list(order.batches(3))[start:]


def test_fewer_examples_than_processes_is_an_error():
    with pytest.raises(DataError, match="3 examples cannot be shared by 4"):
        Order(3, 8, world=4)
    with pytest.raises(DataError, match="0 examples"):
        Order(0, 8)


@pytest.mark.parametrize("data", [Numbers, AugmentedData])
def test_workers_do_not_change_batches(data):
    loaders = [data(batch_size=4, workers=workers).train_dataloader() for workers in (0, 2)]
    for _ in range(2):  # epochs
        alone, helped = (list(loader) for loader in loaders)
        assert len(alone) == len(loaders[0]) == 6
        torch.testing.assert_close(helped, alone, rtol=0, atol=0)


def test_augmentation_is_drawn_anew_each_epoch_and_leaves_the_generators_alone():
    loader = AugmentedData(batch_size=22).train_dataloader()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    (first,), (second,) = loader, loader
    torch.testing.assert_close(torch.rand(3), expected)
    assert (first[first[:, 0].argsort(), 1:] != second[second[:, 0].argsort(), 1:]).all()
    assert len(first[:, 1:].unique()) == first[:, 1:].numel()


def test_skipped_examples_are_not_loaded():
    loaded = []

    class Counted(Dataset[int]):
        def __getitem__(self, index: int) -> int:
            loaded.append(index)
            return index

    batches = list(Loader(Counted(), Order(22, 4), position=lambda: (0, 4)))
    assert [batch.tolist() for batch in batches] == [[16, 17, 18, 19], [20, 21]]
    assert loaded == list(range(16, 22))


def test_tensors_are_read_by_row_and_by_batch():
    data = Tensors(torch.tensor([[0, 255], [51, 102]], dtype=torch.uint8), torch.tensor([3, 4]))
    images, labels = data.batch([1, 0, 1])
    torch.testing.assert_close(images, torch.tensor([[0.2, 0.4], [0.0, 1.0], [0.2, 0.4]]))
    assert labels.tolist() == [4, 3, 4]
    assert len(data) == 2
    torch.testing.assert_close(data[1], (torch.tensor([0.2, 0.4]), torch.tensor(4)))
    with pytest.raises(IndexError):
        data[2]
    with pytest.raises(DataError, match=r"\[2, 3\]"):
        Tensors(torch.zeros(2), torch.zeros(3))


def test_data_works_without_a_trainer():
    data = Numbers(batch_size=4)
    data.setup()
    loader = data.train_dataloader()
    first, second = ([row for (batch,) in loader for row in batch.tolist()] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(22))
    assert first != second
    assert [row for (batch,) in data.val_dataloader() for row in batch.tolist()] == list(range(22))
    assert data.calls == 1


def test_options_out_of_range_are_errors():
    for options in ({"batch_size": 0}, {"workers": -1}):
        with pytest.raises(DataError, match="must be"):
            Numbers(**options)


@pytest.mark.parametrize("call", ["validate", "test", "predict"])
def test_evaluation_sees_every_example_once_and_in_order(tmp_path, call):
    model, data = Recorder(), Numbers(batch_size=4)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "predict returned None")
        getattr(trainer(tmp_path), call)(model, datamodule=data, **({} if call == "predict" else {"verbose": False}))
    assert model.evaluated == list(range(22))


def test_overfitting_sees_one_batch_again_and_again(tmp_path):
    model = Recorder()
    trainer(tmp_path, max_epochs=3, overfit_batches=1).fit(model, datamodule=Numbers(batch_size=4))
    assert [batch for _, batch in model.seen] == [model.seen[0][1]] * 3


class EveryStep(pl.Callback):
    """Writes a checkpoint wherever a callback may."""

    def __init__(self, folder: Path, hook: str) -> None:
        self.folder, self.count = folder, 0
        setattr(self, hook, self.save)

    def save(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            trainer.save_checkpoint(self.folder / f"{self.count}-{trainer.global_step}.ckpt", weights_only=False)
            self.count += 1


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_end", "on_train_epoch_end"])
@pytest.mark.parametrize(
    "limits",
    [
        {"max_epochs": 3},
        {"max_epochs": 3, "limit_train_batches": 4},
        {"max_epochs": 3, "val_check_interval": 2},
        {"max_epochs": -1, "max_steps": 15},
        {"max_epochs": 3, "accumulate_grad_batches": 2},
    ],
    ids=lambda limits: "-".join(f"{key}={value}" for key, value in limits.items()),
)
def test_a_resumed_run_sees_what_it_had_not_seen(tmp_path, limits, hook):
    whole, saver = Recorder(), EveryStep(tmp_path, hook)
    trainer(tmp_path, callbacks=[saver], **limits).fit(whole, datamodule=Numbers(batch_size=4, seed=5))
    accumulate = limits.get("accumulate_grad_batches", 1)
    assert saver.count >= 2
    for path in sorted(tmp_path.glob("*.ckpt")):
        batches = torch.load(path, weights_only=True)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        rest = Recorder()
        resumed = trainer(tmp_path, **limits)
        resumed.fit(rest, datamodule=Numbers(batch_size=4, seed=5), ckpt_path=path)
        done = batches["total"]["processed"]
        assert done >= int(path.stem.split("-")[1]) * accumulate - accumulate
        assert rest.seen == whole.seen[done:], path.name


def test_digits_are_split_in_proportion():
    data = Digits(batch_size=100)
    splits = [tensors(data, name) for name in ("train", "val", "test")]
    assert [len(labels) for _, labels in splits] == [1297, 200, 300]
    assert len(torch.cat([rows for rows, _ in splits]).flatten(1).unique(dim=0)) == 1797
    shares = [labels.bincount() / len(labels) for _, labels in splits]
    assert all((share - shares[0]).abs().max() < 0.01 for share in shares)
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (100, 8, 8)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert (images.min(), images.max()) == (0, 1)


@pytest.mark.parametrize("options", [{}, {"high": 1.0, "contains": 0.5}, {"dim": 3}, {"items": 11, "contains": 0}])
def test_slots_contain_the_wanted_item_once_among_distinct_others(options):
    data = SlotsData(size=300, batch_size=300, **options)
    (items,) = next(iter(data.train_dataloader()))
    assert items.shape == (300, data.items, data.dim)
    wanted = (items == options.get("contains", 5.0)).all(-1)
    assert (wanted.sum(1) == 1).all()
    assert len(wanted.int().argmax(1).unique()) == data.items  # in every place
    assert (items.sort(1).values.diff(dim=1) > 0).all()
    assert items.min() == 0
    assert items.max() == options.get("high", 10.0)
    assert len(items.unique()) == 11


def test_slots_depend_on_seed_split_and_index_alone():
    def draw(split: str = "train", **options: int) -> Tensor:
        return tensors(SlotsData(**options), split)[0]

    torch.testing.assert_close(draw(size=2000)[:50], draw(size=50))
    draws = [draw(size=500)[:50], draw(size=500, seed=1)[:50], draw("val", size=500), draw("test", size=500)]
    assert all(not a.equal(b) for i, a in enumerate(draws) for b in draws[:i])


@pytest.mark.parametrize("options", [{"items": 12}, {"items": 0}, {"contains": 5.5}])
def test_impossible_slots_are_errors(options):
    with pytest.raises(DataError, match=next(iter(options))):
        SlotsData(**options)


@pytest.mark.skipif(not SHARED.exists(), reason="no data sets beside the repository")
@pytest.mark.parametrize("data", [MNIST, FashionMNIST])
def test_official_files_are_read(data):
    read = data(root=str(SHARED))
    assert [len(tensors(read, name)[1]) for name in ("train", "val", "test")] == [60_000, 10_000, 10_000]
    assert tensors(read, "test")[1].bincount().min() > 800
