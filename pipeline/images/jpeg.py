"""Plain JPEGs decoded to PIL's pixels by libjpeg-turbo alone, which takes a fifth of PIL's time.

PIL reads every marker of a file in Python and decodes in pieces. Most images of person
re-identification are JPEGs of which nothing but the pixels matters; those are recognised here by
the few markers they may have. What has any other marker (EXIF, XMP, colour profiles, several
pictures in one file), other components than grey or YCbCr, other sampling than 4:4:4, 4:2:2 and
4:2:0, is progressive, large or in any way damaged is left to PIL, which then says what is wrong.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

# PIL warns of images from about five times as many pixels.
MOST_PIXELS = 1 << 24
_START, _BASELINE, _SCAN, _JFIF = b"\xff\xd8\xff", 0xC0, 0xDA, 0xE0
# Tables of quantisation and Huffman's, the restart interval, a comment.
_OF_NO_INTEREST = frozenset((0xDB, 0xC4, 0xDD, 0xFE))
# Numbers of Y, Cb, Cr and how each is sampled.
_FRAMES = frozenset(
    [b"\x01\x11"] + [b"\x01" + luma + b"\x02\x11\x03\x11" for luma in (b"\x11", b"\x21", b"\x22")]
)


def plain_jpeg(data: bytes) -> np.ndarray | None:
    """Pixels uint8 (H, W, 3) in 0..255, RGB, of a whole and plain JPEG: to the bit those of
    ``PIL.Image.open(...).convert("RGB")``. None for everything else, and where this machine has no
    simplejpeg or it gives other pixels than PIL.
    """
    if not data.startswith(_START) or not _is_plain(data):
        return None
    decode = _decoder()
    if decode is None:
        return None
    try:
        return decode(data)
    except ValueError:  # the least irregularity: libjpeg's warnings are errors here
        return None


def _is_plain(data: bytes) -> bool:
    """Whether the markers up to the first scan are those of a plain JPEG."""
    place, framed = 2, False
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        size = data[place + 2] << 8 | data[place + 3]
        segment = place + 4
        place += 2 + size
        if marker in _OF_NO_INTEREST:
            continue
        if marker == _SCAN:
            return framed
        if marker == _JFIF and size == 16 and data[segment : segment + 5] == b"JFIF\0":
            continue
        if marker != _BASELINE or framed or not _is_plain_frame(data[segment:place]):
            return False
        framed = True
    return False


def _is_plain_frame(frame: bytes) -> bool:
    """Whether 8 bits, a size that is neither none nor large, and components as ``_FRAMES`` says."""
    if len(frame) < 6 or frame[0] != 8:
        return False
    height, width = frame[1] << 8 | frame[2], frame[3] << 8 | frame[4]
    # Of each component: number, sampling, table of quantisation.
    components = b"".join(frame[at : at + 2] for at in range(6, len(frame), 3))
    sampled = components in _FRAMES and len(frame) == 6 + 3 * frame[5]
    return sampled and 0 < height * width <= MOST_PIXELS


def decoder() -> str:
    """What decodes plain JPEGs on this machine, in words."""
    if _decoder() is not None:
        return "simplejpeg, with Pillow's pixels"
    return "Pillow alone, several times slower: no simplejpeg, or one with other pixels"


@lru_cache(maxsize=1)
def _decoder() -> Callable[[bytes], np.ndarray] | None:
    """What decodes, where it is installed and agrees with the PIL of this machine."""
    try:
        from simplejpeg import decode_jpeg
    except ImportError:
        return None
    return decode_jpeg if agrees(decode_jpeg) else None


def agrees(decode: Callable[[bytes], np.ndarray]) -> bool:
    """Whether a decoder gives PIL's pixels of a picture with noise and edges in every plain form:
    both bring a libjpeg of their own, or take the system's.
    """
    from PIL import Image

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (41, 39, 3), np.uint8)
    pixels[8:33, 5:20] = (250, 20, 90)
    picture = Image.fromarray(pixels)
    forms: list[tuple[str, dict[str, Any]]] = [("L", {}), ("RGB", {"subsampling": 0})]
    forms += [("RGB", {"subsampling": number}) for number in (1, 2)]
    for mode, how in forms:
        held = io.BytesIO()
        picture.convert(mode).save(held, "JPEG", quality=90, **how)
        data = held.getvalue()
        with Image.open(held) as image:
            wanted = np.asarray(image.convert("RGB"))
        try:
            if not np.array_equal(decode(data), wanted):
                return False
        except ValueError:
            return False
    return True
