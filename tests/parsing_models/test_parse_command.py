"""``reidpipe parse`` as typed: scores counted by hand, two parsers compared, pictures, repairs."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from parsing_models.networks.schp.network import SCHP, Widths
from pipeline.labels import shards, writing
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.sets import LIP
from tests import trees, trees_labelled
from tests.cli.conftest import Console
from tests.replaced import flip

SMALL = Widths(layers=(1, 1, 1, 1), stem=4, planes=4, context=8, head=8, skip=4, edge=4)
TRUTH = {
    # Maps are upper-clothes on the left half, pants on the right one (see ``painted``).
    "q": np.array([[5, 5, 9, 9], [5, 0, 9, 255]], np.uint8),
    "g": np.array([[9, 9, 9, 9], [0, 0, 0, 0]], np.uint8),
    "t": np.full((2, 4), 5, np.uint8),
}
SPLITS = {"q": "query", "g": "gallery", "t": "train"}


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    """A workspace with dataset ``folder``: three images with ground truth, and parsers that paint
    upper-clothes on the left and pants on the right, whatever the image."""
    root = tmp_path / "drawn"
    root.mkdir()
    with (root / "index.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "split", "pid", "camid", "label_path"])
        for number, (name, split) in enumerate(SPLITS.items()):
            Image.new("RGB", (4, 2), (40 * number, 90, 30)).save(root / f"{name}.png")
            Image.fromarray(TRUTH[name]).save(root / f"{name}-truth.png")
            table.writerow([f"{name}.png", split, 1, number, f"{name}-truth.png"])

    def painted(self: Any, images: Any, *_: Any, **__: Any) -> Any:
        label = np.full((len(images), 256, 128), 5, np.uint8)
        label[:, :, 64:] = 9
        return type("Maps", (), {"label": label, "confidence": np.ones(label.shape)})()

    monkeypatch.setattr("parsing_models.parsers.interface.Parser.parse", painted)
    console = Console(tmp_path / "workspace")
    console("prepare", "folder", "--root", root)
    return console


def test_score_equals_the_confusion_counted_by_hand(drawn: Console):
    words = ("parse", "folder", "--device", "cpu", "--score")
    found = drawn.json(*words)
    score = found["score"]
    assert found["images"] == 3 and score["splits"] == {"query": 1, "gallery": 1}
    # 15 pixels; upper-clothes: 3 hits of 8 painted or true; pants: 3 + 2 hits; 1 + 4 background.
    assert score["pixels"] == 15 and score["images"] == 2
    assert score["iou"]["upper-clothes"] == pytest.approx(3 / 8)
    assert score["iou"]["pants"] == pytest.approx(5 / 9)
    assert score["iou"]["background"] == 0.0 and score["iou"]["hat"] is None
    assert score["mIoU"] == pytest.approx((3 / 8 + 5 / 9) / 3)
    assert score["pixel_accuracy"] == pytest.approx(8 / 15)
    assert "which the dataset does not say" in score["protocol"]
    text = drawn(*words).stdout
    assert "mean IoU 31.0 %, pixel accuracy 53.3 %, 2 images" in text
    assert score["protocol"] in text and "nothing to do: all 3 artifacts exist" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["upper-clothes", "37.5", "20.0"] in lines and ["pants", "55.6", "46.7"] in lines
    # In the label set's order, classes that do not occur left out.
    table = [line[0] for line in lines if line and line[0] in LIP.names]
    assert table == ["background", "upper-clothes", "pants"]


def test_the_datasets_own_maps_score_as_right_and_damaged_ones_as_they_are(drawn: Console):
    line = drawn.mistake("parse", "folder", "--model", "exact")
    assert "found no label set of the maps of folder" in line and "label_set=lip" in line
    words = ("parse", "folder", "--model", "exact", "--option", "label_set=lip", "--score")
    found = drawn.json(*words)
    assert found["score"]["mIoU"] == 1.0 and found["score"]["pixels"] == 15
    assert found["counts"]["failed"] == 0 and found["images"] == 3
    # All parts lost: 5 of the 15 pixels are background, the two other classes are never met.
    found = drawn.json("parse", "folder", "--model", "exact:label_set=lip:missing=1", "--score")
    assert found["score"]["mIoU"] == pytest.approx(5 / 15 / 3)
    # Of 8 pixels each: background are q's zero and its unknown one, half of g, none of t.
    assert found["damaged"] == {"missing": 1.0, "equal": pytest.approx((2 + 4 + 0) / 24)}
    text = drawn("parse", "folder", "--model", "exact:label_set=lip:missing=1").stdout
    assert "damaged (missing 1): 25.0% of the labels are as before" in text


def test_photographs_of_ccp_are_scored_in_the_garments_that_lip_has(drawn: Console, tmp_path: Path):
    trees_labelled.ccp(tmp_path)
    drawn("prepare", "ccp", "--root", tmp_path, "--allow-mismatch")
    text = drawn("parse", "ccp", "--device", "cpu", "--score").stdout
    lines = [line.split() for line in text.splitlines()]
    # One truth is all skin, the other all shoes; painted are upper-clothes and pants.
    assert [line[:2] for line in lines if line and line[0] in ("skin", "shoes", "pants")] == [
        ["pants", "0.0"],
        ["skin", "0.0"],
        ["shoes", "0.0"],
    ]
    assert "truth in labels of ccp, maps in lip, both scored in the 15 classes they share" in text


def test_truth_that_was_exchanged_is_told(drawn: Console, tmp_path: Path):
    path = tmp_path / "drawn" / "g-truth.png"
    flip(path)
    line = drawn.mistake("parse", "folder", "--device", "cpu", "--score")
    assert f"other bytes in {path} than when it was indexed" in line
    assert str(path) in drawn("cache", "verify", code=1).stdout


def test_lossy_truth_is_refused_in_one_line(drawn: Console, tmp_path: Path):
    words = ("parse", "folder", "--device", "cpu", "--score")
    # Whichever it is: told before anything is parsed.
    for name in ("q", "g"):
        path = tmp_path / "drawn" / f"{name}-truth.png"
        Image.fromarray(TRUTH[name]).save(path, "JPEG")
        line = drawn.mistake(*words, notes=1)
        assert f"{name}-truth.png as JPEG" in line and "export it again as PNG" in line
        Image.fromarray(TRUTH[name]).save(path)


@pytest.mark.parametrize(
    ("truth", "told"),
    [
        (TRUTH["q"][:, :3], "q-truth.png of 2x3 pixels (height x width) for image q.png of 2x4;"),
        (TRUTH["q"].T, "q-truth.png of 4x2 pixels (height x width) for image q.png of 2x4, as if"),
        (TRUTH["q"].repeat(2, 0).repeat(2, 1), "q-truth.png of 4x8 pixels"),
    ],
)
def test_truth_of_another_size_is_refused_before_the_parsing(
    drawn: Console, tmp_path: Path, truth: np.ndarray, told: str
):
    Image.fromarray(np.ascontiguousarray(truth)).save(tmp_path / "drawn" / "q-truth.png")
    line = drawn.mistake("parse", "folder", "--device", "cpu", "--score", notes=1)
    assert told in line and "expected the same size (1 of 2 label maps have another)" in line
    assert not list((drawn.root / "artifacts" / "maps").glob("*/maps-*.h5"))


def test_maps_of_two_people_are_counted_and_the_central_one_kept(
    drawn: Console, monkeypatch: pytest.MonkeyPatch
):
    label = np.zeros((256, 128), np.uint8)
    label[40:220, 50:80] = 5
    label[60:240, 100:125] = 9
    little = np.zeros_like(label)
    little[60:90, 100:125] = 9

    def painted(self: Any, images: Any, *_: Any, **__: Any) -> Any:
        # By the red of the image: two people, nobody, hardly anybody.
        found = np.stack(
            [(label, 0 * label, little)[int(image[0, 0, 0]) // 40] for image in images]
        )
        return type("Maps", (), {"label": found, "confidence": np.ones(found.shape)})()

    monkeypatch.setattr("parsing_models.parsers.interface.Parser.parse", painted)
    text = drawn("parse", "folder", "--device", "cpu").stdout
    assert "warning: 1 image with two separate bodies: q.png" in text
    assert "warning: 1 image without a person: g.png" in text
    assert "warning: 1 image with under 5 % of foreground: t.png" in text
    plain = drawn.json("parse", "folder", "--device", "cpu")
    assert plain["counts"] == {
        "no_person": 1, "little_person": 1, "one_class": 1, "two_bodies": 1, "failed": 0,
    }  # fmt: skip
    words = ("parse", "folder", "--device", "cpu", "--centre-person", "--preview")
    found = drawn.json(*words)
    assert found["folder"] != plain["folder"] and found["centred"] == ["q.png"]
    assert found["counts"] == plain["counts"]
    before, after = LabelMapReader(plain["folder"]), LabelMapReader(found["folder"])
    kept, sure = after["q.png"]
    assert np.array_equal(kept, np.where(np.arange(128) < 90, label, 0))
    assert np.array_equal(sure, before["q.png"][1])
    for key in ("g.png", "t.png"):
        assert np.array_equal(after[key][0], before[key][0])
    assert after.source_size("q.png") == (2, 4)
    assert after.source_digest("q.png") == before.source_digest("q.png")
    assert "the central body alone is kept of 1 images" in drawn(*words).stdout
    # The parser's maps are those made before.
    assert drawn.json("parse", "folder", "--device", "cpu")["folder"] == plain["folder"]


def test_previews_of_withdrawn_images_are_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REIDPIPE_DATA", str(tmp_path))
    trees.duke(tmp_path)
    trees.occluded_duke_lists(tmp_path / "DukeMTMC-reID")
    console = Console(tmp_path / "workspace")
    for dataset in ("dukemtmc_reid", "occluded_duke"):
        line = console.mistake("parse", dataset, "--model", "schp-tiny", "--preview")
        assert f"found --preview for {dataset}" in line and "withdrawn" in line
    assert not (console.root / "artifacts").exists() and not (console.root / "reports").exists()


def test_a_dataset_without_truth_is_told_before_the_parsing(drawn: Console, tmp_path: Path):
    root = tmp_path / "plain"
    (root / "1").mkdir(parents=True)
    Image.new("RGB", (40, 80)).save(root / "1" / "a.png")
    drawn("prepare", "folder", "--root", root)
    line = drawn.mistake("parse", "folder", "--device", "cpu", "--score")
    assert "no ground truth in dataset 'folder'" in line
    assert not list((drawn.root / "artifacts" / "maps").glob("*/maps-*.h5"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random SCHP network of 18 classes, that is of another label set than schp-tiny's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SCHP(Widths(**{**SMALL.__dict__, "classes": 18}))
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(network.state_dict(), path)
    return path


def test_comparison_makes_both_and_agrees_with_the_maps(drawn: Console, weights: Path):
    words = ("parse", "folder", "--device", "cpu", "--model", "schp", "--weights", weights)
    found = drawn.json(*words, "--compare", "schp-tiny", "schp")
    assert [parser["model"] for parser in found["parsers"]] == ["schp", "schp-tiny"]
    compared = found["compare"]
    # Both paint labels 5 and 9: in ATR these are skirt (legs) and left shoe (legs).
    assert compared["first"] == "schp-tiny" and compared["label_set"] == "parts"
    assert compared["pixel_accuracy"] == 0.5 and compared["images"] == 3
    assert compared["iou"]["torso"] == 0.0 and compared["iou"]["legs"] == 0.5
    assert [worst["key"] for worst in compared["most_different"]] == ["g.png", "q.png", "t.png"]
    sheet = Path(compared["sheet"])
    assert sheet.parent == drawn.root / "reports" and Image.open(sheet).size[0] >= 1200
    again = drawn(*words, "--compare", "schp-tiny", "schp").stdout
    assert "nothing to do: all 4 artifacts exist" in again
    assert "agree on 50.0 % of the pixels of 3 images, labels of parts" in again


OWN = """
import numpy as np
from parsing_models.parsers.interface import LabelMaps
from pipeline.labels.sets import LabelSet
from pipeline.plugins import register

