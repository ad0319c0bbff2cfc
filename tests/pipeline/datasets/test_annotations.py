"""Label maps beside images are read as they were indexed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipeline.artifacts.atomic import write_json
from pipeline.artifacts.checked import as_made
from pipeline.artifacts.mark import MARK
from pipeline.datasets.annotations import (
    annotation,
    digested,
    indexed_annotations,
    names_annotations,
)
from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.index import ImageRow
from pipeline.datasets.layouts import LayoutRow
from pipeline.images.originals import ChangedImage
from pipeline.terminal.errors import DamagedFile
from tests.replaced import flip


def row(**extra: str) -> ImageRow:
    return ImageRow(
        key="a", path="a.jpg", split="train", pid=None, camid=None, view=None, sequence="",
        frame=None, width=1, height=1, digest="", extra=extra,
    )  # fmt: skip


def test_rows_get_the_digest_of_their_label_map(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"labels")
    rows = [
        LayoutRow("a.jpg", "train", None, extra={"label_path": "a.png", "caption": "x"}),
        LayoutRow("b.jpg", "train", None, extra={"label_path": "gone.png"}),
        LayoutRow("c.jpg", "train", None),
    ]
    digest = hashlib.sha256(b"labels").hexdigest()
    found = [entry.extra for entry in digested(rows, tmp_path)]
    assert found == [
        {"label_path": "a.png", "caption": "x", "label_digest": digest},
        {"label_path": "gone.png", "label_digest": ""},
        {},
    ]
    indexed = row(**found[0])
    assert annotation(tmp_path, indexed).read() == b"labels"
    several = [indexed, row(), row(**found[1])]
    assert [label.path for label in indexed_annotations(tmp_path, several)] == [tmp_path / "a.png"]
    flip(tmp_path / "a.png")
    with pytest.raises(ChangedImage, match=r"a\.png"):
        annotation(tmp_path, indexed).read()


def test_label_maps_of_an_artifact_are_compared_with_its_mark(tmp_path: Path):
    folder = tmp_path / "artifacts" / "any" / "0123"
    path = folder / "labels" / "train" / "a.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"labels")
    mark = {
        "params": {}, "inputs": {}, "summary": {}, "started": "2026-01-01", "seconds": 1.0,
        "files": {"labels/train/a.png": as_made(path)},
    }  # fmt: skip
    write_json(folder / MARK, mark)
    drawn = row(label_path="labels/train/a.png")
    assert annotation(folder, drawn).read() == b"labels"
    flip(path)
    with pytest.raises(DamagedFile, match="other bytes"):
        annotation(folder, drawn)


@pytest.mark.parametrize(("name", "expected"), [("lip", True), ("market1501", False)])
def test_published_sets_say_whether_they_have_label_maps(name: str, expected: bool, tmp_path: Path):
    assert names_annotations(load_manifest(name), tmp_path) is expected


@pytest.mark.parametrize("place", ["index.csv", "wrapped/index.csv", "typed.csv"])
def test_a_table_of_ones_own_says_so_by_a_column(place: str, tmp_path: Path):
    table = tmp_path / place
    table.parent.mkdir(exist_ok=True)
    root = table if place == "typed.csv" else tmp_path
    manifest = load_manifest("folder")
    table.write_text("path,pid\na.jpg,1\n")
    assert not names_annotations(manifest, root)
    table.write_text("path,pid,label_path\na.jpg,1,a.png\n")
    assert names_annotations(manifest, root)
