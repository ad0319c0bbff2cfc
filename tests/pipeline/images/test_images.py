from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.steps import Job
from pipeline.datasets.index import ImageRow, Index, write_index
from pipeline.images.originals import DamagedImage
from pipeline.images.packed import PackedImages
from pipeline.images.pixels import decode, resize
from pipeline.images.work import pack
from pipeline.terminal.errors import ReidpipeError

pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)


def encoded(format: str, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format)
    return buffer.getvalue()


def dataset(root: Path, count: int = 5, format: str = "JPEG") -> Index:
    """Noise images, each of another size; all carry the suffix .png, whatever they hold."""
    root.mkdir()
    rows = []
    for place in range(count):
        path = root / f"{place}.png"
        width, height = 20 + place % 9, 50 - place % 7
        noise = np.random.default_rng(place).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(path, format)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append(
            ImageRow(path.name, path.name, "train", place, 0, None, "", None, width, height, digest)
        )
    return Index("noise", root, rows)


def job(tmp_path: Path, index: Index, workers: int = 1, **params: object) -> Job:
    write_index(tmp_path / "index", index)
    (tmp_path / "images").mkdir(exist_ok=True)
    return Job(
        folder=tmp_path / "images",
        params={"size": [32, 16], "filter": "bicubic", **params},
        inputs={"index": tmp_path / "index"},
        workspace=tmp_path,
        workers=workers,
        scheduler=None,
        device="cpu",
        progress=False,
    )


@pytest.mark.parametrize("format", ["PNG", "GIF", "TIFF", "BMP", "WEBP", "JPEG"])
def test_content_decides_not_the_suffix(tmp_path: Path, format: str) -> None:
    path = tmp_path / "wrong.jpg"
    path.write_bytes(encoded(format))
    expected = np.array(Image.open(io.BytesIO(encoded(format))).convert("RGB"))
    assert decode(path).dtype == np.uint8
    np.testing.assert_array_equal(decode(path), expected)
    np.testing.assert_array_equal(decode(path.read_bytes()), expected)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    assert decode(encoded("TIFF" if mode == "CMYK" else "PNG", mode)).shape == (40, 30, 3)


@pytest.mark.parametrize(("format", "mode"), [("PNG", "I;16"), ("TIFF", "I;16"), ("TIFF", "I;16B")])
def test_sixteen_bits_keep_their_upper_eight(format: str, mode: str) -> None:
    wide = np.array([[0, 255, 256, 0x7FFF], [0x8000, 0xABCD, 0xFEFF, 0xFFFF]], np.uint16)
    stored = wide.astype(">u2" if mode.endswith("B") else "<u2")
    buffer = io.BytesIO()
    Image.frombytes(mode, (4, 2), stored.tobytes()).save(buffer, format)
    expected = [[0, 0, 1, 0x7F], [0x80, 0xAB, 0xFE, 0xFF]]
    np.testing.assert_array_equal(decode(buffer.getvalue()), np.dstack([expected] * 3))


@pytest.mark.parametrize(("mode", "what"), [("I", "32-bit integers"), ("F", "floating-point")])
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, mode: str, what: str) -> None:
    path = tmp_path / "wide.tif"
    Image.new(mode, (4, 2), 70_000).save(path)
    with pytest.raises(DamagedImage, match=rf"mode {mode} \({what}.*wide.tif; expected 8 or 16"):
        decode(path)


