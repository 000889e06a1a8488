"""What nobody foresaw is said in short, and the traceback is kept."""

from pathlib import Path

import pytest

from dbp.cli import main
from dbp.errors import UserError, in_short

LINE = ["fit", "task=slots", "solver=one_hot", "estimator=imle", "data=slots", "data.size=20"]
TRAINER = ["trainer.accelerator=cpu", "trainer.max_epochs=1"]


@pytest.mark.parametrize(("where", "kept"), [("trainer.fast_dev_run=true", False), ("run=r", True)])
def test_options_that_torch_refuses_are_said_in_short(tmp_path, monkeypatch, capsys, where, kept):
    monkeypatch.chdir(tmp_path)
    assert main([*LINE, *TRAINER, where, "optimizer={name: sgd, lr: -1}"]) == 2
    said, file = capsys.readouterr().err.splitlines(), Path("lightning_logs/r/error.txt")
    assert said[0] == "dbp: error: ValueError: Invalid learning rate: -1.0"
    assert said[1].startswith("  in torch/optim/sgd.py, line ")
    assert " from dbp/tasks/factories.py, line " in said[1]
    assert said[2].endswith(f"the traceback: {file}" if kept else "DBP_TRACEBACK=1 shows the traceback")
    assert len(said) == 3
    assert file.is_file() == kept
    assert not kept or file.read_text().startswith("Traceback (most recent call last)")


def test_an_error_through_the_users_own_code_is_left_as_it_is():
    with pytest.raises(ZeroDivisionError), in_short():
        1 / 0  # noqa: B018


def test_what_users_put_right_passes():
    with pytest.raises(UserError, match=r"^k is 0$"), in_short():
        raise UserError("k is 0")
