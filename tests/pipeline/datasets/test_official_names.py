"""Rules and counts of the manifests against the full lists of names that are public."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from pipeline.datasets.catalogue import list_manifests, load_manifest
from pipeline.datasets.layouts import find_root, read_layout
from pipeline.datasets.layouts.counts import verify_counts
from pipeline.datasets.layouts.files import Reading
from pipeline.datasets.layouts.rows import plain_name
from tests.pipeline.datasets.names import HERE, official_names, sources
from tests.pipeline.datasets.names.tree import read_names

MARKET = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
VERI = {"train": "image_train", "query": "image_query", "gallery": "image_test"}
COL780 = {"train": "train", "query": "val/query", "gallery": "val/gallery"}
# LIP's annotated images, for each of which there is a label map.
LIP = {"train": "train", "val": "val"}


def below(folders: dict[str, str], dataset: str) -> list[str]:
    """Paths of a dataset's names, each split in its folder."""
    names = official_names(dataset)
    return [f"{folder}/{name}" for split, folder in folders.items() for name in names[split]]


def complaints(reading: Reading) -> list[str]:
    return verify_counts(reading.rows, reading.manifest)


def plain(reading: Reading) -> tuple[list[str], dict[str, int], list[str]]:
    """What a person would be told: names outside the rule, images left out, wrong counts."""
    return reading.unmatched, dict(reading.dropped), complaints(reading)


def test_every_dataset_has_its_names_here_or_a_reason_why_not():
    told = sources()
    assert set(told["lists"]).isdisjoint(told["no_list"])
    assert {m.id for m in list_manifests()} == {*told["lists"], *told["no_list"]}
    assert all(len(reason.split()) > 0 for reason in told["no_list"].values())
    stored = {path.name.removesuffix(".txt.xz"): path for path in HERE.glob("*.xz")}
    assert stored.keys() == told["lists"].keys()
    assert sum(path.stat().st_size for path in stored.values()) <= 1_000_000


def test_nothing_here_leads_to_withdrawn_images():
    text = (HERE / "sources.yaml").read_text(encoding="utf-8")
    assert "://" not in text and "www." not in text
    assert not re.search(
        r"[\w-]+/[\w.-]+ [0-9a-f]{10}", sources()["lists"]["dukemtmc_reid"]["from"]
    )


def test_market():
    reading = read_names(load_manifest("market1501"), below(MARKET, "market1501"))
    assert plain(reading) == ([], {"junk identity -1": 3819}, [])
    doubled = [row for row in reading.rows if row.path.endswith(".jpg.jpg")]
    # Six of person 1488 are queries; two of the other eighteen are junk.
    assert Counter(row.split for row in doubled) == {"query": 6, "gallery": 16}
    assert {row.pid for row in doubled} == {0, 1488}
    named = {row.path: row for row in doubled}["query/1488_c4s6_022241_00.jpg.jpg"]
    assert (named.pid, named.camid, named.sequence, named.frame) == (1488, 3, "6", 22241)
    assert sum(row.pid == 0 for row in reading.rows) == 2798


@pytest.mark.slow
def test_market_on_a_disk_is_found_and_read_whole(tmp_path: Path):
    root = tmp_path / "Market-1501-v15.09.15"
    for folder in MARKET.values():
        (root / folder).mkdir(parents=True)
    for name in below(MARKET, "market1501"):
        (root / name).touch()
    manifest = load_manifest("market1501")
    result = read_layout(find_root(tmp_path, manifest), manifest)
    assert verify_counts(result.rows, manifest) == [] and result.unmatched == []
    assert result.examples == {"junk identity -1": "bounding_box_test/-1_c1s1_000401_03.jpg"}


def test_names_of_market_are_not_taken_for_msmt_in_markets_style():
    (style,) = (x for x in load_manifest("msmt17").layouts if x.name == "market-style")
    assert style.rule is not None
    for split in ("train", "query", "gallery"):
        for dataset in ("market1501", "dukemtmc_reid"):
            assert not any(re.match(style.rule, name) for name in official_names(dataset)[split])


def test_duke():
    reading = read_names(load_manifest("dukemtmc_reid"), below(MARKET, "dukemtmc_reid"))
    assert plain(reading) == ([], {}, [])
    assert max(row.pid or 0 for row in reading.rows) == 7140


