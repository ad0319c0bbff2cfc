"""Typing what stands on a page, in one folder and this process, and comparing what is shown."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import cli
from pipeline.mannequins import DEFAULTS
from tests.cli.conftest import SMALL
from tests.docs.pages import Block

# As many people as a batch of the recipes has; few pictures of each, and small ones.
PEOPLE = SMALL | {"identities": {"train": 16, "test": 6}, "images": 2}


@contextmanager
def reader_in(folder: Path) -> Iterator[None]:
    """Somebody who stands in ``folder`` and types; there are fewer mannequins than usual."""
    before = dict(DEFAULTS)
    try:
        with pytest.MonkeyPatch.context() as patch:
            DEFAULTS.update(PEOPLE)
            patch.chdir(folder)
            patch.delenv("REIDPIPE_WORKSPACE", raising=False)
            yield
    finally:
        DEFAULTS.clear()
        DEFAULTS.update(before)


def type_command(line: str, tested: str = "") -> Result | None:
    """Run a line. ``tested``: a command and the words it gets here, so that a test is short. The
    result of a command of ours; what the system's print is not looked at."""
    words = shlex.split(line, comments=True)
    if words[0] != "reidpipe":
        subprocess.run(["bash", "-ec", line], check=True)
        return None
    command, *more = shlex.split(tested) or [""]
    words = [found for word in words[1:] for found in expanded(word)]
    words += more if command in words else []
    result = CliRunner().invoke(cli.main, words, prog_name="reidpipe")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def expanded(word: str) -> list[str]:
    """A word as the shell hands it on."""
    if "*" not in word or "=" in word:
        return [word]
    return sorted(map(str, Path().glob(word))) or [word]


def type_block(block: Block) -> None:
    """Run the commands of a block; each must succeed, or print what the page shows."""
    tested = block.marks.get("tested", "")
    if block.language == "shell":
        for line in block.commands():
            result = type_command(line, tested)
            assert result is None or result.exit_code == 0, (str(block), line, result.output)
        return
    for line, shown in block.typed():
        result = type_command(line, tested)
        assert result is not None
        assert shows(result.output.splitlines(), shown), (str(block), line, result.output)
        assert result.exit_code == (2 if shown[-1].startswith("Error: ") else 0), (line, result)


def shows(printed: list[str], shown: list[str]) -> bool:
    """Whether a page's lines are those printed; ``...`` stands for any text, or alone for lines."""
    pattern = "\n".join(
        r"(?:.*\n)*?.*" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*")
        for line in (" ".join(line.split()) for line in shown)
    )
    return re.fullmatch(pattern, "\n".join(" ".join(line.split()) for line in printed)) is not None


def run_code(block: Block, names: dict[str, Any]) -> None:
    """Run a block of Python; a traceback shows the line of the page."""
    exec(compile("\n" * (block.line - 1) + block.text, str(block.page), "exec"), names)
