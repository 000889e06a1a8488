"""Everything that README.md and docs/*.md give a reader to run: commands, and blocks of Python, YAML and so on."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
COMMANDS = ("python ", "make ", "pip ", "pytest ", "sbatch ", "source ", "torchrun ")
FILE = re.compile(r"# (\S+\.(?:py|yaml))\n")  # the first line of a block that is a file


@dataclass(frozen=True)
class Item:
    """A command (language `sh`), or a block, which its first line names."""

    language: str
    text: str

    @property
    def name(self) -> str:
        return self.text.partition("\n")[0].strip()

    @property
    def file(self) -> str:
        """The file that the block is; empty if it is none."""
        found = FILE.match(self.text)
        return found[1] if found else ""


def items(page: Path) -> list[Item]:
    """The commands and blocks of a page, in its order; commands in the prose among them."""
    text, end, found = page.read_text(encoding="utf-8"), 0, list[Item]()
    for fence in FENCE.finditer(text):
        found += [*_spans(text[end : fence.start()]), *_of_fence(*fence.groups())]
        end = fence.end()
    assert "```" not in text[end:], f"{page.name}: a fence is not closed"
    return [*found, *_spans(text[end:])]


def blocks(page: Path, language: str) -> list[Item]:
    """The fenced blocks in one language."""
    return [item for item in items(page) if item.language == language]


def _of_fence(language: str, body: str) -> list[Item]:
    if language != "sh":
        return [Item(language, body)]
    lines = body.replace("\\\n", " ").splitlines()
    commands = (" ".join(re.sub(r"(^| )#.*", "", line).split()) for line in lines)
    return [Item("sh", command) for command in commands if command]


def _spans(prose: str) -> Iterator[Item]:
    spans = (" ".join(span.split()) for span in SPAN.findall(prose))
    return (Item("sh", span) for span in spans if span.startswith(COMMANDS))
