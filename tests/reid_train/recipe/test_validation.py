"""What ``--keep`` says, and whose images are looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.artifacts.validation import Keep, Validation
from pipeline.datasets.index import ImageRow, Index
from pipeline.terminal.errors import ReidpipeError
from reid_train.recipe.validation import overlap, read_keep


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        (None, Keep()),
        ("last", Keep()),
        ("best", Keep(best=True)),
        ("best,last,10", Keep(best=True, every=10)),
        ("10, best", Keep(best=True, every=10)),
    ],
)
def test_keep(text, keep):
    assert read_keep(text) == keep


@pytest.mark.parametrize("text", ["", "first", "best,,last", "0", "-2", "2,3", "2.5", "best last"])
def test_anything_else_is_one_line(text):
    with pytest.raises(ReidpipeError, match="expected best, last and at most one number"):
        read_keep(text)


def test_every_so_many_and_the_last(tmp_path):
    every = Validation(3, tmp_path, tmp_path, {})
    assert [n for n in range(1, 9) if every.due(n, 8)] == [3, 6, 8]
    assert [n for n in range(1, 9) if Keep(every=4).by_number(n, 8)] == [4]  # 8 is the model


def index(name, **digests):
    """``split='ab'``: images of the split with the digests a and b."""
    row = ImageRow("", "", "train", 1, 0, None, "", None, 8, 8, "")
    rows = [
        replace(row, key=f"{split}/{digest}", split=split, digest=digest)
        for split, found in digests.items()
        for digest in found
    ]
    return Index(name, Path(), rows)


def test_test_images_and_training_images_are_told():
    trained = index("crowd", train="abc", query="d", gallery="ef")
    assert overlap(trained, index("other", train="abc", query="x", gallery="yz")) is None
    told = overlap(trained, index("other", query="d", gallery="ay"))
    assert told is not None and told.startswith("validation: 1 of the 3 images of other are test")
    told = overlap(trained, index("other", query="b", gallery="ay"))
    assert told is not None and "2 of the 3 images of other are trained on" in told