@pytest.fixture(scope="module")
def occluded() -> dict[str, list[str]]:
    duke, own = official_names("dukemtmc_reid"), official_names("occluded_duke")
    left = set(own["not in train"])
    return {
        "train": [name for name in duke["train"] if name not in left],
        "query": list(own["query"]),
        "gallery": list(duke["gallery"]),
    }


def test_occluded_duke_by_its_lists_in_a_tree_of_duke(occluded: dict[str, list[str]]):
    lists = {f"{split}.list": names for split, names in occluded.items()}
    reading = read_names(load_manifest("occluded_duke"), below(MARKET, "dukemtmc_reid"), lists)
    # 904 training images and 1888 queries of Duke.
    assert plain(reading) == ([], {"in no list": 2792}, [])


@pytest.mark.slow
def test_occluded_duke_converted(occluded: dict[str, list[str]]):
    images = [f"{MARKET[split]}/{name}" for split, names in occluded.items() for name in names]
    assert plain(read_names(load_manifest("occluded_duke"), images)) == ([], {}, [])


def msmt(version: str) -> tuple[list[str], dict[str, list[str]]]:
    """Images and lists; the folder and the identity of an image repeat its name's first field."""
    folders = {"v1": ("train", "test"), "v2": ("mask_train_v2", "mask_test_v2")}[version]
    images, lists = [], {}
    for split, names in official_names("msmt17").items():
        folder = folders[split in ("query", "gallery")]
        images += [f"{folder}/{name[:4]}/{name}" for name in names]
        lists[f"list_{split}.txt"] = [f"{name[:4]}/{name} {int(name[:4])}" for name in names]
    return images, lists


def test_rule_of_msmt():
    variants = [load_manifest(f"msmt17:{name}") for name in load_manifest("msmt17").variants]
    assert len({manifest.layouts[0].rule for manifest in variants}) == 1
    layout = variants[0].layouts[0]
    assert layout.rule is not None
    names = [name for listed in official_names("msmt17").values() for name in listed]
    found = [re.match(layout.rule, name) for name in names]
    assert None not in found and len({m["camid"] for m in found if m}) == 15
    # Almost half of the names end in _ex.
    assert sum(name.endswith("_ex.jpg") for name in names) == 52_654


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["v1", "v2-strict"])
def test_msmt(variant: str):
    reading = read_names(load_manifest(f"msmt17:{variant}"), *msmt(variant[:2]))
    assert plain(reading) == ([], {}, [])
    name = "0000_001_01_0303morning_0015_0_ex.jpg"
    row = next(row for row in reading.rows if row.path.endswith(name))
    assert (row.split, row.camid, row.sequence, row.frame) == ("query", 0, "0303morning", 15)
    assert row.pid == 1041  # test identities follow those of training


def test_veri():
    reading = read_names(load_manifest("veri776"), below(VERI, "veri776"))
    assert plain(reading) == ([], {}, [])


def test_vehicleid_small_test():
    listed = official_names("vehicleid")["test_list_800"]
    lists = {f"train_test_split/{name}.txt": listed for name in ("test_list_800",)}
    lists["train_test_split/train_list.txt"] = ("0000001 1",)
    images = [f"image/{line.split()[0]}.jpg" for line in listed]
    reading = read_names(load_manifest("vehicleid:800"), [*images, "image/0000001.jpg"], lists)
    assert reading.unmatched == [] and reading.dropped == {}
    assert all(" train has " in line for line in complaints(reading))
    trials = [row.extra["gallery_trials"].split() for row in reading.rows if row.split != "train"]
    assert Counter(trial for drawn in trials for trial in drawn) == {str(n): 800 for n in range(10)}


