"""What a search prints below its matches: how often rank 1 is right, whether there is more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts.store import Workspace
from pipeline.terminal.commandline import Terminal
from reid_train.search.matches import Match, Query
from reid_train.search.telling import tell_matches


def found(person: str | None, *verdicts: str | None) -> tuple[Query, list[Match]]:
    """A query of a person and a match for each verdict."""
    matches = [
        Match("q", rank, "n", "n", 0.5, True, None, verdict, None)
        for rank, verdict in enumerate(verdicts, 1)
    ]
    return Query(Path("q"), np.zeros(2, np.float32), person), matches


RESULTS = [
    found("a", "right", "wrong"),
    found("b", "wrong"),
    found("c"),  # nothing passes
    found("d", None),  # whom rank 1 shows is not known
    found(None, None),
]


@pytest.mark.parametrize(
    ("passing", "line"),
    [
        (
            True,
            "of 4 queries whose person is known, 3 have a match: rank 1 is right for 1, wrong for "
            "1, images of the same camera included",
        ),
        (
            False,
            "rank 1 is right for 1 of 2 queries whose person is known, images of the same camera "
            "included",
        ),
    ],
)
def test_queries_without_a_match_are_counted(
    passing: bool, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    terminal = Terminal(Workspace(tmp_path), as_json=False)
    tell_matches(terminal, RESULTS, 9, passing=passing, left=[20] * 5)
    assert capsys.readouterr().out.splitlines()[-1] == line


@pytest.mark.parametrize(("left", "told"), [([2, 8], False), ([3, 8], True)])
def test_more_may_pass_where_the_gallery_has_more(
    left: list[int], told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    results = [found("a", "right", "wrong"), found("b", "wrong")]
    tell_matches(Terminal(Workspace(tmp_path), as_json=False), results, 2, passing=True, left=left)
    assert ("more than 2 images may pass" in capsys.readouterr().out) == told
