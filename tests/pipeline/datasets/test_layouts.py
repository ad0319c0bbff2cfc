"""Trees of re-identification sets become the right rows; junk is dropped, oddities are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.layouts import LayoutResult, find_root, read_layout
from pipeline.datasets.layouts.counts import overlap, summary, verify_counts
from pipeline.datasets.layouts.rows import plain_name
from pipeline.terminal.errors import ReidpipeError
from tests import trees


def read(start: Path, dataset: str, **options) -> LayoutResult:
    manifest = load_manifest(dataset)
    root = find_root(start, manifest, lists=options.get("lists"))
    return read_layout(root, manifest, **options)


def facts(result: LayoutResult, split: str) -> list[tuple]:
    return [(row.path, row.pid, row.camid) for row in result.rows if row.split == split]


def by_name(result: LayoutResult) -> dict:
    return {row.path.split("/")[-1]: row for row in result.rows}


def test_market_drops_junk_keeps_distractors_and_litter_out(tmp_path: Path):
    trees.market1501(tmp_path)
    result = read(tmp_path, "market1501")
    assert facts(result, "train") == [
        ("bounding_box_train/0002_c1s1_002001_01.jpg", 2, 0),
        ("bounding_box_train/0002_c6s1_002006_01.jpg", 2, 5),
        ("bounding_box_train/0007_c1s1_007001_01.jpg", 7, 0),
        ("bounding_box_train/0007_c6s1_007006_01.jpg", 7, 5),
    ]
    assert sorted(pid for _, pid, _ in facts(result, "gallery")) == [0, 1, 1, 3]
    assert result.dropped == {"junk identity -1": 2}
    assert result.unmatched == []
    row = by_name(result)["0003_c2s3_000151_00.jpg"]
    assert (row.sequence, row.frame, row.camid, row.split) == ("3", 151, 1, "query")


def test_market_names_files_that_break_the_rule(tmp_path: Path):
    root = trees.market1501(tmp_path)
    trees.picture(root / "query" / "c1s1_2.jpg")
    assert read(tmp_path, "market1501").unmatched == ["query/c1s1_2.jpg"]


@pytest.mark.parametrize("suffix", [".JPG", ".jpg.jpg", ".Jpg.JPG"])
def test_a_suffix_written_anew_is_no_other_name(tmp_path: Path, suffix: str):
    root = trees.duke(tmp_path)
    before = read(tmp_path, "dukemtmc_reid").rows
    for path in sorted(root.rglob("*.jpg")):
        path.rename(path.with_name(path.stem + suffix))
    result = read(tmp_path, "dukemtmc_reid")
    assert result.unmatched == []
    assert [row.path.removesuffix(suffix) for row in result.rows] == [
        row.path.removesuffix(".jpg") for row in before
    ]
    assert [(r.split, r.pid, r.camid, r.frame) for r in result.rows] == [
        (r.split, r.pid, r.camid, r.frame) for r in before
    ]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("0001_c1.jpg", "0001_c1.jpg"),
        ("0001_c1.JPG", "0001_c1.jpg"),
        ("0001_c1.jpg.jpg", "0001_c1.jpg"),
        ("0001_c1.jpg.JPG.jpg", "0001_c1.jpg"),
        ("0001_c1.png.jpg", "0001_c1.png.jpg"),
        ("0001_c1.TXT", "0001_c1.TXT"),
        ("jpg", "jpg"),
    ],
)
def test_plain_names(name: str, plain: str):
    assert plain_name(name) == plain


def test_what_lies_deeper_or_in_no_list_is_told_with_an_example(tmp_path: Path):
    root = trees.duke(tmp_path / "a")
    trees.picture(root / "query" / "copy" / "0005_c2_f0046985.jpg")
    result = read(tmp_path / "a", "dukemtmc_reid")
    assert result.dropped == {"deeper than the layout's folders": 1}
    assert list(result.examples.values()) == ["query/copy/0005_c2_f0046985.jpg"]
    root = trees.msmt17(tmp_path / "b")
    trees.picture(root / "test" / "0001" / "0001_007_15_0302noon_1508_3_ex.jpg")
    result = read(tmp_path / "b", "msmt17")
    assert result.dropped == {"in no list": 1}
    assert list(result.examples.values()) == ["test/0001/0001_007_15_0302noon_1508_3_ex.jpg"]


def test_rules_look_at_names_never_at_folders(tmp_path: Path):
    start = tmp_path / "0042_c5s1" / "x_c3"
    trees.market1501(start)
    assert {row.pid for row in read(start, "market1501").rows} == {0, 1, 2, 3, 7}


def test_two_datasets_below_one_folder_are_told_apart_by_their_names(tmp_path: Path):
    trees.duke(tmp_path / "a")
    trees.market1501(tmp_path / "b")
    assert find_root(tmp_path, load_manifest("market1501")).name == "Market-1501-v15.09.15"
    assert find_root(tmp_path, load_manifest("dukemtmc_reid")).name == "DukeMTMC-reID"


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_nested_roots_are_found(tmp_path: Path, levels: int):
    root = trees.duke(tmp_path.joinpath(*["x"] * levels))
    assert find_root(tmp_path, load_manifest("dukemtmc_reid")) == root


def test_wrong_root_says_what_was_wanted_where_and_what_came_nearest(tmp_path: Path):
    (tmp_path / "m" / "query").mkdir(parents=True)
    (tmp_path / "m" / "bounding_box_train").mkdir()
    with pytest.raises(ReidpipeError) as caught:
        find_root(tmp_path, load_manifest("market1501"))
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(tmp_path), "bounding_box_train, bounding_box_test, query", "Market-1501-v15"):
        assert part in message
    assert f"nearest is {tmp_path / 'm'}, which lacks bounding_box_test" in message


def test_missing_and_empty_roots(tmp_path: Path):
    manifest = load_manifest("market1501")
    with pytest.raises(ReidpipeError, match="found no folder .*nowhere"):
        find_root(tmp_path / "nowhere", manifest)
    with pytest.raises(ReidpipeError, match="found there: nothing"):
        find_root(tmp_path, manifest)


def test_generated_people_need_no_folder(tmp_path: Path):
    with pytest.raises(ReidpipeError, match="images are generated"):
        find_root(tmp_path, load_manifest("mannequins"))


def test_empty_folders_are_no_dataset(tmp_path: Path):
    for name in ("bounding_box_train", "bounding_box_test", "query"):
        (tmp_path / name).mkdir()
    with pytest.raises(ReidpipeError, match="found no image of DukeMTMC-reID"):
        read(tmp_path, "dukemtmc_reid")


def test_duke(tmp_path: Path):
    trees.duke(tmp_path)
    result = read(tmp_path, "dukemtmc_reid")
    row = by_name(result)["7140_c8_f0044278.jpg"]
    assert (row.pid, row.camid, row.frame, row.split) == (7140, 7, 44278, "train")


@pytest.mark.parametrize("beside", [False, True])
def test_occluded_duke_from_lists_on_a_duke_tree(tmp_path: Path, beside: bool):
    root = trees.duke(tmp_path / "data")
    lists = trees.occluded_duke_lists(tmp_path / "lists" if beside else root)
    result = read(tmp_path / "data", "occluded_duke", lists=lists if beside else None)
    assert result.layout == "lists"
    assert facts(result, "query") == [("bounding_box_test/0005_c5_f0051341.jpg", 5, 4)]
    assert facts(result, "gallery") == [
        ("bounding_box_test/0003_c3_f0000120.jpg", 3, 2),
        ("bounding_box_test/0005_c5_f0051341.jpg", 5, 4),
        ("query/0005_c2_f0046985.jpg", 5, 1),
    ]
    assert overlap(result.rows) == 1


def test_occluded_duke_names_list_entries_without_a_file(tmp_path: Path):
    root = trees.duke(tmp_path)
    trees.occluded_duke_lists(root)
    (root / "bounding_box_test" / "0005_c5_f0051341.jpg").unlink()
    with pytest.raises(ReidpipeError, match="query.list names 1 images .*0005_c5_f0051341.jpg"):
        read(tmp_path, "occluded_duke")


@pytest.mark.parametrize(
    ("dataset", "version", "flat"),
    [("msmt17", "v1", False), ("msmt17:v2", "v2", False), ("msmt17", "v1", True)],
)
def test_msmt17_lists(tmp_path: Path, dataset: str, version: str, flat: bool):
    trees.msmt17(tmp_path, version, flat=flat)
    result = read(tmp_path, dataset)
    assert summary(result.rows) == [
        {"subset": "train", "ids": 2, "images": 4, "cameras": 4},
        {"subset": "query", "ids": 1, "images": 1, "cameras": 1},
        {"subset": "gallery", "ids": 2, "images": 2, "cameras": 2},
    ]
    # Test identities restart at 0 in the lists: id 0 there is nobody of the training set.
    assert [pid for _, pid, _ in facts(result, "query")] == [2]
    assert [pid for _, pid, _ in facts(result, "gallery")] == [2, 3]
    row = by_name(result)["0001_019_07_0303noon_0020_1.jpg"]
    assert (row.camid, row.sequence, row.frame) == (6, "0303noon", 20)


def test_msmt17_strict_keeps_val_apart(tmp_path: Path):
    trees.msmt17(tmp_path)
    result = read(tmp_path, "msmt17:v1-strict")
    assert len(facts(result, "train")) == len(facts(result, "val")) == 2


def test_msmt17_market_style_has_two_digit_cameras(tmp_path: Path):
    trees.msmt17_market_style(tmp_path)
    result = read(tmp_path, "msmt17")
    assert [camid for *_, camid in facts(result, "train")] == [0, 14]
    assert [pid for _, pid, _ in facts(result, "query")] == [2]


def test_msmt17_says_which_release_it_found(tmp_path: Path):
    trees.msmt17(tmp_path, "v2")
    with pytest.raises(ReidpipeError, match="MSMT17_V2 holds msmt17:v2"):
        read(tmp_path, "msmt17:v1")


def test_msmt17_without_lists_names_them(tmp_path: Path):
    root = trees.msmt17(tmp_path)
    (root / "list_val.txt").unlink()
    with pytest.raises(ReidpipeError, match="which lacks list_val.txt"):
        read(tmp_path, "msmt17")


def test_veri_with_and_without_viewpoints(tmp_path: Path):
    trees.veri776(tmp_path)
    rows = by_name(read(tmp_path, "veri776"))
    first = rows["0001_c001_00016450_0.jpg"]
    assert (first.pid, first.camid, first.view, first.frame) == (1, 0, 5, 16450)
    assert rows["0003_c020_00014150_0.jpg"].view is None
    assert rows["0003_c020_00014150_0.jpg"].camid == 19
    assert rows["0002_c003_00084280_0.jpg"].view == 0
    trees.veri776(tmp_path / "bare", viewpoints=False)
    assert {row.view for row in read(tmp_path / "bare", "veri776").rows} == {None}


def test_vehicleid_draws_one_gallery_image_per_identity_and_trial(tmp_path: Path):
    trees.vehicleid(tmp_path)
    result = read(tmp_path, "vehicleid")
    assert facts(result, "train")[0] == ("image/0000001.jpg", 12, None)
    test = [row for row in result.rows if row.split != "train"]
    assert len(test) == 9
    for trial in map(str, range(10)):
        chosen = [row for row in test if trial in row.extra["gallery_trials"].split()]
        assert len(chosen) == 3 and {row.pid for row in chosen} == {5, 7, 11}
    assert [row.split for row in test] == [
        "gallery" if "0" in row.extra["gallery_trials"].split() else "query" for row in test
    ]
    assert read(tmp_path, "vehicleid").rows == result.rows


def test_cargo(tmp_path: Path):
    root = trees.cargo(tmp_path)
    rows = by_name(read(tmp_path, "cargo"))
    row = rows["Cam13_night_12_2.jpg"]
    assert (row.pid, row.camid, row.sequence, row.split) == (12, 12, "night", "train")
    trees.picture(root / "train" / "Cam14" / "Cam14_day_1_1.jpg")
    with pytest.raises(ReidpipeError, match="Cam14_day_1_1.jpg"):
        read(tmp_path, "cargo")


def test_agreid_v1_identity_is_person_time_and_altitude(tmp_path: Path):
    trees.agreid_v1(tmp_path)
    rows = by_name(read(tmp_path, "agreid_v1"))
    assert rows["P0006T02140A0C0F100.jpg"].pid == int("0006" + "02140" + "0") == 6021400
    train = [row for row in rows.values() if row.split == "train"]
    assert len({row.pid for row in train}) == 3
    assert {row.camid for row in train} == {0, 1}


@pytest.mark.parametrize("doubled", [True, False])
def test_agreid_v2(tmp_path: Path, doubled: bool):
    trees.agreid_v2(tmp_path, doubled=doubled)
    result = read(tmp_path, "agreid_v2")
    rows = by_name(result)
    odd = rows["P0001T02141A0C2F8671Z.jpg"]
    assert (odd.frame, odd.camid, odd.pid) == (8671, 2, 1021410)
    assert rows["P0009T03010A1C3F16.jpg"].camid == 1
    assert rows["P0009T03010A1C0F15.jpg"].extra["lists"] == (
        "exp4_cctv_to_aerial exp5_wearable_to_aerial"
    )
    assert result.notes == []


def test_agreid_v2_without_lists_says_so(tmp_path: Path):
    trees.agreid_v2(tmp_path, lists=False)
    assert "exp1_aerial_to_cctv.txt" in read(tmp_path, "agreid_v2").notes[0]


def test_occluded_reid_has_pseudo_cameras(tmp_path: Path):
    trees.occluded_reid(tmp_path)
    result = read(tmp_path, "occluded_reid")
    assert {camid for *_, camid in facts(result, "query")} == {0}
    assert {camid for *_, camid in facts(result, "gallery")} == {1}
    assert {pid for _, pid, _ in facts(result, "gallery")} == {1, 200}


def test_prid_splits_use_the_written_lists(tmp_path: Path):
    trees.prid2011(tmp_path)
    manifest = load_manifest("prid2011:split-0")
    assert manifest.assign is not None
    trained = set(manifest.assign.train_ids) & {1, 2, 3, 4}
    result = read(tmp_path, "prid2011:split-0")
    assert {row.pid for row in result.rows if row.split == "train"} == trained
    assert {pid for _, pid, _ in facts(result, "query")} == {1, 2, 3, 4} - trained
    gallery = facts(result, "gallery")
    assert {camid for *_, camid in gallery} == {1}
    # Person 201 of camera A is somebody else: only camera B's is a distractor.
    assert {pid for _, pid, _ in gallery} == {1, 2, 3, 4, 201} - trained
    official = read(tmp_path, "prid2011:official")
    assert (len(facts(official, "query")), len(facts(official, "gallery"))) == (4, 5)


def test_pku_orientation_is_the_view(tmp_path: Path):
    trees.pku_reid(tmp_path, range(1, 9))
    result = read(tmp_path, "pku_reid")
    assert {row.view for row in result.rows} == {0, 7}
    train = {row.pid for row in result.rows if row.split == "train"}
    manifest = load_manifest("pku_reid")
    assert manifest.assign is not None
    assert train == set(manifest.assign.train_ids) & set(range(1, 9))
    assert {camid for *_, camid in facts(result, "query")} == {0}
    assert {camid for *_, camid in facts(result, "gallery")} == {1}


@pytest.mark.parametrize("start", [".", "col780"])
def test_col780_tree_or_its_parent(tmp_path: Path, start: str):
    trees.col780(tmp_path)
    result = read(tmp_path / start, "col780")
    assert facts(result, "query") == [
        ("val/query/004/01_1.png", 4, 0),
        ("val/query/012/01_1.png", 12, 0),
    ]
    assert len(facts(result, "train")) == 32
    assert overlap(result.rows) == 2


def test_holdout_refuses_a_tree_without_its_queries(tmp_path: Path):
    trees.col780(tmp_path)
    with pytest.raises(ReidpipeError, match="listed queries of COL780"):
        read(tmp_path, "col780:holdout-a")


@pytest.mark.parametrize("dataset", ["col780", "col780:holdout-a", "col780:holdout-b"])
def test_real_col780_has_the_published_numbers(col780: Path, dataset: str):
    manifest = load_manifest(dataset)
    result = read(col780.parent, dataset)
    assert verify_counts(result.rows, manifest) == []
    held = summary(result.rows)
    assert held[1:] == [
        {"subset": "query", "ids": 12, "images": 28, "cameras": 2},
        {"subset": "gallery", "ids": 12, "images": 181, "cameras": 2},
    ]
    assert held[0]["images"] == (992 if dataset == "col780" else 800)


def test_counts_are_reported_by_severity(tmp_path: Path):
    trees.veri776(tmp_path)
    manifest = load_manifest("veri776")
    problems = verify_counts(read(tmp_path, "veri776").rows, manifest)
    assert "warning: train has 2 ids, expected 575 or 576" in problems
    assert any(line.startswith("error: train has 2 images, expected 37778") for line in problems)
    assert any("images per camera: 0: 1, 19: 1" in line for line in problems)
