"""Pixels made bits, and Omniglot's file."""

import numpy as np
import pytest
import torch
from scipy.io import savemat

from dbp.data import DataError, Images, Omniglot


class Levels(Images):
    """Images in which every byte appears equally often."""

    def read(self, part):
        images = torch.arange(256, dtype=torch.uint8).repeat(20 * 28 * 28 // 256 + 1)[: 20 * 28 * 28]
        return images.view(20, 28, 28), torch.zeros(20, dtype=torch.int64)


def batches(data):
    return torch.cat([images for images, _ in data.train_dataloader()])


def test_without_binarisation_pixels_are_their_bytes():
    images, _ = Levels().read("train")
    assert torch.equal(next(iter(Levels(batch_size=20).test_dataloader()))[0], images / 255)


def test_static_binarisation_is_drawn_once_for_all_seeds():
    one, other = (Levels(binarise="static", seed=seed).splits["train"].tensors[0] for seed in (0, 1))
    assert torch.equal(one, other)
    assert set(one.unique().tolist()) == {0, 255}


def test_a_pixel_is_one_as_often_as_its_value_says():
    class Grey(Levels):
        def read(self, part):
            levels = torch.tensor([[0, 51], [204, 255]], dtype=torch.uint8)
            return levels.repeat(100_000, 1, 1), torch.zeros(100_000)

    bits = Grey(binarise="static").splits["test"].tensors[0].flatten(1) / 255
    mean = bits.mean(0)
    assert mean[0] == 0
    assert mean[3] == 1
    torch.testing.assert_close(mean[1:3], torch.tensor([0.2, 0.8]), atol=5 * 0.4 / 10**2.5, rtol=0)


def test_dynamic_binarisation_draws_training_images_anew_in_every_epoch_and_others_once():
    data = Levels(binarise="dynamic", batch_size=8)
    loader = data.train_dataloader()
    first, second = (torch.cat([images for images, _ in loader]) for _ in range(2))
    assert set(first.unique().tolist()) == {0, 1}
    assert not torch.equal(first.sort(0).values, second.sort(0).values)
    held_out = [torch.cat([images for images, _ in data.val_dataloader()]) for _ in range(2)]
    assert torch.equal(*held_out)
    assert set(held_out[0].unique().tolist()) == {0, 1}


def test_what_is_drawn_depends_on_the_batch_alone():
    here = batches(Levels(binarise="dynamic", batch_size=8))
    torch.rand(5)  # whatever else is drawn
    assert torch.equal(here, batches(Levels(binarise="dynamic", batch_size=8, workers=2)))
    before = torch.get_rng_state()
    batches(Levels(binarise="dynamic", batch_size=8))
    assert torch.equal(before, torch.get_rng_state())


def characters(path, **changes):
    """A file in the layout of Burda's: pixels by columns, in column-major order."""
    upright = np.zeros((6, 28, 28))
    upright[:, 3, 20] = 1  # row 3, column 20
    upright[:, 0, 0] = 0.5
    arrays = {}
    for data, target, count in (("data", "target", 4), ("testdata", "testtarget", 2)):
        arrays[data] = upright[:count].transpose(0, 2, 1).reshape(count, -1).T
        arrays[target] = np.eye(50)[:, :count]
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {**arrays, **changes})


@pytest.mark.parametrize("place", ["", "omniglot/", "OMNIGLOT/", "derived/", "omniglot/derived/"])
def test_omniglot_is_read_upright_with_alphabets_for_labels(tmp_path, place):
    characters(tmp_path / place / "chardata.mat")
    data = Omniglot(str(tmp_path), batch_size=4)
    data.prepare_data()
    images, labels = next(iter(data.test_dataloader()))
    assert images.shape == (2, 28, 28)
    assert images[0, 3, 20] == 1
    assert images[0, 0, 0] == pytest.approx(0.5, abs=0.003)
    assert images[0].sum() == pytest.approx(1.5, abs=0.003)
    assert labels.tolist() == [0, 1]
    assert len(data.splits["train"]) == 4


def test_omniglot_says_where_to_get_it(tmp_path):
    with pytest.raises(
        DataError, match=r"there is no .*omniglot/chardata\.mat, (.|\n)*https://github\.com/yburda/iwae"
    ):
        Omniglot(str(tmp_path)).prepare_data()


def test_the_folder_named_omniglot_comes_first(tmp_path):
    characters(tmp_path / "chardata.mat", data=np.zeros((784, 4)))
    characters(tmp_path / "omniglot" / "chardata.mat")
    assert Omniglot(str(tmp_path)).splits["train"].tensors[0].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": np.zeros((700, 4))},
            "expected data of 784 x N numbers .* found 700 x 4 and 50 x 4",
        ),
        ({"data": np.full((784, 4), 1.5)}, "pixels must be numbers from 0 to 1"),
        ({"data": np.full((784, 4), np.nan)}, "pixels must be numbers from 0 to 1"),
        ({"data": "text"}, "expected the variables data and target, numbers"),
        ({"data": np.array([[{"a": 1}]], dtype=object)}, "expected the variables data and target, numbers"),
        ({"target": np.zeros((50, 3))}, "found 784 x 4 and 50 x 3"),
    ],
)
def test_a_file_that_is_not_omniglot_is_refused(tmp_path, changes, message):
    characters(tmp_path / "chardata.mat", **changes)
    with pytest.raises(DataError, match=message):
        Omniglot(str(tmp_path)).setup()


@pytest.mark.parametrize("keep", [0, 50, 200, 3000])
def test_a_damaged_file_is_refused(tmp_path, keep):
    path = tmp_path / "chardata.mat"
    characters(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="chardata"):
        Omniglot(str(tmp_path)).setup()


def test_a_file_that_says_it_is_huge_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "chardata.mat"
    savemat(path, {"data": np.zeros((784, 5000)), "target": np.zeros((50, 5000))}, do_compression=True)
    assert path.stat().st_size < 100_000
    monkeypatch.setattr("dbp.data.omniglot.LIMIT", 3_000_000)
    with pytest.raises(DataError, match="an array of more than 3,000,000 numbers"):
        Omniglot(str(tmp_path)).setup()
