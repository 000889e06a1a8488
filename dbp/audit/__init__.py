"""Audits of gradients: estimators against the exact gradient of the expected loss, on small problems.

    rows = audit(solvers.OneHot(), {"imle": estimators.IMLE(), "score": estimators.Score()}, shape=[8])
    print(table(rows))

Nothing is imported before it is used: the command line looks for mistakes first.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
