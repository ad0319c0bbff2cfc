"""The pages of docs/ and README.md, taken apart: their blocks, and what stands above each."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

from tests.conftest import PROJECT

DOCS = PROJECT / "docs"
README = PROJECT / "README.md"
# Of a block: commands, commands with what they print, code, and what is no command.
COMMANDS = ("shell", "console")
LANGUAGES = (*COMMANDS, "python", "csv", "json", "text", "toml", "yaml")
PROGRAMS = ("reidpipe", "make", "pip", "python", "torchrun", "dask", "OMP_NUM_THREADS=1")
MARK = re.compile(r"<!-- (needs|tested|said by): (.+?) -->")
FENCE = re.compile(r"^```([^\n]*)\n(?:(.*?)\n)?```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?<=\n\n)((?: {4}.*\n)+)")


@dataclass(frozen=True)
class Block:
    """A block of a page. line: of its first line of text, counted from 1. marks: what comments
    right above it say: ``needs`` (why it cannot be run here), ``tested`` (a command and the words
    it gets in the test), ``said by`` (the file that prints this)."""

    page: Path
    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.page.relative_to(PROJECT)}:{self.line}"

    def commands(self) -> list[str]:
        """The lines that are typed, continued ones joined."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        if self.language == "console":
            return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
        return [line.strip() for line in joined.splitlines() if line.strip()]

    def typed(self) -> Iterator[tuple[str, list[str]]]:
        """Each command with the lines that the page shows below it."""
        shown: list[str] = []
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, *shown = part.splitlines()
            yield command, [line for line in shown if line.strip()]


def pages() -> list[Path]:
    """Every page that a person writes: README.md, those of docs/ in the order of the site, and what
    the site shows from beside them."""
    own = [DOCS / name for name in in_nav() if (DOCS / name).is_file()]
    return [README, *own, PROJECT / "CONTRIBUTING.md", PROJECT / "CHANGELOG.md"]


@cache
def in_nav() -> tuple[str, ...]:
    """The pages of the site, in the order of its contents."""
    site = yaml.safe_load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"))
    return tuple(_leaves(site["nav"]))


def _leaves(entry: object) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        for inner in entry.values():
            yield from _leaves(inner)
    elif isinstance(entry, list):
        for inner in entry:
            yield from _leaves(inner)


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, fenced ones and indented ones that hold commands, in its order."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(page, _line(text, match.start(2)), match[1], match[2] or "", _marks(text, match))
        for match in FENCE.finditer(text)
    ]
    bare = FENCE.sub(lambda match: re.sub(r"[^\n]", "", match[0]), text)
    assert "```" not in bare, f"{page.name}: a fence that is not closed or not at the margin"
    for match in INDENTED.finditer(bare):
        inner = re.sub(r"^ {4}", "", match[1], flags=re.MULTILINE)
        if inner.split()[0] in PROGRAMS:
            marks = _marks(bare, match)
            found.append(Block(page, _line(bare, match.start(1)), "shell", inner, marks))
    return sorted(found, key=lambda block: block.line)


def _line(text: str, place: int) -> int:
    return text[:place].count("\n") + 1


def _marks(text: str, match: re.Match[str]) -> dict[str, str]:
    """What the comments right above a block say."""
    marks: dict[str, str] = {}
    above = text[: match.start()].rstrip("\n").splitlines()
    for line in reversed(above):
        if not line and not marks:
            continue
        if (mark := MARK.fullmatch(line)) is None:
            assert not line.startswith("<!--"), f"{line}: no mark that a test knows"
            break
        marks[mark[1]] = mark[2]
    return marks


def words_of(line: str) -> list[str]:
    """The words of a command up to what belongs to the shell; comments are left out."""
    words = shlex.split(line, comments=True)
    ends = [n for n, word in enumerate(words) if re.fullmatch(r"\||&&?|;|\d?>{1,2}", word)]
    return words[: ends[0]] if ends else words
