"""Shell completion: a script for bash or zsh that completes commands, options, keys and names of components."""

from argparse import ArgumentParser
from collections.abc import Iterable
from importlib.util import find_spec

from dbp.errors import UserError

SHELLS = ("bash", "zsh")
PREAMBLE = {"bash": "COMP_WORDBREAKS=${COMP_WORDBREAKS//=}  # estimator=imle is one word"}


def script(stages: Iterable[ArgumentParser], parser: ArgumentParser, words: Iterable[str], shell: str) -> str:
    """The script of a parser. The parsers of stages also complete files after --config, and overrides.

    Raises:
        UserError: the optional package that writes it is missing.
    """
    if find_spec("shtab") is None:
        raise UserError("completion needs the package shtab: pip install shtab")
    import shtab

    for stage in stages:
        for action in stage._actions:
            if "--config" in action.option_strings:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        stage.add_argument("overrides", nargs="*", choices=list(words))
    return shtab.complete(parser, shell, preamble=PREAMBLE)  # type: ignore[arg-type]  # takes one text a shell
