"""`dbp completion`: the script completes words in a shell; without its optional package it says what to install."""

import shutil
import subprocess
from pathlib import Path

import pytest

from dbp.cli import main

TRY = """
source {script}
COMP_WORDS=({line}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 )); COMPREPLY=()
_shtab_dbp
echo "${{COMPREPLY[*]}}"
"""
LINES = [
    ("dbp fi", "fit"),
    ("dbp fit --conf", "--config"),
    ("dbp fit estimator=im", "estimator=imle"),
    ("dbp test solver=top_k data=fash", "data=fashion_mnist"),
    ("dbp fit ckpt", "ckpt_path="),
    ("dbp list --ch", "--check"),
    ("dbp completion z", "zsh"),
]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("dbp.registry.completion.find_spec", lambda name: None)
    assert main(["completion", "bash"]) == 2
    assert capsys.readouterr().err == "dbp: error: completion needs the package shtab: pip install shtab\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "dbp.bash"
    script.write_text(capsys.readouterr().out)
    for line, completed in LINES:
        done = subprocess.run(["bash", "-c", TRY.format(script=script, line=line)], capture_output=True, text=True)
        assert done.stdout.split() == [completed], (line, done.stderr)


def test_zsh_gets_the_same_words(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef dbp")
    assert " estimator=imle " in script
