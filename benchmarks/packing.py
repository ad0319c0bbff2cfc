"""Index and packing of JPEGs 128 x 64 to 256 x 128, one process, CPU seconds.

    OMP_NUM_THREADS=1 python -m benchmarks.packing --images 1024 --rounds 5

Index: every file read, decoded whole and hashed (``pipeline.datasets.work``). Packing: every file
read again, compared with its digest, decoded, resized (bicubic, to the bit as PIL) and written
(``pipeline.images.work``). This is done once per dataset; beside it the usual training transform,
which decodes and resizes in every epoch: PIL, then torchvision's flip, pad, crop, normalisation and
erasing. What cannot be passed is PIL's own share: both decodings and the resize, bytes in memory.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.parsing import drawn_people
from benchmarks.row import Row
from pipeline.datasets.index import ImageRow
from pipeline.datasets.work import _measure
from pipeline.images.work import _pack_rows, _reserve

SIZE, SMALL = (256, 128), (128, 64)
GOAL = 1_200
DISTINCT = 64  # images that differ
CHUNK = 64


def main() -> None:
    """Print images a second of each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for name, rate in measured(options.images, options.rounds).items():
        print(f"{name:42} {rate:9.0f} images per CPU second")


def rows() -> Iterator[Row]:
    """Index and packing together, in the small form."""
    rates = measured(512, 3)
    yield Row(
        "index and packing of JPEGs 128x64 to 256x128",
        rates["index and packing"],
        "images a second",
        f"(CPU seconds; the usual transform reads {rates['usual transform, every epoch']:.0f})",
        f"{GOAL:,}",
        f"PIL's two decodings and its resize alone: {rates['PIL alone']:,.0f}",
        None,
    )


def measured(count: int, rounds: int) -> dict[str, float]:
    """Images per CPU second of each way, the ways in turn; the median over the rounds after the
    first, which is not counted.
    """
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        files = Files(Path(name), count)
        for number in range(rounds + 1):
            for way, run in files.ways().items():
                started = time.process_time()
                run()
                if number:
                    seconds.setdefault(way, []).append(time.process_time() - started)
    rates = {way: count / statistics.median(taken) for way, taken in seconds.items()}
    both = 1 / rates["index"] + 1 / rates["packing"]
    return {"index and packing": 1 / both, **rates}


class Files:
    """JPEGs of drawn people in a folder."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        index = drawn_people(folder / "people", DISTINCT)
        some = []
        for row in index.rows[:DISTINCT]:
            held = io.BytesIO()
            with Image.open(index.root / row.path) as image:
                image.convert("RGB").save(held, "JPEG", quality=95, subsampling="4:2:0")
            some.append(held.getvalue())
        (folder / "jpeg").mkdir()
        self.paths = [f"jpeg/{number:07}.jpg" for number in range(count)]
        self.bytes = [some[number % DISTINCT] for number in range(count)]
        for path, data in zip(self.paths, self.bytes, strict=True):
            (folder / path).write_bytes(data)
        self.rows: list[ImageRow] = []
        self.pixels = folder / "pixels.npy"

    def ways(self) -> dict[str, Callable[[], Any]]:
        return {
            "index": self.index,
            "packing": self.pack,
            "PIL alone": self.alone,
            "PIL decoding alone": self.decode,
            "usual transform, every epoch": self.usual,
        }

    def index(self) -> None:
        found = []
        for start in range(0, len(self.paths), CHUNK):
            some = self.paths[start : start + CHUNK]
            found += _measure(some, root=self.folder, decoding="as-stored")
        self.rows = [
            ImageRow(
                path, path, "train", 1, 0, None, "", None, fact.width, fact.height, fact.digest
            )
            for path, fact in zip(self.paths, found, strict=True)
        ]

    def pack(self) -> None:
        start = _reserve(self.pixels, (len(self.rows), *SIZE, 3))
        numbered = list(enumerate(self.rows))
        for place in range(0, len(numbered), CHUNK):
            _pack_rows(
                numbered[place : place + CHUNK], root=self.folder, pixels=self.pixels, start=start,
                size=SIZE, filter="bicubic", decoding="as-stored",
            )  # fmt: skip

    def alone(self) -> None:
        for data in self.bytes:
            Image.open(io.BytesIO(data)).load()
            Image.open(io.BytesIO(data)).resize((SIZE[1], SIZE[0]), Image.Resampling.BICUBIC)

    def decode(self) -> None:
        for data in self.bytes:
            Image.open(io.BytesIO(data)).load()

    def usual(self) -> None:
        change = usual_transform()
        for path in self.paths:
            with Image.open(self.folder / path) as image:
                change(image.convert("RGB"))


def usual_transform() -> Callable[[Image.Image], Any]:
    """What person re-identification usually does to an image that it trains on."""
    from torchvision import transforms as T

    return T.Compose(
        [
            T.Resize(SIZE, T.InterpolationMode.BICUBIC),
            T.RandomHorizontalFlip(),
            T.Pad(10),
            T.RandomCrop(SIZE),
            T.ToTensor(),
            T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            T.RandomErasing(),
        ]
    )


if __name__ == "__main__":
    main()
