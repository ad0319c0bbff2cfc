"""Images that nobody has labelled: trained on by the recipe that needs no labels, then searched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.artifacts.atomic import read_json
from tests.cli.conftest import Console
from tests.trees import lines

FAST = (
    "input.size=[32,16]",
    "stages.image.epochs=1",
    "stages.image.data.iterations=2",
    "stages.image.data.ids=2",
    "stages.image.data.images_per_id=2",
    "stages.image.hooks.0.options={eps: 0.7, min_samples: 2, k1: 5, k2: 2, centre_cameras: true}",
)
USL = ("train", "pcl-clip-usl-tiny", "--dataset", "folder", "--device", "cpu")
USL = (*USL, *(part for value in FAST for part in ("--set", value)))


@pytest.fixture
def flat(people: Path, tmp_path: Path) -> Path:
    """24 images in one folder, their names saying nothing."""
    folder = tmp_path / "flat"
    folder.mkdir()
    for number, path in enumerate(sorted((people / "images" / "train").rglob("*.jpg"))):
        shutil.copy(path, folder / f"image-{chr(97 + number)}.jpg")
    return folder


def weights(console: Console, run: dict) -> bytes:
    return (Path(run["model"]) / "model.safetensors").read_bytes()


def test_from_a_flat_folder_to_a_search(console: Console, flat: Path):
    counts = console.json("prepare", "folder", "--root", flat, "--size", "32x16")["counts"]
    assert counts == [{"subset": "train", "ids": 0, "images": 24, "cameras": 0}]

    line = console.mistake("train", "baseline-tiny", "--dataset", "folder", "--device", "cpu")
    for part in ("24 of 24 training images", "pcl-clip-usl, pcl-clip-usl-msmt17, pcl-clip-usl-"):
        assert part in line
    assert line.endswith("type reidpipe train pcl-clip-usl-tiny --dataset folder")
    assert not list(console.root.glob("artifacts/model/*"))
    line = console.mistake("run", "pcl-clip-usl-tiny", "--dataset", "folder", *USL[4:])
    assert "24 images without labels in folder" in line and "reidpipe train in place" in line
    assert not list(console.root.glob("artifacts/model/*"))

    run = console.json(*USL)
    assert (run["images"], run["identities"]) == (24, 0)
    about = read_json(Path(run["model"]) / "model.json")
    assert about["identity_order"] == [] and about["metrics"]["loss"] >= 0
    text = console(*USL).stdout
    assert "nothing to do" in text and f"next: reidpipe embed {run['run']} DIR" in text

    line = console.mistake("eval")
    assert f"type reidpipe embed {run['run']} {flat} --out gallery" in line
    assert "24 images without labels" in console.mistake("report", "pcl")
    assert not list(console.root.glob("artifacts/evaluation/*"))

    gallery = flat.parent / "gallery"
    console("embed", "pcl", flat, "--out", gallery, "--device", "cpu")
    found = console.json("search", "pcl", flat / "image-a.jpg", gallery, "--device", "cpu")
    assert found["matches"][0]["image"].endswith("image-a.jpg")
    assert found["threshold"] is None
    assert console.json("status")["runs"][0]["state"] == "ready"
    console("export", "pcl", "--format", "safetensors", "--out", flat.parent / "usl.safetensors")


def test_identities_change_nothing_but_what_is_said_of_clusters(console: Console, flat: Path):
    """The same images in the same order: unknown and known."""
    names = sorted(path.name for path in flat.iterdir())
    pids = {
        "none": ["" for _ in names],
        "all": [str(place // 6) for place in range(24)],
    }
    found, ids = {}, {}
    for kind, people in pids.items():
        table = flat / f"{kind}.csv"
        rows = [f"{name},{pid}" for name, pid in zip(names, people, strict=True)]
        lines(table, ["path,pid", *rows])
        console("prepare", "folder", "--root", table, "--size", "32x16")
        run = console.json(*USL)
        found[kind], ids[kind] = weights(console, run), run["identities"]
        table.unlink()
    assert found["none"] == found["all"]
    assert ids == {"none": 0, "all": 4}
