"""Whole commands on 2,000 to 128,000 files: CPU time and memory, a process for each.

    python -m benchmarks.scale                                     # 512 to 128,000, half an hour
    python -m benchmarks.scale --sizes 1000000 --phases prepare again rows shards
    python -m docs.building.scale                                  # the page, from what is measured

Every file has bytes of its own: a PNG of 16 x 8 pixels with its number behind its end, so that
decoding is nearly free and reading, hashing and bookkeeping are what costs. Half of the files are
for training (16 of a person, 8 cameras), 200 are queries, the rest is the gallery. Networks are
the smallest there are at 32 x 16 pixels; maps (256 x 128) are stripes, by a parser without a
network. Two keep books without any image: "rows" of an index and of packed pixels; "shards" writes
maps of 16 x 8 through the cache's writer, opens them as a parse that goes on does, and reads 2,000
of them here and there.

Each phase is a command as it is typed. CPU seconds and the largest memory are the kernel's figures
for the process and all it waited for (wait4); memory of its own is RssAnon of
/proc/PID/status, sampled every 10 ms: pages of mapped files (packed pixels, features) are the
system's. The smallest size tells what imports and the network cost; it is taken away before a line
is fitted. A line of JSON is written as each measurement ends, so a run that is cut short is a
result, and ``--keep`` goes on with files that are there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LEAST = 512  # files of the dataset that tells what does not depend on their number
SIZES = (LEAST, 2_000, 8_000, 32_000, 128_000)
PER_PERSON, CAMERAS, QUERIES = 16, 8, 200
PROJECT = Path(__file__).resolve().parents[1]
SET = ["--set", "input.size=[32,16]"]
# Everything that a command needs is made by the phases before it.
PHASES = (
    "prepare", "again", "parse", "resumed", "rows", "shards", "train", "eval", "embed", "search",
)  # fmt: skip
BOOKS = ("rows", "shards")  # which need no file
AT_RANDOM = 2_000
MANIFEST = """\
id: scale
title: Tiny images
year: 2026
kind: reid
policy: manual
licence: none
citation: []
notice: Drawn by benchmarks/scale.py.
layouts:
  - name: scale
    requires: [train, query, gallery]
    rule: '^(?P<pid>\\d+)_c(?P<camid>\\d)_(?P<frame>\\d+)\\.png$'
    sources:
      - {split: train, folder: train}
      - {split: query, folder: query}
      - {split: gallery, folder: gallery}