def test_real_crops_are_jpeg_under_a_png_name(col780: Path) -> None:
    path = sorted((col780 / "val" / "query").rglob("*.png"))[0]
    assert path.read_bytes()[:2] == b"\xff\xd8"
    assert decode(path).shape == (128, 48, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"<html>404</html>", "a file that is no image"),
        (encoded("JPEG")[:900], "damaged image.*truncated"),
        (encoded("PNG")[:900], "damaged image"),
        (encoded("PNG")[:200] + bytes(50) + encoded("PNG")[250:], "damaged image"),
        (encoded("TIFF")[:900], "damaged image|no image"),
    ],
)
def test_damage_is_one_line_that_names_the_file(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "beagle_116.jpg"
    path.write_bytes(content)
    with pytest.raises(DamagedImage, match=reason) as caught:
        decode(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedImage, match=r"no file at .*gone\.jpg"):
        decode(tmp_path / "gone.jpg")


def test_resize_is_bit_equal_to_pil() -> None:
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    for name, filter in filters.items():
        expected = np.asarray(Image.fromarray(pixels).resize((13, 21), filter))
        np.testing.assert_array_equal(resize(pixels, (21, 13), name), expected)
    with pytest.raises(ReidpipeError, match="did you mean 'bicubic'"):
        resize(pixels, (2, 2), "bicubik")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_packed_rows_follow_the_index(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.images.work.WORTHWHILE", 1)
    index = dataset(tmp_path / "data", count=130)
    summary = pack(job(tmp_path, index, workers))
    packed = PackedImages.open(tmp_path / "images")
    assert packed.keys == [row.key for row in index.rows]
    assert (packed.size, packed.filter, len(packed)) == ((32, 16), "bicubic", 130)
    assert packed.pixels.shape == (130, 32, 16, 3) and packed.pixels.dtype == np.uint8
    for row in index.rows:
        with Image.open(tmp_path / "data" / row.path) as image:
            expected = np.asarray(image.convert("RGB").resize((16, 32), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(packed.pixels[packed.row(row.key)], expected)
    assert summary["images"] == 130
    assert summary["bytes"] == packed.pixels.nbytes
    assert sorted(p.name for p in (tmp_path / "images").iterdir()) == ["keys.json", "pixels.npy"]


def test_reader_travels_without_its_pixels(tmp_path: Path) -> None:
    pack(job(tmp_path, dataset(tmp_path / "data")))
    packed = PackedImages.open(tmp_path / "images")
    first = packed.pixels[0].copy()
    luggage = pickle.dumps(packed)
    assert len(luggage) < 1000
    np.testing.assert_array_equal(pickle.loads(luggage).pixels[0], first)
    assert isinstance(packed.pixels, np.memmap)
    with pytest.raises(ReidpipeError, match="no image '9.png'"):
        packed.row("9.png")


def test_changed_damaged_and_missing_images_stop_packing(tmp_path: Path) -> None:
    index = dataset(tmp_path / "data")
    path = tmp_path / "data" / "3.png"
    whole = path.read_bytes()
    path.write_bytes(encoded("PNG"))
    with pytest.raises(ReidpipeError, match=r"other bytes in .*3\.png"):
        pack(job(tmp_path, index))
    path.write_bytes(whole)
    path.unlink()
    with pytest.raises(DamagedImage, match=r"3\.png"):
        pack(job(tmp_path, index))
    assert list((tmp_path / "images").iterdir()) == []
    with pytest.raises(ReidpipeError, match="no packed images"):
        PackedImages.open(tmp_path / "images")


def test_empty_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReidpipeError, match="no image in the index of noise"):
        pack(job(tmp_path, Index("noise", tmp_path, [])))


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as caught:
        pack(job(tmp_path, dataset(tmp_path / "data")))
    assert caught.value.errno == errno.ENOSPC
    assert list((tmp_path / "images").iterdir()) == []


def test_a_truncated_array_is_refused(tmp_path: Path) -> None:
    pack(job(tmp_path, dataset(tmp_path / "data")))
    shutil.copy(tmp_path / "images" / "keys.json", tmp_path / "keys.json")
    np.save(tmp_path / "pixels.npy", np.zeros((2, 32, 16, 3), np.uint8))
    with pytest.raises(ReidpipeError, match="cache verify"):
        _ = PackedImages.open(tmp_path).pixels


def test_module_needs_no_torch() -> None:
    code = (
        "import sys, pipeline.images.work, pipeline.images.packed, pipeline.artifacts.processes;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
