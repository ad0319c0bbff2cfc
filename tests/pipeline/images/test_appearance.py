"""Pixels as a person sees them: orientation, depth, transparency; and as they are stored."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.steps import Step
from pipeline.datasets.catalogue import list_manifests, load_manifest
from pipeline.datasets.index import ImageRow, Index, read_index, write_index
from pipeline.images.appearance import BACKGROUND, eight_bits
from pipeline.images.originals import DamagedImage
from pipeline.images.pixels import decode, read_image
from pipeline.terminal.errors import ReidpipeError

rng = np.random.default_rng(0)
COLOURS = rng.integers(0, 256, (6, 4, 3), np.uint8)
GREY = rng.integers(10, 240, (6, 4), np.uint8).astype(np.uint16)
GREEN = (0, 255, 0)


def saved(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png(values: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """16 bits per channel, which PIL cannot write in colour; values (H, W, C)."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def tiff(values: np.ndarray, order: str = "<", **tags: int) -> bytes:
    """Uncompressed, 16 bits per channel; values (H, W, C)."""
    height, width, channels = values.shape
    pixels = values.astype(f"{order}u2").tobytes()
    colour = 2 if channels == 3 else 1
    entries = [
        (256, width), (257, height), (258, 16), (259, 1), (262, tags.get("photometric", colour)),
        (273, 0), (277, channels), (278, height), (279, len(pixels)),
    ]  # fmt: skip
    entries += [(281, tags["white"])] if "white" in tags else []
    start = 8 + 2 + 12 * len(entries) + 4
    depths = struct.pack(f"{order}3H", 16, 16, 16)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    head += struct.pack(f"{order}H", len(entries))
    for tag, value in entries:
        if tag == 258 and channels == 3:
            head += struct.pack(f"{order}HHII", tag, 3, 3, start)
        elif tag in (273, 279):
            value = value or start + len(depths)
            head += struct.pack(f"{order}HHII", tag, 4, 1, value)
        else:
            head += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
    return head + struct.pack(f"{order}I", 0) + depths + pixels


def grey(values: np.ndarray) -> np.ndarray:
    return np.dstack([values.astype(np.uint8)] * 3)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(format: str, orientation: int) -> None:
    # Where the first stored row and column are seen: what each of the eight numbers means.
    stored = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: np.rot90, 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](COLOURS)  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    image = Image.fromarray(np.ascontiguousarray(stored))
    data = saved(image, format, exif=exif, **options.get(format, {}))
    shown = read_image(data, "a")
    difference = np.asarray(shown.image).astype(int) - COLOURS
    assert np.abs(difference).max() <= (8 if format == "JPEG" else 0)
    assert ("turned upright by EXIF orientation" in shown.told) == (orientation > 1)
    if format != "TIFF":  # which PIL itself turns
        plain = read_image(data, "a", decoding="as-stored")
        assert plain.image.size == stored.shape[1::-1]
        assert any("ignored" in words for words in plain.told) == (orientation > 1)


def test_broken_exif_is_no_damage() -> None:
    data = saved(Image.fromarray(COLOURS), exif=b"Exif\0\0nonsense")
    np.testing.assert_array_equal(decode(data), COLOURS)


def transparent() -> dict[str, bytes]:
    """Bright green behind the left half, the colours on the right."""
    alpha = np.zeros((6, 4), np.uint8)
    alpha[:, 2:] = 255
    hidden = np.where(alpha[..., None] > 0, COLOURS, GREEN).astype(np.uint8)
    image = Image.fromarray(np.dstack([hidden, alpha]))
    opaque = Image.fromarray(hidden)
    flat = opaque.quantize(64)
    index = flat.getpixel((0, 0))
    return {
        "RGBA": saved(image), "WEBP": saved(image, "WEBP", lossless=True, exact=True),
        "TIFF": saved(image, "TIFF"), "key colour": saved(opaque, transparency=GREEN),
        "palette": saved(flat, transparency=index), "GIF": saved(flat, "GIF", transparency=index),
        "palette alpha": saved(image.quantize(64)),
        "16 bits": png(np.dstack([hidden, alpha]).astype(np.uint16) * 257),
        "16 bits, key colour": png(
            hidden.astype(np.uint16) * 257, (b"tRNS", struct.pack(">3H", 0, 65535, 0))
        ),
    }  # fmt: skip