camid_base: 1
"""


@dataclass(frozen=True)
class Place:
    """The files of one size: images, workspace, manifest, gallery."""

    folder: Path

    @property
    def images(self) -> Path:
        return self.folder / "images"

    def command(self, phase: str) -> list[str]:
        """What is typed in the folder."""
        if phase in BOOKS:
            book = [sys.executable, "-m", "benchmarks.scale", "--book", phase, "--sizes"]
            return [*book, self.folder.name]
        words = {
            "prepare": [
                "prepare", "./scale.yaml", "--root", "images", "--size", "32x16", "--workers", "1",
                "--filter", "bilinear",
            ],
            "parse": ["parse", "./scale.yaml", "--model", "stripes", "--workers", "1"],
            "train": [
                "train", "baseline-tiny", "--dataset", "./scale.yaml", *SET, "--set",
                "stages.image.epochs=1", "--set", "stages.image.data.ids=4", "--set",
                f"stages.image.data.images_per_id={PER_PERSON}", "--device", "cpu",
            ],
            "eval": ["eval", "--device", "cpu"],
            "embed": ["embed", self.run(), "images", "--out", "gallery", "--device", "cpu"],
            "search": ["search", self.run(), self.query(), "gallery", "--device", "cpu"],
        }  # fmt: skip
        words["again"], words["resumed"] = words["prepare"], words["parse"]
        return [*self.program(), *words[phase]]

    def program(self) -> list[str]:
        plugin = PROJECT / "docs" / "examples" / "stripes.py"
        return [sys.executable, "-m", "reid_train", "--plugin", str(plugin), "--workspace", "made"]

    def run(self) -> str:
        return next((path.name for path in (self.folder / "made" / "runs").glob("*")), "")

    def query(self) -> str:
        path = next((self.images / "query").rglob("*.png"))
        return path.relative_to(self.folder).as_posix()

    def before(self, phase: str) -> None:
        """What is taken away before a phase is measured: a parse goes on as if it was killed just
        before its end; what else was made is made again.
        """
        made = {"prepare": ("index", "images"), "parse": ("maps",), "train": ("model",)}
        for step in made.get(phase, ("evaluation",) if phase == "eval" else ()):
            shutil.rmtree(self.folder / "made" / "artifacts" / step, ignore_errors=True)
        if phase == "train":
            shutil.rmtree(self.folder / "made" / "runs", ignore_errors=True)
        if phase in BOOKS:
            shutil.rmtree(self.folder / phase, ignore_errors=True)
        if phase == "embed":
            shutil.rmtree(self.folder / "gallery", ignore_errors=True)
        if phase == "resumed":
            for mark in (self.folder / "made" / "artifacts" / "maps").glob("*/artifact.json"):
                mark.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES)
    parser.add_argument("--out", type=Path, default=Path("scale.jsonl"), help="lines are added")
    parser.add_argument("--folder", type=Path, help="for the files  [default: a temporary one]")
    parser.add_argument("--keep", action="store_true", help="files of a size stay when it is done")
    parser.add_argument("--book", choices=BOOKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.book:
        {"rows": keep_rows, "shards": keep_maps}[options.book](Path(options.book), options.sizes[0])
        return
    with tempfile.TemporaryDirectory() as temporary:
        for images in options.sizes:
            place = Place((options.folder or Path(temporary)).resolve() / str(images))
            place.folder.mkdir(parents=True, exist_ok=True)
            if not set(options.phases) <= set(BOOKS):
                draw(place, images)
            for phase in options.phases:
                place.before(phase)
                line = {"phase": phase, "images": images, **measured(place.command(phase), place)}
                line |= {"mib_on_disk": on_disk(place.folder), **machine()}
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(told(line), flush=True)
            if not options.keep:
                shutil.rmtree(place.folder)


def keep_rows(folder: Path, images: int) -> None:
    """An index without its images: rows made from what a tree and decoding tell, checked, written,
    read, and the keys of the packed pixels written, read and looked up.
    """
    from pipeline.artifacts import atomic
    from pipeline.datasets.check import check_rows
    from pipeline.datasets.index import Index, read_index, write_index
    from pipeline.datasets.layouts.rows import LayoutRow
    from pipeline.datasets.work import Found, Measured, _index_rows
    from pipeline.images.packed import KEYS, PIXELS, PackedImages

    found = []
    for number, path in enumerate(paths(images)):
        person, camera = number // PER_PERSON, number % CAMERAS
        found.append(LayoutRow(path, path.split("/")[0], person, camera, frame=number))
    facts = (Measured(8, 16, f"{number:064x}", "") for number in range(images))
    rows = _index_rows(found, facts, Found())
    write_index(folder, Index("scale", Path("/images"), rows))
    assert check_rows(rows).images == images
    del rows, found
    index = read_index(folder)
    atomic.write_json(
        folder / KEYS,
        {"keys": [row.key for row in index.rows], "size": [32, 16], "filter": "bilinear"},
    )
    (folder / PIXELS).touch()
    packed = PackedImages.open(folder)
    assert [packed.row(row.key) for row in index.rows[::1000]] == [*range(0, images, 1000)]


def keep_maps(folder: Path, images: int) -> None:
    """Maps through the cache's writer, their outcomes as a parse that goes on counts them, and
    ``AT_RANDOM`` of them read.
    """
    import random

    import numpy as np

    from parsing_models.bodies import MEANING
    from parsing_models.outcomes import Outcomes
    from pipeline.labels.maps import LabelMapReader
    from pipeline.labels.sets import LIP
    from pipeline.labels.shards import NOTES
    from pipeline.labels.writing import MapWriter

    shutil.rmtree(folder, ignore_errors=True)
    sure = np.ones((16, 8), np.float32)
    with MapWriter(folder, LIP, {NOTES: MEANING}, sure.shape) as writer:
        for number, key in enumerate(paths(images)):
            label = np.full(sure.shape, number % 8, np.uint8)
            digest = f"{number:064x}"
            writer.add(key, label, sure, source_size=(16, 8), source_digest=digest, note=0)
    del writer
    maps, outcomes = LabelMapReader(folder), Outcomes()
    outcomes.add_stored(maps)
    assert outcomes.stored == images
    chosen = random.Random(0)
    keys = [key for key in maps if chosen.random() < 2 * AT_RANDOM / images]
    chosen.shuffle(keys)
    for number in range(AT_RANDOM):
        maps[keys[number % len(keys)]]


def told(line: dict) -> str:
    return (
        f"{line['phase']:8} {line['images']:8} images {line['cpu']:8.2f} CPU s "
        f"{line['wall']:8.1f} s {line['own_mib']:7.0f} MiB of its own, "
        f"{line['peak_mib']:7.0f} MiB with mapped files"
    )


def draw(place: Place, images: int) -> None:
    """Write the tree of ``images`` files, unless it is there whole."""
    done = place.folder / "drawn"
    if done.is_file():
        return
    shutil.rmtree(place.folder, ignore_errors=True)
    place.folder.mkdir(parents=True)
    (place.folder / "scale.yaml").write_text(MANIFEST, encoding="utf-8")
    pictures = [picture(number) for number in range(64)]
    for number, path in enumerate(paths(images)):
        path = place.images / path
        if not number % PER_PERSON or not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        # Decoders stop at the end of a picture: what follows makes the file's bytes its own.
        path.write_bytes(pictures[number % len(pictures)] + number.to_bytes(8, "big"))
    done.touch()


def paths(images: int) -> Iterator[str]:
    """Half for training; of the others' people 200 queries at most, the rest the gallery."""
    queries = min(QUERIES, images // 8)
    trained = images // 2 // PER_PERSON * PER_PERSON  # nobody is in both
    for number in range(images):
        person, camera = 1 + number // PER_PERSON, 1 + number % CAMERAS
        split = "train"
        if number >= trained:
            # a query per person, from the last people on, as far as there are people
            of_person = number % PER_PERSON == 0
            split = (
                "query" if of_person and (images - number) // PER_PERSON < queries else "gallery"
            )
        yield f"{split}/{person:07}/{person:07}_c{camera}_{number:08}.png"


def picture(number: int) -> bytes:
    import io

    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(number).integers(0, 256, (16, 8, 3), dtype=np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG")
    return held.getvalue()


def measured(words: Sequence[str], place: Place) -> dict[str, float]:
    """Run a command in its folder; its CPU and clock seconds, and memory in MiB."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(threads, "1"), "PYTHONPATH": str(PROJECT)}
    started, own = time.perf_counter(), 0
    with (place.folder / "output.txt").open("wb") as output:
        child = subprocess.Popen(
            words, cwd=place.folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        while True:
            own = max(own, resident(child.pid))
            pid, status, used = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            time.sleep(0.01)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        print((place.folder / "output.txt").read_text(errors="replace")[-3000:])
        raise SystemExit(f"{' '.join(words)} ended with {child.returncode}")
    return {
        "cpu": round(used.ru_utime + used.ru_stime, 2),
        "wall": round(time.perf_counter() - started, 1),
        "own_mib": round(own / 1024, 1),
        "peak_mib": round(used.ru_maxrss / 1024, 1),
    }


def resident(process: int) -> int:
    """Anonymous memory in KiB of a process; 0 of one that has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return next((int(li.split()[1]) for li in status.splitlines() if li.startswith("RssAnon")), 0)


def on_disk(folder: Path) -> dict[str, float]:
    """MiB of each step's artifacts and of the gallery, by name."""
    places = [*(folder / "made" / "artifacts").glob("*"), folder / "gallery"]
    return {
        place.name: round(sum(f.stat().st_size for f in place.rglob("*") if f.is_file()) / 2**20, 2)
        for place in sorted(places)
        if place.is_dir()
    }


def machine() -> dict[str, str | int]:
    about = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((li.partition(":")[2].strip() for li in about if li.startswith("model name")), "")
    number = next((li.partition(":")[2].strip() for li in about if li.startswith("model\t")), "")
    return {
        "processor": f"{model or platform.processor()}, model {number}",
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        "day": time.strftime("%Y-%m-%d"),
    }


if __name__ == "__main__":
    main()