@pytest.mark.parametrize("variant", ["detected", "labeled"])
def test_cuhk03(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import numpy as np
    from scipy.io import savemat

    from pipeline.datasets.layouts import cuhk03

    splits = {s: official_names("cuhk03_np")[f"{variant} {s}"] for s in MARKET}
    names = sorted(name for listed in splits.values() for name in listed)
    place = {name: number for number, name in enumerate(names, start=1)}
    cells = np.empty((len(names), 1), dtype=object)
    cells[:, 0] = names
    indices = {f"{s}_idx": np.array([[place[n]] for n in listed]) for s, listed in splits.items()}
    config = tmp_path / f"cuhk03_new_protocol_config_{variant}.mat"
    savemat(config, {"filelist": cells, **indices})
    (tmp_path / "cuhk-03.mat").touch()
    # Without the crops: the names that the reader would write are those of the protocol.
    monkeypatch.setattr(cuhk03, "_extract", lambda source, variant, folder, wanted: set(wanted))
    manifest = load_manifest(f"cuhk03_np:{variant}")
    result = read_layout(tmp_path, manifest, output=tmp_path / "out")
    assert verify_counts(result.rows, manifest) == []


@pytest.mark.parametrize("by_list", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_lip(by_list: bool):
    names = official_names("lip")
    lists = {f"{part}_id.txt": names[part] for part in LIP} if by_list else {}
    images = [
        f"{part}_{kind}/{name}.{suffix}"
        for part in LIP
        for name in names[part]
        for kind, suffix in (("images", "jpg"), ("segmentations", "png"))
    ]
    reading = read_names(load_manifest("lip"), images, lists)
    assert plain(reading) == ([], {}, [])


def test_atr():
    names = official_names("atr")["pool"]
    images = [
        path
        for name in names
        for path in (f"JPEGImages/{name}.jpg", f"SegmentationClassAug/{name}.png")
    ]
    reading = read_names(load_manifest("atr"), images)
    assert plain(reading) == ([], {"left over by the drawn split": 6}, [])


def test_ward():
    reading = read_names(
        load_manifest("ward"), [f"WARD/{n}" for n in official_names("ward")["pool"]]
    )
    assert plain(reading) == ([], {}, [])
    pairs = Counter((row.pid, row.camid) for row in reading.rows if row.split == "query")
    assert len(pairs) == 105 and set(pairs.values()) == {1}


def test_col780():
    reading = read_names(load_manifest("col780"), below(COL780, "col780"))
    assert plain(reading) == ([], {}, [])


# Names of datasets without a list, as their authors write them.
EXAMPLES = {
    "agreid_v1": "P0001T02140A0C0F1021.jpg",
    "agreid_v2": "P0001T02141A0C2F8671Z.jpg",
    "cargo": "Cam13_night_12_2.jpg",
    "occluded_reid": "001_01.tif",
    "prid2011": "person_0001.png",
    "pku_reid": "1_2_8.png",
    "prcc": "A_cropped_rgb001.jpg",
    "ltcc": "013_2_c12_006327.png",
}


@pytest.mark.parametrize("dataset", [m.id for m in list_manifests() if m.kind == "reid"])
def test_a_suffix_written_anew_changes_nothing_and_another_ending_is_never_misread(dataset: str):
    manifest = load_manifest(dataset)
    rules = {source.rule or layout.rule for layout in manifest.layouts for source in layout.sources}
    if rules <= {None}:
        return  # identities are in lists, folders or generated
    named = official_names(dataset) if dataset in sources()["lists"] else {}
    names = [EXAMPLES[dataset]] if dataset in EXAMPLES else [n[0] for n in named.values()]
    for name in {name.rpartition("/")[2] for name in names}:
        stem, _, suffix = name.rpartition(".")
        for rule in rules - {None}:
            found = re.match(str(rule), name)
            if found is None:
                continue  # of another layout
            for written in (suffix.upper(), f"{suffix}.{suffix}", f"{suffix}.{suffix.upper()}"):
                again = re.match(str(rule), plain_name(f"{stem}.{written}"))
                assert again is not None and again.groupdict() == found.groupdict()
            other = re.match(str(rule), f"{stem}b.{suffix}")
            if other is not None:
                known = ("pid", "person", "camid")
                facts = [{k: m.groupdict().get(k) for k in known} for m in (found, other)]
                assert facts[0] == facts[1]


def test_ccp_has_a_photograph_for_every_label_map():
    names = official_names("ccp")
    mapped = {name.removesuffix(".mat") for name in names["pixel-level"]}
    photos = {name.removesuffix(".jpg") for name in names["photos"]}
    assert mapped < photos
    (images,) = load_manifest("ccp").counts["val"].images.one_of  # type: ignore[union-attr]
    assert len(mapped) == images