@pytest.mark.parametrize("kind", transparent())
def test_hidden_colours_never_show(kind: str) -> None:
    shown = read_image(transparent()[kind], "a")
    pixels = np.asarray(shown.image)
    assert (pixels[:, :2] == BACKGROUND).all()
    if "palette" not in kind and kind != "GIF":
        np.testing.assert_array_equal(pixels[:, 2:], COLOURS[:, 2:])
    assert f"with transparent pixels, which lie on grey {BACKGROUND}" in shown.told


def test_grey_with_transparency_lies_on_the_background_in_its_share() -> None:
    values = np.array([[[200, 0], [200, 255], [200, 51]]], np.uint8)
    # 51 of 255 is a fifth: 128 + (200 - 128) / 5 = 142.4.
    expected = [[128, 200, 142]]
    np.testing.assert_array_equal(
        decode(saved(Image.fromarray(values, "LA"))), grey(np.array(expected))
    )
    sixteen = png(values.astype(np.uint16) * 257)
    np.testing.assert_array_equal(decode(sixteen), grey(np.array(expected)))


def test_opaque_images_of_eight_bits_are_what_pil_makes_of_them() -> None:
    opaque = np.dstack([COLOURS, np.full((6, 4), 255, np.uint8)])
    for image in (Image.fromarray(opaque), *(Image.fromarray(COLOURS).convert(m) for m in "L1P")):
        shown = read_image(saved(image), "a")
        np.testing.assert_array_equal(np.asarray(shown.image), np.asarray(image.convert("RGB")))
        assert shown.told == ()


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_values_of_few_bits_are_scaled_by_their_own_range(bits: int, format: str) -> None:
    wide = GREY << (bits - 8)
    wide[0, 0] = 239 << (bits - 8)  # a bright one, as of every picture of that depth
    shown = read_image(saved(Image.fromarray(wide), format), "a")
    np.testing.assert_array_equal(np.asarray(shown.image), grey(wide >> (bits - 8)))
    assert shown.told == (f"of {bits} bits per channel stored in 16, scaled to 8 by that range",)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(COLOURS.astype(np.uint16) << 4), COLOURS),
        (tiff(COLOURS.astype(np.uint16) << 4), COLOURS),
        (tiff(COLOURS.astype(np.uint16) << 4, ">"), COLOURS),
        (png(COLOURS.astype(np.uint16) * 257), COLOURS),
        (png(np.dstack([COLOURS, np.full((6, 4), 255)]).astype(np.uint16) << 4), COLOURS),
        # 8 bits kept in 16.
        (png(COLOURS.astype(np.uint16)), COLOURS),
    ],
)
def test_colours_of_more_than_eight_bits(data: bytes, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(decode(data), expected)


def test_what_a_file_says_of_its_range_counts() -> None:
    dark = GREY[..., None]  # below 240 of 4096
    assert decode(png(dark, (b"sBIT", b"\x0c"))).max() == int(dark.max()) >> 4
    assert decode(tiff(dark, white=4095)).max() == int(dark.max()) >> 4
    # Said to be 12 bits, but moved up to fill 16, as PNG wants it.
    np.testing.assert_array_equal(decode(png(GREY[..., None] << 8, (b"sBIT", b"\x0c"))), grey(GREY))
    pgm = b"P5 4 6 4095\n" + (GREY << 4).astype(">u2").tobytes()
    assert np.abs(decode(pgm).astype(int) - grey(GREY)).max() <= 1
    inverted = decode(tiff((255 - GREY)[..., None] * 257, photometric=0))
    np.testing.assert_array_equal(inverted, grey(GREY))


def test_counts_above_an_offset_are_spread() -> None:
    counts = GREY * 8 + 7000
    low, high = int(GREY.min()), int(GREY.max())
    expected = np.rint((GREY.astype(float) - low) * 255 / (high - low))
    shown = read_image(saved(Image.fromarray(counts)), "a")
    np.testing.assert_array_equal(np.asarray(shown.image), grey(expected))
    assert "spread from darkest to brightest" in shown.told[0]
    # Hundredths of a kelvin in 16 bits; a flat picture has nothing to spread.
    kelvin, _ = eight_bits(np.array([[[29315], [29515], [30315]]], np.uint16))
    assert kelvin.ravel().tolist() == [0, 51, 255]
    assert set(decode(saved(Image.new("I;16", (3, 2), 7000))).ravel()) == {7000 >> 6}
    # Dark is dark: nothing lies below it, so that no offset can be told.
    assert eight_bits(np.array([[[0], [400], [1100]]], np.uint16))[0].ravel().tolist() == [
        0,
        25,
        68,
    ]


def test_the_first_frame_stands_for_an_animation() -> None:
    frames = [Image.fromarray(np.full((6, 4, 3), value, np.uint8)) for value in (40, 200)]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if format == "WEBP" else {}
        data = saved(frames[0], format, save_all=True, append_images=frames[1:], **options)
        shown = read_image(data, "a")
        assert set(np.asarray(shown.image).ravel()) == {40}
        assert shown.told == ("with several frames or pages, of which the first is used",)
    # A telephone's second picture is a preview of the same.
    assert (
        read_image(saved(frames[0], "MPO", save_all=True, append_images=frames[1:]), "a").told == ()
    )


def test_signed_and_32_bit_values_are_used_only_where_they_fit() -> None:
    wide = Image.fromarray((GREY << 4).astype(np.int32))
    np.testing.assert_array_equal(decode(saved(wide, "TIFF")), grey(GREY))
    for value in (-1, 70_000):
        with pytest.raises(
            DamagedImage, match=r"mode I \(32-bit integers\) at a.tif; expected 8 or"
        ):
            read_image(saved(Image.new("I", (3, 2), value), "TIFF"), "a.tif")


def test_published_datasets_keep_their_authors_way_and_their_keys() -> None:
    for manifest in list_manifests():
        own = manifest.id in ("folder", "classes")
        assert manifest.decoding == ("as-seen" if own else "as-stored"), manifest.dataset
        # Its digest is in the keys of indexes.
        assert ("decoding" in manifest.model_dump()) == own


def test_a_dataset_of_ones_own_is_seen_unless_it_says_otherwise(tmp_path: Path) -> None:
    text = (
        "id: mine\ntitle: M\nyear: 2026\nkind: reid\npolicy: manual\nlicence: mine\ncitation: []\n"
    )
    (tmp_path / "mine.yaml").write_text(text + "notice: n\n")
    (tmp_path / "as.yaml").write_text(text + "notice: n\ndecoding: as-stored\n")
    assert load_manifest(str(tmp_path / "mine.yaml")).decoding == "as-seen"
    assert load_manifest(str(tmp_path / "as.yaml")).decoding == "as-stored"


def test_the_way_is_in_the_keys_of_pixels_and_maps_and_in_the_index(tmp_path: Path) -> None:
    from pipeline.artifacts import requests

    stored = Step("index", {"dataset": "a"})
    seen = Step("index", {"dataset": "a", "decoding": "as-seen"})
    for source, params in ((stored, {}), (seen, {"decoding": "as-seen"})):
        images = requests.images(source, size=(2, 1), filter="bicubic")
        assert images.params == {"size": [2, 1], "filter": "bicubic", **params}
        maps = requests.maps(source, model="m", weights=None)
        assert {**maps.params}.get("decoding") == params.get("decoding")
    data = saved(Image.fromarray(COLOURS))
    digest = hashlib.sha256(data).hexdigest()
    row = ImageRow("a.png", "a.png", "train", 0, 0, None, "", None, 4, 6, digest)
    write_index(tmp_path, Index("a", tmp_path / "images", [row], decoding="as-seen"))
    assert read_index(tmp_path).decoding == "as-seen"
    about = tmp_path / "dataset.json"
    about.write_text(about.read_text().replace("as-seen", "as-felt"))
    with pytest.raises(ReidpipeError, match="found decoding 'as-felt'; expected one of as-seen"):
        read_index(tmp_path)
