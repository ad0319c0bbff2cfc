"""Images: decode by content, resize as PIL does, pack into one array that is read by memory map."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import atomic
from pipeline.errors import ReidpipeError, nearest
from pipeline.index import ImageRow, read_index
from pipeline.processes import spread

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipeline.steps import Job

PIXELS = "pixels.npy"
KEYS = "keys.json"
# A process takes about as long to start as these many images take to decode and resize.
WORTHWHILE = 1000


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


def pack(job: Job) -> dict[str, Any]:
    """Worker of step "images": all images of an index, decoded and resized once.

    ``job.inputs["index"]`` holds the index, ``job.params`` ``size`` [H, W] and ``filter``.
    Writes ``pixels.npy`` uint8 (n, H, W, 3) RGB in row order and ``keys.json``.
    With remote dask workers the folder must lie on a shared file system.
    Raises DamagedImage for an image that cannot be decoded, ReidpipeError for one that changed
    since it was indexed, OSError when the disk is full (no part of the array stays behind).
    """
    index = read_index(job.inputs["index"])
    height, width = (int(edge) for edge in job.params["size"])
    filter = job.params["filter"]
    if not index.rows:
        raise ReidpipeError(
            f"found no image in the index of {index.dataset}; "
            f"type `reidpipe prepare {index.dataset} --root DIR`"
        )
    count = len(index.rows)
    with atomic.replacing(job.folder / PIXELS) as temporary:
        start = _reserve(temporary, (count, height, width, 3))
        work = partial(
            _pack_rows,
            root=index.root, pixels=temporary, start=start, size=(height, width), filter=filter,
        )  # fmt: skip
        spread(
            work,
            list(enumerate(index.rows)),
            workers=job.workers,
            scheduler=job.scheduler,
            chunk=64,
            worthwhile=WORTHWHILE,
            progress="pack" if job.progress else None,
        )
    keys = [row.key for row in index.rows]
    about = {"keys": keys, "size": [height, width], "filter": filter}
    atomic.write_json(job.folder / KEYS, about)
    return {
        "dataset": index.dataset, "images": count, "size": [height, width], "filter": filter,
        "bytes": count * height * width * 3,
    }  # fmt: skip


def _reserve(path: Path, shape: tuple[int, ...]) -> int:
    # The disk blocks are claimed now: a write through a memory map on a full disk would kill the
    # process with SIGBUS, and a write at the end would fail after all the work.
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        start = file.tell()
        total = start + int(np.prod(shape, dtype=np.int64))
        file.flush()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, total)
        else:
            file.truncate(total)
    return start


def _pack_rows(
    items: list[tuple[int, ImageRow]],
    *,
    root: Path,
    pixels: Path,
    start: int,
    size: tuple[int, int],
    filter: str,
) -> list[None]:
    block = np.empty((len(items), *size, 3), np.uint8)
    for place, (_, row) in enumerate(items):
        path = root / row.path
        data = read_bytes(path)
        if hashlib.sha256(data).hexdigest() != row.digest:
            raise ReidpipeError(
                f"found other bytes in {path} than when it was indexed; "
                "expected an unchanged dataset; type `reidpipe prepare DATASET` again"
            )
        block[place] = resize(open_image(data, str(path)), size, filter)
    with pixels.open("r+b") as file:
        file.seek(start + items[0][0] * block[0].nbytes)
        file.write(block.data)
    return [None] * len(items)


@dataclass(frozen=True)
class PackedImages:
    """Reader of what ``pack`` wrote; the pixels are mapped on first use and never loaded whole.

    ``size`` is (H, W), ``filter`` the resize filter's name, ``keys`` the index keys in row order.
    """

    folder: Path
    keys: list[str]
    size: tuple[int, int]
    filter: str

    @classmethod
    def open(cls, folder: Path | str) -> PackedImages:
        """Open a folder written by ``pack``; ReidpipeError when it holds none."""
        folder = Path(folder)
        if not (folder / KEYS).is_file() or not (folder / PIXELS).is_file():
            raise ReidpipeError(
                f"found no packed images in {folder}; expected {PIXELS} and {KEYS}; "
                "type `reidpipe cache verify`"
            )
        about = atomic.read_json(folder / KEYS)
        height, width = about["size"]
        return cls(folder, about["keys"], (height, width), about["filter"])

    @cached_property
    def pixels(self) -> np.ndarray:
        """uint8 (n, H, W, 3) in 0..255, RGB: a read-only memory map."""
        array = np.load(self.folder / PIXELS, mmap_mode="r")
        if array.shape != (len(self.keys), *self.size, 3) or array.dtype != np.uint8:
            raise ReidpipeError(
                f"found {array.dtype} {array.shape} in {self.folder / PIXELS}; expected uint8 "
                f"{(len(self.keys), *self.size, 3)}; type `reidpipe cache verify`"
            )
        return array

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {key: place for place, key in enumerate(self.keys)}

    def row(self, key: str) -> int:
        """Row number of an index key; ReidpipeError names a key that is not packed."""
        if key not in self._rows:
            raise ReidpipeError(
                f"found no image '{key}' in {self.folder}{nearest(key, self.keys[:2000])}; "
                "expected a key of the index it was packed from"
            )
        return self._rows[key]

    def __len__(self) -> int:
        return len(self.keys)

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the file itself instead of receiving a copy of the pixels.
        return (PackedImages.open, (self.folder,))
