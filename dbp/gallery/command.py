"""`python -m dbp plot`: from words to a picture of a solver."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dbp.components import catalog
from dbp.config import read_overrides
from dbp.errors import UserError
from dbp.gallery.examples import EXAMPLES, Example
from dbp.registry.catalog import merge

USAGE = "dbp plot solver NAME [solver.OPTION=VALUE ...] [output=FILE.png]"


def run(name: str, words: Sequence[str]) -> int:
    """Draws the solver's example, or random scores for one that has none; returns the exit code.

    Raises:
        UserError: an unknown name, key or option, a wrong value, a folder that is not there, or what the solver says.
    """
    example = EXAMPLES.get(name)
    options, output = read(name, words, example.options if example else {})
    import torch

    from dbp.gallery.panels import Case, draw
    from dbp.solvers.scores import random_scores

    torch.manual_seed(0)
    solver = catalog.build("solver", options)
    if example is None:
        shape = (len(options["edges"]),) if options.get("edges") else (8,) * max(solver.event_dim, 1)
        example = Example(lambda options: random_scores(solver, shape))
    theta = torch.as_tensor(example.scores(options), dtype=torch.float32)
    draw(Case(theta.numpy(), solver(theta).numpy(), options, example)).savefig(output, dpi=150)
    print(f"picture: {output}")
    return 0


def read(name: str, words: Sequence[str], example: Mapping[str, Any]) -> tuple[dict[str, Any], Path]:
    """The solver's complete options, those of the example beneath those given, and the file; imports no torch."""
    given: dict[str, Any] = {}
    for token, layer in read_overrides(words):
        if not layer.keys() <= {"solver", "output"}:
            raise UserError(f"plot: {token!r}: it takes options of the solver and the output\n  usage: {USAGE}")
        given = merge(given, layer)
    options = given.get("solver", {})
    if not isinstance(options, Mapping) or "name" in options:
        raise UserError(f"plot: the solver is named once, and has options after a dot\n  usage: {USAGE}")
    output = Path(given.get("output") or f"solver_{name.replace(':', '_')}.png")
    if not output.parent.is_dir():
        raise UserError(f"plot: output={output}: there is no folder {output.parent}")
    if output.suffix != ".png":
        raise UserError(f"plot: output={output}: pictures are PNG files")
    return catalog.complete("solver", {**example, **options, "name": name}), output
