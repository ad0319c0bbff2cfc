"""What of a decoded image is shown: the pixels as a person sees them, or as they are stored."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

# Neither light nor dark clothes vanish on it, and it is near the mean most networks subtract.
BACKGROUND = (128, 128, 128)
DEPTHS = (8, 10, 12, 14, 16)
# Values that fill less of their depth's range are looked at for an offset.
FILLED = 4
ORIENTATION = 0x0112
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


class Shown(NamedTuple):
    """An image in mode RGB, and what was done to it that a person should know, as words that
    follow a number of images: "turned upright by EXIF orientation"."""

    image: Image
    told: tuple[str, ...]


class UnknownRange(ValueError):
    """Pixels of which nobody can say how bright white is."""


def as_seen(image: ImageFile, data: bytes) -> Shown:
    """What an image viewer shows of an image just opened from ``data``.

    The EXIF orientation is applied. Pixels that are wholly or partly transparent lie on the grey
    ``BACKGROUND``: what colours a file hides behind them never shows. The first frame or page
    stands for all. Wider than 8 bits per channel: ``eight_bits``, all colour channels alike, each
    image by itself. What has 8 bits, no transparency and no orientation is ``convert("RGB")``.
    Raises UnknownRange as ``eight_bits`` does, for floats, and what PIL raises for damage.
    """
    from PIL import Image as pil

    told = _frames(image)
    # PIL turns TIFF itself while it loads and forgets the orientation then.
    turned = image.format == "TIFF" and _orientation(image) != 1
    image.load()
    orientation = _orientation(image)
    wide = _wide(image, data)
    if wide is None:
        seen: Image = image.convert("RGBA") if image.has_transparency_data else image
    else:
        channels, alpha = wide
        values, depth = eight_bits(channels, _declared_bits(image, data))
        if _white_is_zero(image):
            values = 255 - values
        told.append(depth)
        seen = pil.fromarray(values[..., 0] if values.shape[2] == 1 else values)
        if alpha is not None:
            seen = seen.convert("RGBA")
            seen.putalpha(pil.fromarray(alpha))
    if seen.mode == "RGBA":
        if seen.getchannel("A").getextrema() != (255, 255):
            told.append(f"with transparent pixels, which lie on grey {BACKGROUND}")
        seen = pil.alpha_composite(pil.new("RGBA", seen.size, (*BACKGROUND, 255)), seen)
    seen = seen.convert("RGB")
    if turned or orientation != 1:
        told.append("turned upright by EXIF orientation")
    return Shown(_upright(seen, orientation), tuple(told))


def as_stored(image: ImageFile) -> Shown:
    """The pixels as the loaders of published datasets read them: ``convert("RGB")``.

    EXIF orientation and transparency are ignored. Of 16 bits per channel the upper 8 count, where
    PIL's own conversion of grey images clips to white. Raises as ``as_seen``.
    """
    from PIL import Image as pil

    told = _frames(image)
    image.load()
    if _orientation(image) != 1:
        told.append("with an EXIF orientation, which is ignored as by the loaders of the authors")
    if image.has_transparency_data:
        told.append("with a transparency, which is ignored as by the loaders of the authors")
    if image.mode.startswith("I;16") or _is_integer_grey(image):
        told.append("of 16 bits per channel, of which the upper 8 are used")
        return Shown(pil.fromarray((_grey(image) >> 8).astype(np.uint8)).convert("RGB"), (*told,))
    _check_range(image)
    return Shown(image.convert("RGB"), tuple(told))


def eight_bits(values: np.ndarray, declared: int | None = None) -> tuple[np.ndarray, str]:
    """Unsigned 16-bit ``values`` (H, W, C) brought to uint8 by their own range; words about it.

    The depth is ``declared`` (bits, where the file says and the values fit), else the smallest of
    8, 10, 12, 14 and 16 bits that holds the brightest value; the upper 8 of these bits are kept.
    Values that fill less than a quarter of that range, and lie further above zero than they spread,
    are a sensor's counts above an offset (thermal cameras): the darkest becomes 0, the brightest
    255. So a dark picture stays dark and a thermal one becomes readable.
    """
    low, high = int(values.min()), int(values.max())
    bits = next(depth for depth in DEPTHS if high < 1 << depth)
    if declared is not None and high < 1 << declared:
        bits = declared
    spread = high - low
    if bits > 8 and 0 < spread < low and spread * FILLED < 1 << bits:
        stretched = np.rint((values.astype(np.float64) - low) * (255 / spread))
        return stretched.astype(np.uint8), (
            f"of {bits} bits whose values lie close together, spread from darkest to brightest"
        )
    if bits < 8:
        return (values.astype(np.uint32) * 255 // ((1 << bits) - 1)).astype(np.uint8), (
            f"of {bits} bits per channel, scaled to 8"
        )
    return (values >> (bits - 8)).astype(np.uint8), (
        "of 16 bits per channel, of which the upper 8 are used"
        if bits == 16
        else f"of {bits} bits per channel stored in 16, scaled to 8 by that range"
    )


def _frames(image: ImageFile) -> list[str]:
    # What a telephone adds to a photograph (MPO) is a preview or a depth map of the same picture.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        return ["with several frames or pages, of which the first is used"]
    return []


def _orientation(image: ImageFile) -> int:
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - PIL raises anything for EXIF that is no EXIF; pixels are well
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _upright(image: Image, orientation: int) -> Image:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }  # fmt: skip
    return image.transpose(turns[orientation]) if orientation in turns else image


def _wide(image: ImageFile, data: bytes) -> tuple[np.ndarray, np.ndarray | None] | None:
    """uint16 colours (H, W, C) and u1 alpha (H, W) of an image of more than 8 bits per channel."""
    if image.mode.startswith("I;16") or _is_integer_grey(image):
        grey = _grey(image)
        hidden = image.info.get("transparency")
        alpha = None if hidden is None else np.where(grey == hidden, 0, 255).astype(np.uint8)
        return grey[..., None], alpha
    _check_range(image)
    values = _colours(image, data) if _sixteen_bit_channels(image, data) else None
    if values is None:
        return None
    hidden = image.info.get("transparency")
    if values.shape[2] in (2, 4):
        opaque = values[..., -1]
        bits = next(depth for depth in DEPTHS if opaque.max() < 1 << depth)
        return values[..., :-1], (opaque >> (bits - 8)).astype(np.uint8)
    if hidden is None:
        return values, None
    return values, np.where((values == hidden).all(2), 0, 255).astype(np.uint8)


def _is_integer_grey(image: Image) -> bool:
    # PGM and, in older Pillows, PNG of 16 bits are read in mode I; so is TIFF of signed 16 bits.
    return image.mode == "I" and image.format in ("PNG", "PPM", "TIFF", "JPEG2000")


def _grey(image: Image) -> np.ndarray:
    values = np.asarray(image)
    if values.min() < 0 or values.max() >= 1 << 16:
        raise UnknownRange(f"pixels of mode {image.mode} (32-bit integers)")
    return values.astype(np.uint16)


def _check_range(image: Image) -> None:
    if image.mode in ("I", "F"):
        what = "32-bit integers" if image.mode == "I" else "floating-point numbers"
        raise UnknownRange(f"pixels of mode {image.mode} ({what})")


def _sixteen_bit_channels(image: ImageFile, data: bytes) -> bool:
    """Whether PIL has dropped the lower bytes of a colour image."""
    if image.format == "PNG":
        return data[24] == 16 and image.mode in ("RGB", "RGBA", "LA")
    return set(_tags(image).get(258, ())) == {16} and image.mode in ("RGB", "RGBA")


def _colours(image: Image, data: bytes) -> np.ndarray | None:
    """uint16 (H, W, C) of 16-bit channels, of which ``image`` has the upper bytes; C is 2 of grey
    with transparency. None for an order of bytes that PIL does not have.

    PIL has no such mode: the lower bytes are what it decodes when told the other byte order.
    """
    from PIL import Image as pil

    other = pil.open(io.BytesIO(data))
    tiles, kind = [], ""
    for tile in getattr(other, "tile", ()):
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        kind, _, order = str(args[0]).partition(";16")
        if order not in _OTHER_BYTE:
            return None
        # Grey and transparency have no other order, but their four bytes are one of RGBA.
        told = "RGBA" if kind == "LA" else f"{kind};16{_OTHER_BYTE[order]}"
        tiles.append(tile._replace(args=(told, *args[1:]) if args is tile.args else told))
    other.tile = tiles  # pyright: ignore[reportAttributeAccessIssue]
    try:
        other.load()
    except ValueError:
        return None
    low = np.asarray(other).astype(np.uint16)
    if kind == "LA":
        return np.dstack([low[..., 0] << 8 | low[..., 1], low[..., 2] << 8 | low[..., 3]])
    return np.asarray(image).astype(np.uint16) << 8 | low


def _declared_bits(image: ImageFile, data: bytes) -> int | None:
    """Bits per channel that a file says its values have; None where it says nothing."""
    if image.format in ("PPM", "JPEG2000"):
        return 16  # PIL has scaled the values to 16 bits by what the file says
    if image.format == "PNG":
        # A chunk between the header and the pixels: length, name, one byte per channel.
        place = data.find(b"sBIT", 33, max(33, data.find(b"IDAT")))
        size = int.from_bytes(data[place - 4 : place], "big") if place >= 0 else 0
        return max(data[place + 4 : place + 4 + size]) if 1 <= size <= 4 else None
    tags = _tags(image)
    bits, white = tags.get(258, ()), tags.get(281, ())
    if bits and max(bits) < 16:
        return max(bits)
    return int(max(white)).bit_length() if white else None


def _white_is_zero(image: ImageFile) -> bool:
    # PIL inverts 8 bits itself, 16 not.
    return _tags(image).get(262, (1,)) == (0,)


def _tags(image: ImageFile) -> dict[int, tuple[Any, ...]]:
    found = getattr(image, "tag_v2", {})
    wanted = (258, 262, 281)  # BitsPerSample, PhotometricInterpretation, MaxSampleValue
    values = {tag: found[tag] for tag in wanted if tag in found}
    return {tag: v if isinstance(v, tuple) else (v,) for tag, v in values.items()}
