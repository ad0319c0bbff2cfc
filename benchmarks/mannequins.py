"""How many mannequins one core draws: ``OMP_NUM_THREADS=1 python -m benchmarks.mannequins``."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.mannequins import checked, draw, make, plan, sample


def rate(work: Callable[[int], object], images: int) -> tuple[float, float]:
    """(images per second of this process's CPU time, images per second of wall time)."""
    work(images)  # first round: scenes are drawn once and kept
    cpu, wall = time.process_time(), time.perf_counter()
    work(images)
    return images / (time.process_time() - cpu), images / (time.perf_counter() - wall)


def main() -> None:
    """Print the rates of drawing, of sampling and of writing a dataset, 256 x 128."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=400)
    images = parser.parse_args().images

    def drawing(count: int) -> None:
        for number in range(count):
            draw(0, 1 + number // 4, number % 4, 0)

    def writing(count: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            entries = plan(checked({}), Path(folder))[:count]
            for split in ("train", "query", "gallery"):
                for kind in ("images", "labels"):
                    (Path(folder) / kind / split).mkdir(parents=True)
            make(entries)

    for name, work in (
        ("draw", drawing),
        ("sample", lambda count: sample(0, count)),
        ("draw and write files", writing),
    ):
        cpu, wall = rate(work, images)
        print(f"{name:22} {cpu:7.1f} images/s of CPU time {wall:7.1f} images/s of wall time")


if __name__ == "__main__":
    main()
