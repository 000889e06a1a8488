"""The command `dbp audit`: reads its words, runs the audit, prints the table and writes the files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbp.components import catalog
from dbp.errors import UserError
from dbp.registry.words import Keys, resolve

HELP = """
  solver=one_hot        with options: solver=top_k solver.k=3, or
                        "solver={name: spanning_tree, edges: [[0,1],[1,2]]}"
  estimator=a,b,c       names, or "[imle, {name: imle, lam: 10}]"; by default
                        every estimator that needs no options
  noise=gumbel          of perturb-and-MAP, where neither the estimator nor the
                        solver has one
  n=8                   the shape of theta is [n], or [n, n] for a solver of
                        matrices (where the default is 3)
  shape=[3,4]           or this shape; dims before the event's are decisions
                        that share a loss
  thetas=3 draws=50000 tuning=200 seed=0
  output=audit          writes audit.csv and audit.png
"""


@dataclass(frozen=True)
class Settings:
    """The checked settings of the command line; reading them imports no component."""

    solver: Mapping[str, Any]
    estimators: Mapping[str, Mapping[str, Any]]
    noise: Mapping[str, Any]
    n: int | None
    shape: tuple[int, ...] | None
    counts: Mapping[str, int]
    output: Path


_COUNTS = {"thetas": 3, "draws": 50_000, "tuning": 200, "seed": 0}
_DEFAULTS = {"solver": "one_hot", "estimator": None, "noise": "gumbel", "n": None, "shape": None, **_COUNTS}
_WORDS = Keys((*_DEFAULTS, "output"), text=("output",))


def run(words: Sequence[str]) -> int:
    """Runs the audit that the words (`key=value`) describe, prints the table, writes the files; returns the exit code.

    Raises:
        UserError: a mistake in the words, the solver or its options.
    """
    settings = read(words)
    from dbp.audit import audit, figure, table, write_csv

    solver = catalog.build("solver", dict(settings.solver))
    shape = settings.shape or (settings.n or (8 if solver.event_dim < 2 else 3),) * max(1, solver.event_dim)
    estimators = {label: catalog.build("estimator", dict(spec)) for label, spec in settings.estimators.items()}
    noise = catalog.build("noise", dict(settings.noise))
    rows = audit(solver, estimators, shape, noise=noise, progress=True, **settings.counts)
    print(f"{solver}, theta {list(shape)}\n\n{table(rows)}\n")
    files = [settings.output.with_name(settings.output.name + suffix) for suffix in (".csv", ".png")]
    try:
        write_csv(rows, files[0])
        figure(rows, f"{settings.solver['name']}, theta {list(shape)}").savefig(files[1], dpi=150)
    except OSError as error:
        raise UserError(f"audit: output={settings.output}: {error.strerror or error}") from error
    print(f"{files[0]}  {files[1]}")
    return 0


def read(words: Sequence[str]) -> Settings:
    """Reads and checks the words.

    Raises:
        UserError: an unknown key, name or option, or a value of the wrong type.
    """
    given = resolve(_WORDS.read(words, over=_DEFAULTS))
    counts = {key: _count(key, given[key]) for key in _COUNTS}
    shape, n = given["shape"], given["n"]
    if shape is not None and not (isinstance(shape, list) and shape):
        raise UserError(f"audit: shape is a list, as shape=[3,3], got {shape!r}")
    output = Path(given.get("output") or "audit")
    if not output.parent.is_dir():
        raise UserError(f"audit: output={output}: there is no folder {output.parent}")
    return Settings(
        catalog.complete("solver", given["solver"]),
        _estimators(given["estimator"]),
        catalog.complete("noise", given["noise"]),
        None if n is None else _count("n", n),
        None if shape is None else tuple(_count("shape", size) for size in shape),
        counts,
        output,
    )


def _estimators(given: Any) -> dict[str, Mapping[str, Any]]:
    if given is None:
        return {name: catalog.complete("estimator", name) for name in catalog["estimator"].claims() if _complete(name)}
    specs = given.split(",") if isinstance(given, str) else given if isinstance(given, list) else [given]
    found: dict[str, Mapping[str, Any]] = {}
    for spec in specs:
        full = catalog.complete("estimator", spec.strip() if isinstance(spec, str) else spec)
        found[_label(spec, full["name"])] = full
    return found


def _complete(name: str) -> bool:
    """True for an estimator that needs no options; false for a broken plugin."""
    try:
        return all(option.default is not None for option in catalog["estimator"].signature(name).options.values())
    except UserError:
        return False


def _label(spec: Any, name: str) -> str:
    options = [f"{k}={v}" for k, v in spec.items() if k != "name"] if isinstance(spec, Mapping) else []
    return f"{name}({', '.join(options)})" if options else name


def _count(key: str, value: Any) -> int:
    least = {"seed": 0, "tuning": 0, "draws": 2}.get(key, 1)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"audit: {key} is a whole number, at least {least}, got {value!r}")
    return value
