"""What the reading of a dataset uses is in the key of its index, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.artifacts.steps import Job
from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.fingerprints import fingerprint, fingerprints
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.roots import prepare_root
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


def test_what_a_command_prints_into_the_folder_is_no_data(plain: Path):
    before = fingerprint(plain)
    code = (
        "import sys; from pathlib import Path; from pipeline.datasets.fingerprints import *\n"
        "for line in range(2): print(fingerprint(Path(sys.argv[1])), flush=True)"
    )
    told, said = plain / "train.txt", plain / "a" / "errors.txt"
    with told.open("w") as out, said.open("w") as errors:
        words = [sys.executable, "-c", code, str(plain)]
        subprocess.run(words, stdout=out, stderr=errors, check=True)
    assert told.read_text().split() == [before, before]
    assert fingerprint(plain) != before  # of the past: it may be a list


@pytest.mark.parametrize("name", ["train.log", "slurm-17.out", "a/slurm-17.ERR"])
def test_logs_are_no_data_but_where_a_layout_names_one(plain: Path, name: str):
    before = of("folder", plain)
    log = plain / name
    log.write_text("epoch 1")
    assert of("folder", plain) == before and fingerprint(plain) == before["fingerprint"]
    (layout,) = load_manifest("folder").layouts
    for change in ({"membership": (name,)}, {"reader": "somebody-else"}):
        layouts = (layout.model_copy(update=change),)
        manifest = load_manifest("folder").model_copy(update={"layouts": layouts})
        assert fingerprints(manifest, plain) != before


def test_the_workspace_of_the_command_is_no_data_wherever_it_lies(tmp_path: Path, plain: Path):
    before = of("folder", plain)
    inner = plain / "mine"
    image(inner / "reports" / "x.png")  # nothing says yet that it is a workspace
    manifest = load_manifest("folder")
    assert fingerprints(manifest, plain, workspace=inner) == before
    assert fingerprints(manifest, plain) != before
    inner.rename(tmp_path / "elsewhere")
    # reidpipe --workspace . prepare folder --root .
    prepare_root("folder", plain, root=plain)
    image(plain / "artifacts" / "preview" / "12" / "sheet.png")
    (plain / "queue").mkdir()
    (plain / "queue" / "host-1.json").write_text("[]")
    params = index_params(plain, "folder")
    assert params["fingerprint"] == before["fingerprint"]
    (plain / "artifacts" / "index").mkdir()
    check_unchanged(params, plain)
    rows = read_layout(plain, manifest).rows
    assert [row.path for row in rows] == ["a/0.jpg", "a/1.jpg", "b/0.jpg", "b/1.jpg"]
