"""Every link between the repository's pages leads to a file."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ("docs", "plugins", "benchmarks")
PAGES = [ROOT / "README.md", *(path for place in PLACES for path in (ROOT / place).rglob("*.md"))]
LINK = re.compile(r"\[[^]]*\]\((?!https?:|#)([^)#\s]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    assert [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()] == []
