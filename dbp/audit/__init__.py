"""How good is a gradient: estimators against the exact gradient of the expected loss, on problems small enough.

    rows = audit(solvers.OneHot(), {"imle": estimators.IMLE(), "score": estimators.Score()}, shape=[8])
    print(table(rows))

Nothing is imported before it is used: the command line looks for mistakes first.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbp.audit.losses import Loss, standard_losses
    from dbp.audit.measure import Row, audit
    from dbp.audit.references import Reference, reference
    from dbp.audit.report import figure, table, write_csv

__all__ = ["Loss", "Reference", "Row", "audit", "figure", "reference", "standard_losses", "table", "write_csv"]

_HOME = {
    **dict.fromkeys(("Loss", "standard_losses"), "losses"),
    **dict.fromkeys(("Row", "audit"), "measure"),
    **dict.fromkeys(("Reference", "reference"), "references"),
    **dict.fromkeys(("figure", "table", "write_csv"), "report"),
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"dbp.audit.{_HOME[name]}"), name)
    raise AttributeError(f"module 'dbp.audit' has no attribute {name!r}")
