"""Images: decoded by content, resized as PIL does."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.terminal.errors import ReidpipeError, nearest

if TYPE_CHECKING:
    from PIL.Image import Image


class DamagedImage(ReidpipeError):
    """A file that is no image, is cut short or is missing; the message names it."""


def open_image(source: Path | str | bytes, name: str | None = None) -> Image:
    """Decode ``source`` (a path or the file's bytes) completely; the result is in mode RGB.

    The format is found from the content, never from the suffix. The first frame of an animation
    is used; EXIF orientation is ignored, as every published loader does. Of 16 bits per channel the
    upper 8 count.
    Raises DamagedImage, which names the path (or ``name`` when bytes are given), also for pixels of
    32-bit integers or floats, whose white nobody knows.
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(source, bytes):
        data, name = source, name or f"{len(source)} bytes"
    else:
        data, name = read_bytes(Path(source)), name or str(source)
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _eight_bits(image, name).convert("RGB")
    except UnidentifiedImageError as error:
        what = "an empty file" if not data else "a file that is no image"
        raise DamagedImage(f"found {what} at {name}; expected an image; replace it") from error
    except (
        OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error,
        Image.DecompressionBombError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedImage(
            f"found a damaged image at {name} ({reason}); expected a whole one; replace it"
        ) from error


def _eight_bits(image: Image, name: str) -> Image:
    """The image with 8 bits per channel: PIL's own conversion clips wider pixels to white."""
    from PIL import Image as pil

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        # Older Pillows read 16-bit PNG in mode I, newer ones in I;16.
        return pil.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        what = "32-bit integers" if image.mode == "I" else "floating-point numbers"
        raise DamagedImage(
            f"found pixels of mode {image.mode} ({what}) at {name}; expected 8 or 16 bits per "
            "channel; convert it"
        )
    return image


def read_bytes(path: Path) -> bytes:
    """A file's bytes; DamagedImage names one that is missing."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise DamagedImage(f"found no file at {path}; expected an image") from error


def decode(source: Path | str | bytes) -> np.ndarray:
    """Pixels of an image file: uint8 (H, W, 3) in 0..255, RGB. Errors as ``open_image``."""
    return np.array(open_image(source))


def resize(image: Image | np.ndarray, size: Sequence[int], filter: str) -> np.ndarray:
    """Resize to ``size`` = (H, W) with PIL's antialiased ``filter``: uint8 (H, W, 3).

    ``image`` is uint8 (h, w, 3) or a PIL image. Bit-equal to ``PIL.Image.resize``, which the
    published pipelines use; other libraries differ by up to 5 levels.
    """
    from PIL import Image

    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    if filter not in filters:
        raise ReidpipeError(
            f"found resize filter '{filter}'{nearest(filter, filters)}; "
            f"expected one of {', '.join(filters)}"
        )
    height, width = size
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    return np.asarray(picture.resize((width, height), filters[filter]))
