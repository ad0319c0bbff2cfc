"""One person's photograph is one picture, whichever way the telephone was held."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.images.packed import PackedImages
from pipeline.labels.maps import LabelMapReader
from tests.cli.conftest import Console


def turned(source: Path, target: Path) -> Path:
    """The picture stored on its side, with the orientation that sets it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        image.convert("RGB").transpose(Image.Transpose.ROTATE_90).save(target, "PNG", exif=exif)
    return target


def test_a_telephones_picture_is_its_upright_copy(trained: Console, people: Path, tmp_path: Path):
    upright = sorted((people / "images" / "gallery").iterdir())[0]
    phone = turned(upright, tmp_path / "photos" / "phone.png")
    assert trained.json("score", "baseline-tiny", upright, phone)["similarity"] > 0.99999
    found = trained.json("search", "baseline-tiny", upright, phone.parent)
    assert found["matches"][0]["similarity"] > 0.99999


def test_prepare_and_parse_see_it_upright_and_say_so(
    console: Console, people: Path, tmp_path: Path
):
    upright = sorted((people / "images" / "gallery").iterdir())[0]
    phone = turned(upright, tmp_path / "own" / "anna" / "phone.png")
    with Image.open(upright) as image:
        image.convert("RGB").save(phone.with_name("upright.png"))
        wide = np.asarray(image.convert("L")).astype(np.uint16) << 4
    (tmp_path / "own" / "ben").mkdir()
    Image.fromarray(wide).save(tmp_path / "own" / "ben" / "sensor.png")

    words = ("prepare", "folder", "--root", tmp_path / "own", "--size", "64x32")
    result = console(*words)
    assert "1 image turned upright by EXIF orientation: anna/phone.png" in result.stdout
    assert "1 image of 12 bits per channel stored in 16, scaled" in result.stdout
    found = console.json(*words)
    assert found["decoded"]["turned upright by EXIF orientation"] == ["anna/phone.png"]
    packed = PackedImages.open(found["images_folder"])
    rows = [packed.row(f"anna/{name}.png") for name in ("phone", "upright")]
    np.testing.assert_array_equal(packed.pixels[rows[0]], packed.pixels[rows[1]])

    parsed = console.json("parse", "folder", "--preview")
    reader = LabelMapReader(parsed["folder"])
    label, _ = reader["anna/phone.png"]
    np.testing.assert_array_equal(label, reader["anna/upright.png"][0])
