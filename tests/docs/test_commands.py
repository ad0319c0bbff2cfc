"""Every command of every page: it could be typed as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from tests.conftest import PROJECT
from tests.docs.pages import COMMANDS, LANGUAGES, Block, blocks, pages, words_of
from tests.docs.words import check

ALL = [block for page in pages() for block in blocks(page)]


def test_blocks_are_read_with_their_marks(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(
        "Text\n\n<!-- needs: a GPU -->\n```shell\nreidpipe a \\\n  b # why\n```\n\n"
        "    reidpipe c\n\n    none of ours\n\n```console\n$ reidpipe d\nsaid\n```\n"
    )
    first, second, third = blocks(page)
    assert (first.line, first.marks) == (5, {"needs": "a GPU"})
    assert [words_of(line) for line in first.commands()] == [["reidpipe", "a", "b"]]
    assert (second.language, second.commands()) == ("shell", ["reidpipe c"])
    assert list(third.typed()) == [("reidpipe d", ["said"])]


def test_every_page_of_docs_is_in_the_contents():
    site = {path.name for path in pages()}
    missing = {path.name for path in (PROJECT / "docs").rglob("*.md")} - site
    assert missing == set()


@pytest.mark.parametrize("block", ALL, ids=str)
def test_a_block_says_what_it_is(block: Block):
    assert block.language in LANGUAGES


@pytest.mark.parametrize("block", [b for b in ALL if b.language in COMMANDS], ids=str)
def test_commands_could_be_typed(block: Block):
    assert block.commands() != []
    mistakes = [line for line, shown in block.typed() if shown and shown[-1].startswith("Error: ")]
    for line in block.commands():
        if line not in mistakes:
            check(words_of(line))


INLINE = re.compile(r"`(reidpipe [a-z][^`]*)`")
# What shows the shape of a command: ``[--seed N]``, ``a|b``, ``train ...``.
SHAPE = re.compile(r"(?<!=)\[|\||\.\.\.|…")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands_within_sentences_could_be_typed(page: Path):
    text = page.read_text(encoding="utf-8")
    for match in INLINE.finditer(text):
        line = " ".join(match[1].split())
        if SHAPE.search(line):
            line = " ".join(line.split()[:2])
        try:
            check(words_of(line))
        except click.MissingParameter:
            continue  # the command is spoken of, not typed
