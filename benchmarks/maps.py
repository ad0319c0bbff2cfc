"""Label maps written as ``parse`` does and read as training does, CPU seconds of all threads.

    OMP_NUM_THREADS=1 python -m benchmarks.maps --maps 2048 --rounds 5

The maps are those of schp-tiny on drawn people, 256 x 128, each stored under many keys. Written:
findings, one-class guard, packing (two threads, as on a CPU), shards and their check, less the
network. Read: from a folder just opened, in random order, by its reader, which gives confidence in
0..1, and by the training set, which keeps both as bytes.
Beside them what cannot be passed: zlib's packing and unpacking of the same maps with their
checksums, and h5py's own way, which opens both datasets for every map.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.parsing import drawn_people
from benchmarks.row import Row
from parsing_models import load_parser, work
from parsing_models.parsers.device_checks import OneClassGuard
from parsing_models.parsers.interface import LabelMaps
from pipeline.datasets.index import ImageRow
from pipeline.images.pixels import decode
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.missing import Missing
from pipeline.labels.sets import LIP
from pipeline.labels.shards import CONFIDENCE_STEPS
from pipeline.labels.writing import SHARD_IMAGES, MapWriter

READ_GOAL, WRITTEN_GOAL = 6_000, 3_000
DISTINCT = 64  # maps that differ; a multiple of the parser's batch
BATCH = 64  # of a training


def main() -> None:
    """Print maps a second of each way, and the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maps", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for name, rate in measured(options.maps, options.rounds).items():
        print(f"{name:42} {rate:9.0f} maps per CPU second")


def rows() -> Iterator[Row]:
    """Written and read, in the small form."""
    rates = measured(1024, 3)
    for work_done, goal, limit in (
        ("read by training", READ_GOAL, "unpacked by zlib alone"),
        ("written by parse", WRITTEN_GOAL, "packed by zlib alone"),
    ):
        yield Row(
            f"label maps {work_done}",
            rates[work_done],
            "maps a second",
            "(CPU seconds of one thread)",
            f"{goal:,}",
            f"{limit}: {rates[limit]:,.0f}",
            None,
        )


def measured(count: int, rounds: int) -> dict[str, float]:
    """Maps per CPU second of each way, the ways in turn; the median over the rounds after the
    first, which fills caches and is not counted.
    """
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        stored = Stored(Path(name), count)
        for number in range(rounds + 1):
            for way, run in stored.ways().items():
                started = time.process_time()
                run()
                if number:
                    seconds.setdefault(way, []).append(time.process_time() - started)
    return {way: count / statistics.median(taken) for way, taken in seconds.items()}


class Stored:
    """Maps in memory, and a folder that has them."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder / "maps"
        index = drawn_people(folder / "people", DISTINCT)
        images = [decode(index.original(row)) for row in index.rows[:DISTINCT]]
        made = load_parser("schp-tiny").parse(images, work.GRID)
        self.label, self.confidence = np.asarray(made.label), np.asarray(made.confidence)
        self.steps = np.rint(self.confidence * CONFIDENCE_STEPS).astype(np.uint8)
        self.image = images[0]
        first = index.rows[0]
        self.rows = [
            ImageRow(key, key, "train", 1, 0, None, "", None, 64, 128, first.digest)
            for key in (f"train/{number:07}.png" for number in range(count))
        ]
        self.placed = Missing(self.rows, (), (), SHARD_IMAGES)
        self.order = [row.key for row in self.rows]
        random.Random(0).shuffle(self.order)
        self.packed = [
            tuple(zlib.compress(plane.tobytes(), 1) for plane in pair)
            for pair in zip(self.label, self.steps, strict=True)
        ]
        self.turn = 0

    def ways(self) -> dict[str, Callable[[], Any]]:
        return {
            "written by parse": self.write,
            "written by the writer alone": self.write_alone,
            "packed by zlib alone": self.pack,
            "read by the reader": self.read,
            "read by training": self.train,
            "unpacked by zlib alone": self.unpack,
            "read by h5py, datasets opened anew": self.read_plainly,
        }

    def _writer(self) -> MapWriter:
        self.turn += 1
        return MapWriter(self.folder / str(self.turn), LIP, {}, work.GRID)

    def write(self) -> None:
        with self._writer() as writer, ThreadPoolExecutor(2) as files:
            guard = OneClassGuard(LIP, "cpu", self.folder)
            for start in range(0, len(self.rows), work.BATCH):
                some = self.placed[start : start + work.BATCH]
                place = slice(start % DISTINCT, start % DISTINCT + len(some))
                maps = LabelMaps(self.label[place], self.confidence[place])
                work._store(writer, guard, some, [self.image] * len(some), maps, files)

    def write_alone(self) -> None:
        with self._writer() as writer:
            for place, row in enumerate(self.rows):
                writer.add(
                    row.key, self.label[place % DISTINCT], self.confidence[place % DISTINCT],
                    source_size=(128, 64), source_digest=row.digest,
                )  # fmt: skip

    def pack(self) -> None:
        for place in range(len(self.rows)):
            for planes in (self.label, self.steps):
                zlib.compress(planes[place % DISTINCT].data, 1)
            zlib.crc32(self.label[place % DISTINCT].data)

    def read(self) -> None:
        reader = LabelMapReader(self.folder / str(self.turn))
        for key in self.order:
            reader[key]

    def train(self) -> None:
        from reid_train.data.dataset import TrainingSet

        data = TrainingSet(NoImages(), self.rows, maps=LabelMapReader(self.folder / str(self.turn)))  # type: ignore[arg-type]
        order = np.random.default_rng(0).permutation(len(self.rows))
        for start in range(0, len(order), BATCH):
            data.stored_maps(order[start : start + BATCH])

    def unpack(self) -> None:
        for place in range(len(self.rows)):
            for data in self.packed[place % DISTINCT]:
                found = zlib.decompress(data, bufsize=self.label[0].size)
            zlib.crc32(found)

    def read_plainly(self) -> None:
        shards = sorted((self.folder / str(self.turn)).glob("*.h5"))
        opened = [h5py.File(path) for path in shards]
        for key in self.order:
            number, row = divmod(int(key[6:13]), 256)
            file: Any = opened[number]
            for name in ("label", "confidence"):
                file[name][row].tobytes()
        for file in opened:
            file.close()


class NoImages:
    """Stands where packed pixels would, of which maps read nothing but the size."""

    size = work.GRID

    def row(self, key: str) -> int:
        del key
        return 0


if __name__ == "__main__":
    main()
