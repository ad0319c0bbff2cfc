"""Our parsing beside the usual loop, in one process, in turn, as ratios.

    OMP_NUM_THREADS=1 python -m benchmarks.parsing --images 4 --rounds 3
    OMP_NUM_THREADS=1 python -m benchmarks.parsing --weights exp-schp-201908261155-lip.pth

The usual loop is written from the description of the published extractor, not copied: per image
decode, affine warp in numpy, the network as published on a batch of one, logits resized to the
input, inverse warp per channel in numpy, argmax and soft-max, a PNG. To give the same maps it warps
back to the grid of 256 x 128 that we store. Ours is the worker of ``reidpipe parse``: decoding,
batches, storing label and confidence in HDF5. Images are drawn people. Without ``--weights`` SCHP
has random ones: times do not depend on them, agreement between precisions does.

Seconds of CPU time count all threads; they are what to compare on a machine with other work.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from parsing_models import work
from parsing_models.networks.schp.network import SCHP, Bottleneck
from parsing_models.parsers.catalogue import weights_file
from parsing_models.parsers.schp import MEAN_BGR, PUBLISHED, STD_BGR, TINY_INPUT, build
from pipeline.artifacts.steps import Job
from pipeline.datasets.index import Index, read_index
from pipeline.labels.maps import LabelMapReader
from pipeline.mannequins import DEFAULTS, checked, render
from reid_train.engine.checkpoint import read_state_dict, unwrap

HEIGHT, WIDTH = work.GRID


def main() -> None:
    """Print seconds an image, the three ratios and the share of equal labels."""
    parser = argparse.ArgumentParser(description="our parsing beside the usual loop")
    parser.add_argument("--images", type=int, default=4, help="of SCHP")
    parser.add_argument("--tiny-images", type=int, default=64, help="of schp-tiny; 0: leave it out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", type=Path, help="a checkpoint of SCHP")
    options = parser.parse_args()
    # What is done once per run, whatever its length, is no part of a rate.
    work._checked = lambda *_: {}
    work._parser = lru_cache(maxsize=None)(work._parser.__wrapped__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        index = drawn_people(folder / "people", max(options.images, options.tiny_images))
        if options.images:
            weights = options.weights or random_schp(folder / "schp.pth")
            compare(folder, index, options.images, options.rounds, "schp", weights)
        if options.tiny_images:
            weights = weights_file("schp-tiny")
            assert weights is not None
            compare(folder, index, options.tiny_images, options.rounds, "schp-tiny", weights)


def compare(folder: Path, index: Index, images: int, rounds: int, kind: str, weights: Path) -> None:
    """Measure one network in all its ways, the ways in turn."""
    rows = index.rows[:images]
    usual = Usual(kind, weights)

    def theirs(target: Path) -> dict[str, np.ndarray]:
        return {row.key: usual(index.root / row.path, target / f"{n}.png")
                for n, row in enumerate(rows)}  # fmt: skip

    def ours(precision: str) -> Callable[[Path], dict[str, np.ndarray]]:
        def run(target: Path) -> dict[str, np.ndarray]:
            about = work.Work(
                target, index.root, kind, weights, "{}", False, (1.0,), work.BATCH, "cpu", 1,
                index.decoding, precision,
            )  # fmt: skip
            work.make_maps(about, work.Missing(rows, (), (), work.SHARD_IMAGES))
            reader = LabelMapReader(target)
            return {key: reader[key][0] for key in reader}

        return run

    ways = {"usual loop": theirs, "ours, fp32": ours("fp32"), "ours, bf16": ours("bf16")}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    maps: dict[str, dict[str, np.ndarray]] = {}
    for number in range(rounds + 1):
        for name, run in ways.items():
            target = folder / f"{kind}-{number}-{name.replace(' ', '-')}"
            target.mkdir()
            cpu, wall = time.process_time(), time.perf_counter()
            maps[name] = run(target)
            taken = time.process_time() - cpu, time.perf_counter() - wall
            # The first round loads weights, fills caches and is not counted.
            if number or not rounds:
                seconds[name].append(taken)
    print(f"{kind}: {images} images, {rounds} rounds, {torch.get_num_threads()} threads of torch")
    report(images, seconds, maps)


def report(
    images: int,
    seconds: dict[str, list[tuple[float, float]]],
    maps: dict[str, dict[str, np.ndarray]],
) -> None:
    """A line per way; ratios are medians over the rounds of one way beside the other."""
    for name, taken in seconds.items():
        cpu, wall = (statistics.median(values) / images for values in zip(*taken, strict=True))
        faster, faster_wall = (
            statistics.median(
                a[n] / b[n] for a, b in zip(seconds["usual loop"], taken, strict=True)
            )
            for n in (0, 1)
        )
        equal = np.mean([(maps["usual loop"][key] == maps[name][key]).mean() for key in maps[name]])
        full = np.mean([(maps["ours, fp32"][key] == maps[name][key]).mean() for key in maps[name]])
        print(
            f"  {name:11} {1000 * cpu:8.1f} ms CPU {1000 * wall:8.1f} ms wall an image  "
            f"{1 / cpu:7.2f} images/s per core  x{faster:.2f} CPU x{faster_wall:.2f} wall  "
            f"labels as the loop's {equal:.3%}, as ours in fp32 {full:.3%}"
        )


class Usual:
    """The published way, an image at a time."""

    def __init__(self, kind: str, weights: Path) -> None:
        self.network = build(unwrap(read_state_dict(weights), str(weights)))
        classes = self.network.widths.classes
        self.size = TINY_INPUT if kind == "schp-tiny" else PUBLISHED[classes][1]

    @torch.no_grad()
    def __call__(self, path: Path, target: Path) -> np.ndarray:
        """The label map u1 (256, 128) of an image; written to ``target`` too."""
        image = np.asarray(Image.open(path).convert("RGB"))[..., ::-1]
        height, width = self.size
        h, w = image.shape[:2]
        scale = (width - 1) / max(w - 1, (h - 1) * width / height)
        top, left = ((n - 1) / 2 - scale * (m - 1) / 2 for n, m in ((height, h), (width, w)))
        rows, columns = (np.arange(height) - top) / scale, (np.arange(width) - left) / scale
        pixels = np.rint(warped(image.astype(np.float32), rows, columns))
        inputs = (pixels / 255 - MEAN_BGR) / STD_BGR
        batch = torch.from_numpy(inputs.transpose(2, 0, 1)[None].astype(np.float32))
        logits = F.interpolate(
            self.network(batch).fusion, self.size, mode="bilinear", align_corners=True
        )[0].numpy()
        rows, columns = (
            ((np.arange(n) + 0.5) * m / n - 0.5).clip(0, m - 1) * scale + start
            for n, m, start in ((HEIGHT, h, top), (WIDTH, w, left))
        )
        back = np.stack([warped(channel[..., None], rows, columns)[..., 0] for channel in logits])
        label = back.argmax(0).astype(np.uint8)
        sure = 1 / np.exp(back - back.max(0)).sum(0)
        Image.fromarray(label).save(target)
        Image.fromarray(np.rint(15 * sure).astype(np.uint8)).save(target.with_suffix(".sure.png"))
        return label


def warped(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear values (R, C, ...) of float (h, w, ...) at the crossings of rows and columns; black
    outside. Four gathers over the plane, as a warp that knows nothing of the transform does."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    y, x = np.meshgrid(rows.clip(-1, len(image)), columns.clip(-1, image.shape[1]), indexing="ij")
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    down, right = (y - top)[..., None], (x - left)[..., None]
    top, left = top + 1, left + 1
    below, beside = np.minimum(top + 1, len(image) + 1), np.minimum(left + 1, image.shape[1] + 1)
    upper = padded[top, left] * (1 - right) + padded[top, beside] * right
    lower = padded[below, left] * (1 - right) + padded[below, beside] * right
    return (upper * (1 - down) + lower * down).astype(np.float32)


def drawn_people(folder: Path, images: int) -> Index:
    """A dataset of generated people with at least ``images`` rows, 128 x 64 pixels."""
    folder.mkdir(parents=True)
    some = max(1, -(-images // 8))
    small: dict[str, Any] = {"identities": {"train": some, "test": some}, "size": [128, 64]}
    params = checked(DEFAULTS | small)
    render(Job(folder=folder, params=params, inputs={}, workspace=folder))
    index = read_index(folder)
    assert len(index.rows) >= images
    return index


def random_schp(path: Path) -> Path:
    """The published network with random weights, its classifier centred so that all classes win
    somewhere."""
    torch.manual_seed(0)
    network = SCHP().eval()
    random_blocks(network)
    even_classes(network.fushion[3], lambda: network(2 * torch.randn(2, 3, 193, 193)).fusion)
    torch.save(network.state_dict(), path)
    return path


def random_blocks(network: nn.Module) -> None:
    """Draw a network's convolutions, in place."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, Bottleneck):
            # Else sums of thirty blocks grow without bound.
            nn.init.constant_(module.bn3.weight, 0.2)


@torch.no_grad()
def even_classes(classifier: Any, logits: Callable[[], torch.Tensor]) -> None:
    """Scale and shift a last convolution, in place, so that all classes win somewhere of the
    N,C,h,w that ``logits`` gives.
    """
    found = logits()
    spread = found.std((0, 2, 3)) + 1e-6
    classifier.weight *= 3 / spread[:, None, None, None]
    classifier.bias.copy_(3 * (classifier.bias - found.mean((0, 2, 3))) / spread)


if __name__ == "__main__":
    main()
