"""Worker of step "images": all images of an index, decoded, resized and packed."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.artifacts import atomic
from pipeline.artifacts.processes import spread
from pipeline.datasets.index import ImageRow, read_index
from pipeline.images.decoding import Decoding, decoding_of
from pipeline.images.originals import Original
from pipeline.images.packed import KEYS, PIXELS
from pipeline.images.pixels import open_image, resize
from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Job


# A process takes about as long to start as these many images take to decode and resize.
WORTHWHILE = 1000


def pack(job: Job) -> dict[str, Any]:
    """Worker of step "images": all images of an index, decoded and resized once.

    ``job.inputs["index"]`` holds the index, ``job.params`` ``size`` [H, W], ``filter``
    and, where images are not decoded as stored, ``decoding``.
    Writes ``pixels.npy`` uint8 (n, H, W, 3) RGB in row order and ``keys.json``.
    With remote dask workers the folder must lie on a shared file system.
    Raises DamagedImage for an image that cannot be decoded, ChangedImage for one that changed
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
            decoding=decoding_of(job.params),
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
    decoding: Decoding,
) -> list[None]:
    block = np.empty((len(items), *size, 3), np.uint8)
    for place, (_, row) in enumerate(items):
        image = open_image(Original(root / row.path, row.digest), decoding=decoding)
        block[place] = resize(image, size, filter)
    with pixels.open("r+b") as file:
        file.seek(start + items[0][0] * block[0].nbytes)
        file.write(block.data)
    return [None] * len(items)
