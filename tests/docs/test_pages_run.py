"""The pages of docs/, typed: every block that is not marked as needing what a test has not."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT
from tests.docs.pages import DOCS, Block, blocks, in_nav
from tests.docs.reader import reader_in, run_code, shows, type_block

MISTAKES = DOCS / "troubleshooting.md"
# Those with commands of their own that others do not run: one reader goes through them in order.
WALK = [
    page
    for page in (DOCS / name for name in in_nav())
    if page.is_file() and page not in (MISTAKES, DOCS / "python.md")
]


def run_page(page: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks(page):
        if "needs" in block.marks or "said by" in block.marks:
            continue
        if block.language in ("shell", "console"):
            type_block(block)
        elif block.language == "python" and "--8<--" not in block.text:
            run_code(block, names)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder with one workspace for all pages, and the files that pages show."""
    folder = tmp_path_factory.mktemp("reader")
    for example in (DOCS / "examples").iterdir():
        if example.is_file():
            shutil.copy(example, folder)
    with reader_in(folder):
        yield folder


@pytest.mark.slow
@pytest.mark.parametrize("page", WALK, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_a_page_runs_after_those_before_it(page: Path, place: Path):
    run_page(page)


def test_mistakes_are_told_as_the_page_shows(tmp_path: Path):
    with reader_in(tmp_path):
        run_page(MISTAKES)


def sentences(path: Path) -> Iterator[str]:
    """Patterns of the texts that a file puts together with values."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = [
                re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".+"
                for p in node.values
            ]
            yield "".join(map(str, parts))


SAID = [block for name in in_nav() if (page := DOCS / name).is_file() for block in blocks(page)
        if "said by" in block.marks]  # fmt: skip


@pytest.mark.parametrize("block", SAID, ids=str)
def test_what_cannot_be_typed_is_what_the_code_says(block: Block):
    assert any(
        re.fullmatch(pattern, block.text) for pattern in sentences(PROJECT / block.marks["said by"])
    )


def test_lines_are_compared_with_what_is_printed():
    printed = ["making a 12", "Error:  found x; expected y"]
    assert shows(printed, ["making a ...", "Error: found x; ..."])
    assert shows(printed, ["...", "Error: found x; expected y"])
    assert not shows(printed, ["Error: found x; expected y"])
    assert not shows(printed, ["...", "Error: found z; ..."])
