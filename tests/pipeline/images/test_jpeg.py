"""Plain JPEGs: PIL's pixels to the bit, and everything else left to PIL."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.images import jpeg
from pipeline.images.jpeg import agrees, plain_jpeg
from pipeline.images.originals import DamagedImage
from pipeline.images.pixels import decode, read_image, read_size


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def saved(image: Image.Image, **how: Any) -> bytes:
    held = io.BytesIO()
    image.save(held, "JPEG", **how)
    return held.getvalue()


def by_pil(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 70), st.integers(1, 70), st.integers(0, 9), st.integers(1, 100),
    st.sampled_from(["L", "RGB"]), st.integers(0, 2), st.booleans(), st.integers(0, 3),
)  # fmt: skip
def test_pixels_are_those_of_pil(height, width, seed, quality, mode, subsampling, optimise, rows):
    image = noise(height, width, seed).convert(mode)
    how: dict[str, Any] = {"subsampling": subsampling} if mode == "RGB" else {}
    data = saved(image, quality=quality, optimize=optimise, restart_marker_rows=rows, **how)
    pixels = plain_jpeg(data)
    assert pixels is not None and pixels.dtype == np.uint8
    assert np.array_equal(pixels, by_pil(data))
    assert np.array_equal(decode(data), pixels) and read_size(data, "a") == (width, height, ())


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


@pytest.mark.parametrize(
    "how",
    [{"progressive": True}, {"exif": exif(6)}, {"icc_profile": b"profile"}, {"mode": "CMYK"},
     {"keep_rgb": True}, {"xmp": b"<x/>"}],
    ids=["progressive", "EXIF", "ICC", "CMYK", "RGB", "XMP"],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_pil(how: dict[str, Any]):
    mode = how.pop("mode", "RGB")
    data = saved(noise(30, 20).convert(mode), **how)
    assert plain_jpeg(data) is None
    assert np.array_equal(
        np.asarray(read_image(data, "a", decoding="as-stored").image), by_pil(data)
    )


def test_other_files_are_no_jpegs():
    held = io.BytesIO()
    noise(4, 4).save(held, "PNG")
    plain = saved(noise(4, 4))
    several = plain[:2] + b"\xff\xe2\x00\x08MPF\0xx" + plain[2:]  # a telephone's second picture
    for data in (b"", b"\xff\xd8\xff", held.getvalue(), plain[:40], several):
        assert plain_jpeg(data) is None


@pytest.mark.parametrize("seed", range(40))
def test_damage_is_judged_by_pil_alone(seed: int, monkeypatch: pytest.MonkeyPatch):
    whole, rng = saved(noise(64, 32)), np.random.default_rng(seed)
    data = bytearray(whole)
    if seed % 2:
        del data[int(rng.integers(20, len(data))) :]
    else:
        data[int(rng.integers(2, len(data)))] ^= int(rng.integers(1, 256))

    def found() -> bytes | str:
        try:
            return decode(bytes(data)).tobytes()
        except DamagedImage as error:
            return str(error)

    here = found()
    monkeypatch.setattr(jpeg, "_decoder", lambda: None)
    assert here == found()


def test_a_decoder_that_differs_is_not_used(monkeypatch: pytest.MonkeyPatch):
    from simplejpeg import decode_jpeg

    assert agrees(decode_jpeg)
    assert not agrees(lambda data: decode_jpeg(data, fastdct=True, fastupsample=True))
    assert not agrees(lambda data: decode_jpeg(data) ^ 1)
    monkeypatch.setattr(jpeg, "_decoder", lambda: None)
    data = saved(noise(9, 8))
    assert plain_jpeg(data) is None and np.array_equal(decode(data), by_pil(data))
    assert "Pillow alone" in jpeg.decoder()
