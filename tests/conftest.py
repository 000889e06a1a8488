from pathlib import Path
from typing import Any

import pytest
import torch

from dbp.cli import main


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def dbp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line, in an empty folder and this process; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    for name in ("DBP_RUN", "SLURM_JOB_ID", "TORCHELASTIC_RUN_ID", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments: main(list(arguments))
