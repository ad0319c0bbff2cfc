"""A gallery of many random rows: built, opened and searched, in processes of their own.

    python -m benchmarks.search                        # 1,000,000 rows of 512, one thread and two
    python -m benchmarks.search --rows 100000 --through faiss

Rows are random normal numbers, written through the gallery's writer in blocks; names are those of
files in folders. Times are seconds on the clock, the CPU seconds of the process behind them. Memory
is the process's own (RssAnon of /proc/self/status, sampled every 5 ms): pages of the mapped file
belong to the system, which takes them back when it needs them, and are listed apart (RssFile). Each
search is timed twice: the first reads all rows for their norms and, on a cold machine, from the
disk.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reid_train.search.about import About
from reid_train.search.gallery import open_gallery
from reid_train.search.nearest import ROWS
from reid_train.search.writing import write_gallery

QUERIES = (1, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description="a large gallery, built and searched")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--top", type=int, default=10)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--through", default="numpy", help="numpy or faiss")
    parser.add_argument("--folder", type=Path, help="where to write  [default: a temporary one]")
    parser.add_argument("--part", choices=["build", "search"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "build":
        build(options)
    elif options.part == "search":
        search(options)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.folder or Path(temporary) / "gallery"
            again(options, folder, "build", 1)
            for threads in options.threads:
                again(options, folder, "search", threads)


def again(options: argparse.Namespace, folder: Path, part: str, threads: int) -> None:
    words = [sys.executable, "-m", "benchmarks.search", "--part", part, "--folder", str(folder)]
    words += [f"--{name}={getattr(options, name)}" for name in ("rows", "dims", "top", "through")]
    print(f"{part}, {threads} thread{'s' if threads > 1 else ''}", flush=True)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    subprocess.run(words, env={**os.environ, **dict.fromkeys(names, str(threads))}, check=True)


def build(options: argparse.Namespace) -> None:
    names = [f"{row // 1000:04d}/{row:07d}.jpg" for row in range(options.rows)]
    about = About(
        names=names,
        model_key="0" * 20,
        flip=False,
        normalise=True,
        folders=["/photos"],
        folder=[0 for _ in names],
        sha256=[f"{row:064x}" for row in range(len(names))],
    )

    def blocks() -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for start in range(0, options.rows, ROWS):
            count = min(ROWS, options.rows - start)
            yield rng.standard_normal((count, options.dims), np.float32)

    measured("  drawing the rows alone", lambda: [None for _ in blocks()])
    measured("  drawing and writing", lambda: write_gallery(options.folder, about, blocks()))


def search(options: argparse.Namespace) -> None:
    gallery = measured("  opening", lambda: open_gallery(options.folder))
    rng = np.random.default_rng(1)
    for count in QUERIES:
        query = rng.standard_normal((count, options.dims), np.float32)
        for turn in ("first", "again"):
            measured(
                f"  {count} queries, {turn}",
                lambda query=query: gallery.search(query, top=options.top, through=options.through),
            )


def measured(what: str, task: Callable[[], Any]) -> Any:
    before, peak, done = resident("RssAnon"), [0.0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], resident("RssAnon"))
            done.wait(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    clock, cpu = time.perf_counter(), time.process_time()
    result = task()
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    done.set()
    watcher.join()
    more = max(peak[0], resident("RssAnon")) - before
    print(
        f"{what:28s} {clock:7.2f} s ({cpu:6.2f} CPU s), {more:6.0f} MiB more of its own, "
        f"{resident('RssFile'):6.0f} MiB mapped"
    )
    return result


def resident(kind: str) -> float:
    """MiB of this process's memory of a kind that are in RAM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) / 1024
    return float("nan")


if __name__ == "__main__":
    main()
