"""`python -m dbp.templates.stubs` writes the type stubs of the packages whose classes are imported lazily.

Type checkers and editors do not run `__getattr__`; the stubs tell them the same names. They follow from the table of
components, so that nobody edits them by hand.
"""

from pathlib import Path

from dbp import components  # noqa: F401 (fills the table)
from dbp.registry.source import LAZY, file_of


def stubs() -> dict[Path, str]:
    """Maps each stub's file to its text: the package's own imports, then the classes of the table."""
    found = {}
    for package, classes in LAZY.items():
        if classes and (file := file_of(package)):
            own = [line for line in file.read_text().splitlines() if line.startswith("from dbp.") and " as " in line]
            rows = [(path.rpartition(".")[0], name) for name, path in classes.items()]
            lines = {*own, *(f"from {module} import {name} as {name}" for module, name in rows)}
            found[file.with_suffix(".pyi")] = "\n".join(sorted(lines, key=_place)) + "\n"
    return found


def _place(line: str) -> tuple[str, bool, str]:
    """The order of imports that linters ask for: names in capitals first."""
    _, module, _, name, *_ = line.split()
    return module, not name.isupper(), name


if __name__ == "__main__":
    for path, text in stubs().items():
        path.write_text(text)
