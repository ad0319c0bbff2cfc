"""CUHK03: the ready-made tree and the extraction from MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.layouts import find_root, read_layout
from pipeline.terminal.errors import ReidpipeError
from tests import trees


def test_ready_made_tree(tmp_path: Path):
    trees.cuhk03_ready(tmp_path)
    manifest = load_manifest("cuhk03_np:labeled")
    result = read_layout(find_root(tmp_path, manifest), manifest)
    assert [(row.path, row.split, row.pid, row.camid) for row in result.rows] == [
        ("labeled/bounding_box_test/0002_c2_7.png", "gallery", 2, 1),
        ("labeled/query/0002_c1_1.png", "query", 2, 0),
        ("labeled/bounding_box_train/0001_c1_01.png", "train", 1, 0),
        ("labeled/bounding_box_train/0001_c2_02.png", "train", 1, 1),
    ]


@pytest.mark.parametrize("variant", ["detected", "labeled"])
def test_extraction_from_matlab_files(tmp_path: Path, variant: str):
    trees.cuhk03_original(tmp_path)
    manifest = load_manifest(f"cuhk03_np:{variant}")
    output = tmp_path / "extracted"
    result = read_layout(find_root(tmp_path, manifest), manifest, output=output)
    assert result.root == output
    assert [(row.path, row.split, row.pid, row.camid) for row in result.rows] == [
        (f"{variant}/1_002_2_07.png", "gallery", 1002, 1),
        (f"{variant}/1_002_2_10.png", "gallery", 1002, 1),
        (f"{variant}/1_002_1_02.png", "query", 1002, 0),
        (f"{variant}/1_001_1_01.png", "train", 1001, 0),
        (f"{variant}/1_001_2_06.png", "train", 1001, 1),
        # Person 1 of the second pair is not person 1 of the first.
        (f"{variant}/2_001_1_01.png", "train", 2001, 0),
    ]
    with Image.open(output / variant / "1_002_2_10.png") as image:
        np.testing.assert_array_equal(np.asarray(image), trees.cuhk03_pixels(1, 2, 9))
    # Only what the protocol names is written, and a second reading writes nothing anew.
    files = sorted((output / variant).iterdir())
    assert len(files) == 6
    before = [file.stat().st_mtime_ns for file in files]
    read_layout(find_root(tmp_path, manifest), manifest, output=output)
    assert [file.stat().st_mtime_ns for file in files] == before


def test_extraction_needs_a_folder_and_the_protocol_file(tmp_path: Path):
    root = trees.cuhk03_original(tmp_path)
    manifest = load_manifest("cuhk03_np")
    with pytest.raises(ReidpipeError, match="expected a folder to extract to"):
        read_layout(root, manifest)
    (root / "cuhk03_new_protocol_config_detected.mat").unlink()
    with pytest.raises(ReidpipeError, match="lacks cuhk03_new_protocol_config_detected.mat"):
        find_root(tmp_path, manifest)


def test_a_broken_protocol_file_is_named(tmp_path: Path):
    root = trees.cuhk03_original(tmp_path)
    (root / "cuhk03_new_protocol_config_detected.mat").write_bytes(b"<html>quota exceeded</html>")
    with pytest.raises(ReidpipeError, match="found no readable MATLAB file") as caught:
        read_layout(root, load_manifest("cuhk03_np"), output=tmp_path / "out")
    assert "\n" not in str(caught.value)