@register.parser("own")
class Own:
    # No other set has these names; in the alphabet's order they would be another set.
    label_set = LabelSet("own", ("nothing", "left", "all"), ((0, 0, 0), (9, 9, 9), (5, 5, 5)))
    def __init__(self, kind, weights, *, device, options):
        pass
    def parse(self, images, size, **_):
        label = np.ones((len(images), *size), np.uint8)
        label[:, :, 64:] = 2
        return LabelMaps(label, np.ones(label.shape, np.float32))
"""


def test_a_label_set_of_a_plugin_is_told_by_its_own_names(drawn: Console, tmp_path: Path):
    plugin, drawing = tmp_path / "own.py", tmp_path / "drawn"
    plugin.write_text(OWN)
    for name in SPLITS:
        # Truth in the plugin's labels: of 8 pixels 4 are left, as painted; the rest 0.
        label = np.array([[1, 1, 0, 0], [1, 1, 0, 0]], np.uint8)
        Image.fromarray(label).save(drawing / f"{name}-truth.png")
    drawn("prepare", "folder", "--root", drawing)
    words = ("--plugin", plugin, "parse", "folder", "--device", "cpu", "--model", "own")
    text = drawn(*words, "--score").stdout
    table = [line.split()[:2] for line in text.splitlines()]
    assert ["left", "100.0"] in table and ["all", "0.0"] in table
    text = drawn(*words, "--compare", "own", "own:flipped=0").stdout
    assert "agree on 100.0 % of the pixels" in text and "labels of own" in text
    rows = [line.split()[0] for line in text.splitlines() if line.strip()]
    assert [row for row in rows if row in ("nothing", "left", "all")] == ["left", "all"]


def test_mistakes_of_a_comparison(drawn: Console, weights: Path):
    line = drawn.mistake("parse", "folder", "--compare", "schp-tiny", "schp-tiny")
    assert "'schp-tiny' twice" in line
    line = drawn.mistake("parse", "folder", "--weights", weights, "--compare", "schp", "schp-tiny")
    assert f"type --model schp --weights {weights}" in line
    line = drawn.mistake("parse", "folder", "--compare", "schp-tiny", "shcp")
    assert "did you mean 'schp'?" in line
    line = drawn.mistake(
        "parse", "folder", "--label-map", weights, "--compare", "schp-tiny", "schp"
    )
    assert "found --label-map for parser 'schp-tiny'" in line


def test_preview_puts_a_sheet_where_people_look(drawn: Console):
    found = drawn.json("parse", "folder", "--device", "cpu", "--preview")["preview"]
    sheet = Path(found["sheet"])
    assert sheet.parent == drawn.root / "reports" and sheet.name.startswith("labels-folder-")
    assert [Path(name).name for name in found["overlays"]] == [
        "00-t.png", "01-q.png", "02-g.png",
    ]  # fmt: skip
    picture = np.asarray(Image.open(found["overlays"][0])).astype(int)
    tinted = np.round(0.35 * np.array([80, 90, 30]) + 0.65 * np.array(LIP.palette[5]))
    assert np.abs(picture[10, 10] - tinted).max() <= 1


def test_a_damaged_shard_is_found_and_made_again_alone(
    drawn: Console, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writing, "SHARD_IMAGES", 1)
    folder = Path(drawn.json("parse", "folder", "--device", "cpu")["folder"])
    made = sorted(folder.glob("maps-*.h5"))
    assert len(made) == 3
    lost = LabelMapReader(folder).keys[1]
    data = bytearray(made[1].read_bytes())
    data[len(data) // 2] ^= 0xFF
    made[1].write_bytes(data)
    kept = {path.name: path.read_bytes() for path in (made[0], made[2])}
    damaged = drawn.json("cache", "verify", "--repair", code=1)["damaged"]
    assert [row["file"] for row in damaged] == ["maps-00001.h5"]
    found = drawn.json("parse", "folder", "--device", "cpu")
    assert found["made"] == 1 and found["images"] == 3
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    assert lost in LabelMapReader(folder) and len(LabelMapReader(folder)) == 3
    assert shards.verify(folder) == []
    assert drawn.json("cache", "verify")["damaged"] == []
