from pathlib import Path

import pytest

from dbp.cli import main
from dbp.errors import UserError
from dbp.runs.pictures import Pictures

CONFIG = Path(__file__).parents[2] / "configs" / "dvae" / "digits.yaml"


def test_reconstructions_go_to_tensorboard_in_training_and_to_a_file_after_a_test(tmp_path, monkeypatch, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    few = ["trainer.max_epochs=3", "trainer.limit_train_batches=2", "trainer.accelerator=cpu"]
    assert main(["fit", "--config", str(CONFIG), "run=r", "callbacks.pictures.every_n_epochs=2", *few]) == 0
    events = EventAccumulator("lightning_logs/r").Reload()
    assert [image.step for image in events.Images("val/reconstructions")] == [2, 6]  # after epochs 0 and 2
    assert {"train/loss", "val/bce", "val/bce_sampled"} <= set(events.Tags()["scalars"])
    assert main(["test", "run=r", "ckpt_path=last"]) == 0
    assert "picture: lightning_logs/r/test_reconstructions.png" in capsys.readouterr().out
    assert Path("lightning_logs/r/test_reconstructions.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_are_drawn_at_least_every_epoch():
    with pytest.raises(UserError, match="every_n_epochs must be at least 1"):
        Pictures(every_n_epochs=0)
