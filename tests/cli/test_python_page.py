"""docs/python.md and the quick start of README.md: every line is run as it stands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import cli
from pipeline.mannequins import DEFAULTS
from tests.cli.conftest import SMALL
from tests.conftest import PROJECT

PAGE, README = PROJECT / "docs" / "python.md", PROJECT / "README.md"
# As many people as a batch of the recipe has; few pictures of each, and small ones.
PEOPLE = SMALL | {"identities": {"train": 16, "test": 6}, "images": 2}


def blocks(path: Path, language: str) -> list[tuple[int, str]]:
    """Line number and text of a page's fenced blocks of one language."""
    text = path.read_text(encoding="utf-8")
    return [
        (text[: match.start(1)].count("\n"), match[1])
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


def type_command(line: str) -> None:
    program, *words = shlex.split(line)
    if program == "reidpipe":
        result = CliRunner().invoke(cli.main, words, prog_name=program)
        assert result.exit_code == 0, (line, result.output)
    else:
        subprocess.run(["sh", "-ec", line], check=True)


def run_block(path: Path, line: int, text: str, names: dict) -> None:
    # Padded, so that a traceback shows the line of the page.
    exec(compile("\n" * line + text, str(path), "exec"), names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the page's commands were typed."""
    place = tmp_path_factory.mktemp("page")
    before = dict(DEFAULTS)
    with pytest.MonkeyPatch.context() as patch:
        DEFAULTS.update(PEOPLE)
        patch.chdir(place)
        patch.delenv("REIDPIPE_WORKSPACE", raising=False)
        for _, text in blocks(PAGE, "shell"):
            for line in text.splitlines():
                type_command(line)
        yield place
    DEFAULTS.clear()
    DEFAULTS.update(before)


def test_the_page_runs(folder: Path):
    names: dict = {}
    for line, text in blocks(PAGE, "python"):
        run_block(PAGE, line, text, names)
    assert len(blocks(PAGE, "python")) == PAGE.read_text(encoding="utf-8").count("```python")


def test_the_quick_start_runs(folder: Path, capsys: pytest.CaptureFixture[str]):
    ((_, typed),), ((line, text),) = blocks(README, "shell"), blocks(README, "python")
    assert len([line for line in (typed + text).splitlines() if line]) <= 10
    first = next((folder / "photos").iterdir())
    shutil.copy(first, folder / "person.png")
    train, *rest = typed.splitlines()
    assert (
        train == "reidpipe train baseline-tiny"
    )  # at full length elsewhere: a shorter run is there
    for command in rest:
        type_command(command)
    run_block(README, line, text, {})
    assert f"[('{first.name}', " in capsys.readouterr().out
