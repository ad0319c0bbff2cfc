"""Which folder below the typed one is taken when several fit, or none but its parent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.layouts import find_root, read_layout
from pipeline.terminal.errors import ReidpipeError
from tests import trees, trees_labelled


def found(start: Path, dataset: str) -> str:
    return find_root(start, load_manifest(dataset)).relative_to(start).as_posix()


def test_msmt17_is_not_taken_for_its_neighbours(tmp_path: Path):
    trees.duke(tmp_path)
    trees.market1501(tmp_path)
    trees.msmt17(tmp_path)
    assert found(tmp_path, "msmt17") == "MSMT17_V1"
    assert found(tmp_path, "dukemtmc_reid") == "DukeMTMC-reID"
    assert found(tmp_path, "market1501") == "Market-1501-v15.09.15"


def test_msmt17_lists_win_over_market_style_wherever_they_are(tmp_path: Path):
    trees.msmt17_market_style(tmp_path / "a")
    trees.msmt17(tmp_path / "b").rename(tmp_path / "b" / "mine")
    assert found(tmp_path, "msmt17") == "b/mine"


@pytest.mark.parametrize("other", [trees.duke, trees.market1501])
def test_names_of_market_and_duke_do_not_fit_msmt17(tmp_path: Path, other):
    root = other(tmp_path)
    with pytest.raises(ReidpipeError, match="found no image of MSMT17"):
        read_layout(root, load_manifest("msmt17"))


def test_junk_of_msmt17_is_no_training_identity(tmp_path: Path):
    root = trees.msmt17_market_style(tmp_path)
    trees.picture(root / "bounding_box_test" / "-1_c3_0009.jpg")
    result = read_layout(root, load_manifest("msmt17"))
    assert {row.pid for row in result.rows if row.split == "gallery"} == {2, 3}
    assert result.dropped == {"junk identity -1": 1}


def test_the_usual_name_decides_between_folders_that_fit(tmp_path: Path):
    trees.duke(tmp_path).rename(tmp_path / "Occluded_Duke")
    trees.duke(tmp_path).rename(tmp_path / "dukemtmcreid")
    assert found(tmp_path, "dukemtmc_reid") == "dukemtmcreid"
    assert found(tmp_path, "occluded_duke") == "Occluded_Duke"
    trees_labelled.imagenet(tmp_path)
    trees_labelled.imagenet_variant(tmp_path, "imagenet-sketch", ["sketch"], ["n02423022"])
    assert found(tmp_path, "imagenet_sketch") == "imagenet-sketch"


def test_a_typed_folder_that_fits_is_taken_whatever_lies_below(tmp_path: Path):
    start = trees.market1501(tmp_path / "x").rename(tmp_path / "cleaned")
    trees.market1501(start / "raw")
    assert found(start, "market1501") == "."


def test_a_name_that_fits_nothing_is_no_obstacle(tmp_path: Path):
    trees.market1501(tmp_path).rename(tmp_path / "elsewhere")
    assert found(tmp_path, "market1501") == "elsewhere"


@pytest.mark.parametrize("dataset", ["imagenet_a", "imagenet_r", "imagenet_v2", "imagenet_sketch"])
def test_the_only_folder_of_a_classification_set_may_be_typed(tmp_path: Path, dataset: str):
    manifest = load_manifest(dataset)
    trees_labelled.imagenet(tmp_path)
    top = manifest.layouts[0].requires[0]
    place = "0" if manifest.numeric_folders else "n02423022"
    root = trees_labelled.imagenet_variant(tmp_path, "in", [top], [place])
    for move in (False, True):
        # The class names lie in ImageNet's folder, here one level up and there beside.
        typed = (root / top).rename(tmp_path / top) if move else root / top
        assert find_root(typed, manifest) == typed
        rows = read_layout(typed, manifest).rows
        assert [row.path for row in rows] == [f"{place}/a.jpg"]


def test_the_only_folder_of_a_flat_set_may_be_typed(tmp_path: Path):
    """It is the root itself: what lies beside it must not enter the dataset's fingerprint."""
    typed = trees.pku_reid(tmp_path) / "PKUv1a_128x48"
    manifest = load_manifest("pku_reid")
    assert find_root(typed, manifest) == typed
    above = {row.path: replace(row, path="") for row in read_layout(tmp_path, manifest).rows}
    rows = read_layout(typed, manifest).rows
    assert above == {f"PKUv1a_128x48/{row.path}": replace(row, path="") for row in rows}
    root = trees.cuhk03_ready(tmp_path)
    assert find_root(root / "detected", load_manifest("cuhk03_np")) == root / "detected"
    rows = read_layout(root / "detected", load_manifest("cuhk03_np")).rows
    assert [row.path for row in rows if row.split == "query"] == ["query/0002_c1_1.png"]
    with pytest.raises(ReidpipeError, match="found no CUHK03"):
        find_root(root / "detected", load_manifest("cuhk03_np:labeled"))


def test_a_folder_of_a_dataset_typed_in_its_place(tmp_path: Path):
    root = trees.market1501(tmp_path)
    assert find_root(root / "query", load_manifest("market1501")) == root
    original = trees.cuhk03_original(tmp_path)
    assert find_root(original / "cuhk03_release", load_manifest("cuhk03_np")) == original
