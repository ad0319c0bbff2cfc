"""docs/python.md and the quick start of README.md: every line is run as it stands."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, README, Block, blocks
from tests.docs.reader import reader_in, run_code, type_block, type_command

PAGE = DOCS / "python.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the page's commands were typed."""
    place = tmp_path_factory.mktemp("page")
    with reader_in(place):
        for block in written(PAGE, "shell"):
            type_block(block)
        yield place


def written(page: Path, language: str) -> list[Block]:
    """The blocks of a page that need nothing which is not here."""
    return [b for b in blocks(page) if b.language == language and "needs" not in b.marks]


def test_the_page_runs(folder: Path):
    names: dict = {}
    for block in written(PAGE, "python"):
        run_code(block, names)
    assert len(names) > 20 and written(PAGE, "python") == [
        block for block in blocks(PAGE) if block.language == "python"
    ]


def test_the_quick_start_runs(folder: Path, capsys: pytest.CaptureFixture[str]):
    (typed,), (code,) = written(README, "shell"), written(README, "python")
    assert len([line for line in (typed.text + "\n" + code.text).splitlines() if line]) <= 10
    first = next((folder / "photos").iterdir())
    shutil.copy(first, folder / "person.png")
    train, *rest = typed.commands()
    # At full length elsewhere: a shorter run is there.
    assert train == "reidpipe train baseline-tiny"
    for command in rest:
        result = type_command(command)
        assert result is not None and result.exit_code == 0, result
    run_code(code, {})
    assert f"[('{first.name}', " in capsys.readouterr().out
