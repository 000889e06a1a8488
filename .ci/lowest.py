"""Prints the lowest versions that pyproject.toml allows of what dbp needs, as constraints for pip.

python .ci/lowest.py torch=2.13.0       # but this version of torch: a machine may have one build alone
"""

import re
import sys
from pathlib import Path


def lowest(text: str) -> dict[str, str]:
    block = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert block, "pyproject.toml has no list of dependencies"
    lines = [line.strip() for line in block[1].splitlines()]
    found = [re.fullmatch(r'"([\w.-]+)>=([\w.]+)",', line) for line in lines]
    wrong = [line for line, match in zip(lines, found, strict=True) if not match]
    assert not wrong, f'a dependency is written "NAME>=VERSION", not {wrong[0]}'
    return {match[1]: match[2] for match in found if match}


if __name__ == "__main__":
    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8")
    given = dict(word.split("=") for word in sys.argv[1:])
    print(*(f"{name}=={version}" for name, version in (lowest(text) | given).items()), sep="\n")
