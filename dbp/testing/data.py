"""Checks of the promises of a data set."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from dbp.data.data import Data
from dbp.testing.checks import require, run, same, table

SPLITS = ("train", "val", "test")


def check_data(data: Data, *, skip: Collection[str] = ()) -> None:
    """Checks the splits and batches of a data set that is already there: nothing is downloaded.

    Raises:
        AssertionError: a fault, named.
    """
    run(DATA_CHECKS, data, data, skip)


def splits(data: Data) -> None:
    missing = set(SPLITS) - set(data.splits)
    require(not missing, f"has no {', '.join(sorted(missing))}: datasets() returns train, val and test")
    empty = [split for split in SPLITS if not len(data.splits[split])]  # type: ignore[arg-type]
    require(not empty, f"has no examples in {', '.join(empty)}")


def repeatable(data: Data) -> None:
    loader, again = data.train_dataloader(), data.train_dataloader()
    first = _tensors(next(iter(loader)))
    require(first, "has batches without a tensor")
    message = "is not repeatable: two loaders have different first batches"
    require(all(map(same, first, _tensors(next(iter(again))))), message)


def batches(data: Data) -> None:
    loaders = {"train": data.train_dataloader(), "val": data.val_dataloader(), "test": data.test_dataloader()}
    for split, loader in loaders.items():
        size = min(data.batch_size, len(data.splits[split]))  # type: ignore[arg-type]
        tensors = _tensors(next(iter(loader)))
        found = {len(x) for x in tensors}
        require(found == {size}, f"has a first batch of {sorted(found)} in {split}, not of {size}")
        finite = all(x.isfinite().all() for x in tensors if x.is_floating_point())
        require(finite, f"has values in {split} that are not finite")


def _tensors(example: Any) -> list[Tensor]:
    if isinstance(example, Tensor):
        return [example]
    if isinstance(example, dict):
        return [x for value in example.values() for x in _tensors(value)]
    if isinstance(example, list | tuple):
        return [x for value in example for x in _tensors(value)]
    return [torch.as_tensor(example)] if isinstance(example, bool | int | float) else []


DATA_CHECKS = table(splits, repeatable, batches)
