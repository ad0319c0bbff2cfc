"""Images: decoded by content, resized as PIL does."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.images.appearance import Shown, UnknownRange, as_seen, as_stored
from pipeline.images.decoding import Decoding
from pipeline.images.jpeg import plain_jpeg
from pipeline.images.originals import DamagedImage, Original, read_bytes
from pipeline.terminal.errors import ReidpipeError, nearest

if TYPE_CHECKING:
    from PIL.Image import Image

# An image of an index is read as it was indexed, or not at all.
Source = Path | str | bytes | Original
# What PIL decodes by itself. EPS and PDF, which it hands to other programs, are no photographs,
# whatever a file is called.
FORMATS = frozenset({
    "AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "SGI", "TGA",
    "TIFF", "WEBP",
})  # fmt: skip


def known_formats() -> list[str]:
    """Those of ``FORMATS`` that this PIL knows, in the order in which it tries them."""
    from PIL import Image

    Image.init()
    return [name for name in Image.ID if name in FORMATS]


def read_image(
    source: Source,
    name: str | None = None,
    *,
    decoding: Decoding = "as-seen",
) -> Shown:
    """Decode ``source`` (a path, a file's bytes or an image of an index) completely: the image in
    mode RGB, and words about what was done to it. The only decoder of photographs there is.

    The format is found from the content, never from the suffix. decoding: ``as-seen``, as in an
    image viewer; ``as-stored``, as the loaders of published datasets do (both in
    ``pipeline.images.appearance``). Images of a dataset are decoded as it says, in
    ``Index.decoding``; files that a person names, as seen.
    Raises DamagedImage, which names the path (or ``name`` when bytes are given), also for pixels of
    32-bit integers or floats, whose white nobody knows; ChangedImage for an image of an index that
    is another than the one that was indexed.
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(source, bytes):
        data, name = source, name or f"{len(source)} bytes"
    elif isinstance(source, Original):
        data, name = source.read(), name or str(source.path)
    else:
        data, name = read_bytes(Path(source)), name or str(source)
    if (pixels := plain_jpeg(data)) is not None:
        return Shown(Image.fromarray(pixels), ())
    try:
        with Image.open(io.BytesIO(data), formats=known_formats()) as image:
            return as_seen(image, data) if decoding == "as-seen" else as_stored(image)
    except UnidentifiedImageError as error:
        what = "an empty file" if not data else "a file that is no image"
        raise DamagedImage(f"found {what} at {name}; expected an image; replace it") from error
    except UnknownRange as error:
        raise DamagedImage(
            f"found {error} at {name}; expected 8 or 16 bits per channel; convert it"
        ) from error
    except (
        OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error,
        Image.DecompressionBombError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedImage(
            f"found a damaged image at {name} ({reason}); expected a whole one; replace it"
        ) from error


def read_size(
    data: bytes, name: str, *, decoding: Decoding = "as-seen"
) -> tuple[int, int, tuple[str, ...]]:
    """Width and height of ``read_image``'s image of a file's bytes, and its words: everything is
    decoded, and what only a reader of pixels needs left out. Raises as that does.
    """
    if (pixels := plain_jpeg(data)) is not None:
        return pixels.shape[1], pixels.shape[0], ()
    image, told = read_image(data, name, decoding=decoding)
    return image.width, image.height, told


def open_image(
    source: Source,
    name: str | None = None,
    *,
    decoding: Decoding = "as-seen",
) -> Image:
    """The image of ``read_image``, in mode RGB."""
    return read_image(source, name, decoding=decoding).image


def decode(source: Source, *, decoding: Decoding = "as-seen") -> np.ndarray:
    """Pixels of an image file: uint8 (H, W, 3) in 0..255, RGB. Otherwise as ``read_image``."""
    return np.array(open_image(source, decoding=decoding))


def resize(image: Image | np.ndarray, size: Sequence[int], filter: str) -> np.ndarray:
    """Resize to ``size`` = (H, W) with PIL's antialiased ``filter``: uint8 (H, W, 3).

    ``image`` is uint8 (h, w, 3) or a PIL image of mode RGB. Bit-equal to ``PIL.Image.resize``,
    which the published pipelines use; other libraries differ by up to 5 levels.
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
    resized = picture.resize((width, height), filters[filter])
    # Half the time of what numpy asks of PIL's images.
    return np.frombuffer(resized.tobytes(), np.uint8).reshape(height, width, 3)
