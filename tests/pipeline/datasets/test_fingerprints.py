"""What the reading of a dataset uses is in the key of its index, and nothing else is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.artifacts.steps import Job
from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.fingerprints import fingerprint, fingerprints
from pipeline.datasets.sources import index_params
from pipeline.datasets.work import check_unchanged, index
from pipeline.terminal.errors import ReidpipeError


def image(path: Path, shade: int = 9) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 8), (shade, 0, 0)).save(path)
    return path


def later(path: Path) -> None:
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 10**9))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    for person in ("a", "b"):
        for number in range(2):
            image(tmp_path / "set" / person / f"{number}.jpg")
    return tmp_path / "set"


def of(dataset: str, root: Path) -> dict[str, str]:
    return fingerprints(load_manifest(dataset), root)


def test_a_plain_tree_has_the_key_it_always_had(plain: Path):
    assert of("folder", plain) == {"fingerprint": fingerprint(plain)}
    (plain / ".DS_Store").write_bytes(b"x")
    image(plain / "a" / "._0.jpg")
    image(plain / ".thumbnails" / "0.jpg")  # which nothing names
    (plain / "list.json").write_text('{"made with": "thumbnails"}')
    assert of("folder", plain).keys() == {"fingerprint"}


@pytest.mark.parametrize("name", [".pictures/x.jpg", "a/.x.jpg", ".deep/er/x.jpg"])
@pytest.mark.parametrize("table", ["index.csv", ".index.csv", "people.csv"])
def test_hidden_images_that_a_table_names_count(plain: Path, name: str, table: str):
    path = image(plain / name)
    (plain / table).write_text(f"path,pid\na/0.jpg,1\n{name},2\n")
    root = plain if table == "index.csv" else plain / table
    before = of("folder", root)
    assert before.keys() == {"fingerprint", "hidden_fingerprint"}
    later(path)
    after = of("folder", root)
    assert after["fingerprint"] == before["fingerprint"] and after != before


def test_a_hidden_table_itself_counts(plain: Path):
    table = plain / ".mine.csv"
    table.write_text("path,pid\na/0.jpg,1\n")
    before = of("folder", table)
    later(table)
    assert of("folder", table) != before


@pytest.mark.parametrize("place", ["", "imagenet", "../imagenet"])
def test_class_names_beside_a_root_count(tmp_path: Path, place: str):
    root = tmp_path / "data" / "imagenet-v2"
    image(root / "imagenetv2-matched-frequency-format-val" / "0" / "x.jpeg")
    names = (root.parent / place / "classnames.txt").resolve()
    names.parent.mkdir(exist_ok=True)
    names.write_text("n01440764 tench\n")
    before = of("imagenet_v2", root)
    assert before.keys() == {"fingerprint", "beside_fingerprint"}
    later(names)
    assert of("imagenet_v2", root) != before
    (root / "classnames.txt").write_text("n01440764 tench\n")  # which is the one that is read
    assert of("imagenet_v2", root).keys() == {"fingerprint"}


def test_an_index_is_not_made_of_what_changed_since_it_was_asked_for(plain: Path, tmp_path: Path):
    path = image(plain / ".x.jpg", 77)
    table = plain / "people.csv"
    table.write_text("path,pid\na/0.jpg,1\nb/0.jpg,1\n.x.jpg,2\n")
    params: dict[str, Any] = index_params(tmp_path / "workspace", "folder", table)
    check_unchanged(params)
    later(path)
    with pytest.raises(ReidpipeError, match="other files"):
        index(Job(folder=tmp_path / "out", params=params, inputs={}, workspace=tmp_path))


def test_params_of_before_are_taken_as_they_are(plain: Path, tmp_path: Path):
    table = plain / "people.csv"
    image(plain / ".x.jpg")
    table.write_text("path,pid\na/0.jpg,1\n.x.jpg,2\n")
    params = index_params(tmp_path / "workspace", "folder", table)
    del params["hidden_fingerprint"]
    check_unchanged(params)
