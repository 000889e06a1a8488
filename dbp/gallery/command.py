"""The command `dbp plot`: reads its words and draws a picture of a solver."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dbp.components import catalog
from dbp.errors import UserError
from dbp.gallery.examples import EXAMPLES, Example
from dbp.registry.words import Keys, resolve

USAGE = "dbp plot solver NAME [solver.OPTION=VALUE ...] [output=FILE.png]"
_WORDS = Keys(("solver", "output"), text=("output",))


def run(name: str, words: Sequence[str]) -> int:
    """Draws the solver's example, or random scores for one that has none; returns the exit code.

    Raises:
        UserError: an unknown name, key or option, a wrong value, a missing folder, or an error of the solver.
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
    """The solver's complete options (the given ones over the example's) and the output file; imports no torch."""
    given = resolve(_WORDS.read(words, over={"solver": {"name": name}}))
    options = given["solver"]
    if not isinstance(options, Mapping) or options.get("name") != name:
        raise UserError(f"plot: the solver is {name!r} already; give its options, as solver.OPTION=VALUE")
    output = Path(given.get("output") or f"solver_{name.replace(':', '_')}.png")
    if not output.parent.is_dir():
        raise UserError(f"plot: output={output}: there is no folder {output.parent}")
    if output.suffix != ".png":
        raise UserError(f"plot: output={output}: pictures are PNG files")
    return catalog.complete("solver", {**example, **options}), output
