"""``reidpipe report``: its own words on the page, and what a second call does."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tests.cli.conftest import Console
from tests.reid_train.figures.pages import Page


def test_title_and_date_are_the_user_s_and_the_first_screen_is_told(trained: Console):
    words = ("report", "baseline", "--title", 'Tiny <img src=x> & "co"', "--date", "today")
    page = Page.of(Path(trained.json(*words)["report"]).read_text("utf-8"))
    assert 'Tiny <img src=x> & "co"' in page.text and date.today().isoformat() in page.text
    assert page.untold == [] and page.handlers == []
    # Whatever day it is: the same words say the same page.
    dated = (*words[:-1], date.today().isoformat())
    assert "nothing to do" in trained(*dated).stdout
    assert page.sections[0] == "summary" and page.anchors[0] == "#summary"
    assert {"curves", "training", "dataset", "queries", "cameras"} <= set(page.sections)
    assert "intervals by bootstrap over identities" in page.text
    assert "reidpipe train baseline-tiny --dataset folder --seed 0" in " ".join(page.text.split())
    for option in ("--title", "--date"):
        for wrong in ("", " ", "two\nlines"):
            line = trained.mistake("report", "baseline", option, wrong)
            assert f"found {option}" in line and f"type {option} " in line


@pytest.mark.slow
def test_stages_whose_logs_are_kept_are_drawn(trained: Console):
    """And those that were removed are not trained again for their curve."""
    words = ("train", "clip-reid-tiny", "--dataset", "folder", "--device", "cpu",
             "--set", "stages.identity-prompts.epochs=1", "--set", "stages.image.epochs=1",
             "--set", "stages.image.data.ids=2", "--set", "stages.image.data.images_per_id=2",
             "--set", "stages.identity-prompts.data.batch=4")  # fmt: skip
    run = trained.json(*words)["run"]
    first = Path(trained.json("report", run)["report"]).read_text("utf-8")
    assert "of stage identity-prompts" in first and "of stage image" in first
    assert "--set stages.identity-prompts.epochs=1" in " ".join(Page.of(first).text.split())
    (kept,) = [path for path in trained.root.glob("artifacts/prompts/*") if path.is_dir()]
    (kept / "artifact.json").unlink()
    again = trained("report", run)
    assert "making prompts" not in again.stderr
    second = Path(trained.json("report", run)["report"]).read_text("utf-8")
    assert "of stage identity-prompts" not in second and "of stage image" in second
