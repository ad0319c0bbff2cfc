"""Training batches of a parsing dataset on disk, varied as SCHP varies them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from parsing_models.parsers.interface import Preprocessing
from parsing_models.parsers.warp import Similarity, Size
from parsing_models.scoring import read_annotation
from pipeline.datasets.index import ImageRow
from pipeline.images.decoding import Decoding
from pipeline.images.originals import Original
from pipeline.images.pixels import decode
from pipeline.labels.sets import IGNORE, LabelSet
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.runtime import derive_seed
from reid_train.engine.task import share

AHEAD = 4


@dataclass(frozen=True)
class Variation:
    """SCHP's: the box grows by 1 + a normal number of deviation ``scale``, clipped to 1 +- scale;
    with probability ``rotated`` it turns by a normal number of ``degrees``, clipped to twice that;
    with probability ``mirrored`` it is mirrored and the sides are exchanged.
    """

    scale: float = 0.25
    degrees: float = 30.0
    rotated: float = 0.6
    mirrored: float = 0.5

    def draw(self, rng: np.random.Generator) -> tuple[float, float, bool]:
        """Growth of the box, radians, mirror."""
        grow = float(np.clip(rng.normal() * self.scale + 1, 1 - self.scale, 1 + self.scale))
        turn = float(np.clip(rng.normal() * self.degrees, -2 * self.degrees, 2 * self.degrees))
        rotate, mirror = rng.random() <= self.rotated, rng.random() < self.mirrored
        return grow, math.radians(turn) if rotate else 0.0, bool(mirror)


NONE = Variation(scale=0.0, degrees=0.0, rotated=0.0, mirrored=0.0)


class LabelledBatches:
    """A ``BatchSource`` over rows that have a ``label_path``.

    A batch: ``images`` normalised float N,3,H,W in the network's channel order, black outside the
    image (in pixels, before normalisation), ``labels`` int64 N,H,W, ``IGNORE`` there. Images are
    bilinear, labels nearest. Files are read by ``workers`` threads, a few batches ahead.
    """

    def __init__(
        self,
        root: Path,
        rows: Sequence[ImageRow],
        label_set: LabelSet,
        given: Preprocessing,
        *,
        batch: int,
        seed: int,
        variation: Variation | None = None,
        workers: int = 2,
        decoding: Decoding = "as-seen",
    ) -> None:
        """Raises ReidpipeError when fewer than ``batch`` rows have a label map."""
        self.rows = [row for row in rows if row.extra.get("label_path")]
        if len(self.rows) < batch:
            raise ReidpipeError(
                f"found {len(self.rows)} images with a label map; expected at least a batch of "
                f"{batch}; type --batch {max(1, len(self.rows))}"
            )
        self.root, self.label_set, self.given = root, label_set, given
        self.batch, self.seed, self.workers = batch, seed, workers
        self.decoding: Decoding = decoding
        self.variation = variation or Variation()

    def __len__(self) -> int:
        return len(self.rows) // self.batch

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, Tensor]]:
        seed = derive_seed(self.seed, "order", epoch)
        order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(seed))
        own = share(self.batch, 1, rank, world)
        with ThreadPoolExecutor(self.workers, "decode") as pool:
            waiting: deque[list[Future[tuple[Tensor, Tensor]]]] = deque()
            for step in range(len(self) + AHEAD):
                if step < len(self):
                    places = order[step * self.batch : (step + 1) * self.batch].tolist()
                    waiting.append(
                        [pool.submit(self._sample, place, epoch) for place in places[own]]
                    )
                if step >= AHEAD or step >= len(self):
                    if not waiting:
                        return
                    samples = [future.result() for future in waiting.popleft()]
                    images, labels = (torch.stack(part) for part in zip(*samples, strict=True))
                    yield {"images": self._normalised(images), "labels": labels}

    def _sample(self, place: int, epoch: int) -> tuple[Tensor, Tensor]:
        row = self.rows[place]
        image = decode(Original(self.root / row.path, row.digest), decoding=self.decoding)
        label = read_annotation(self.root, row, self.label_set)
        if label.shape != image.shape[:2]:
            raise ReidpipeError(
                f"found label map {row.extra['label_path']} of {label.shape} for an image of "
                f"{image.shape[:2]}; expected the same size; unpack the annotations again"
            )
        rng = np.random.default_rng(derive_seed(self.seed, "vary", epoch, place))
        return warped(image, label, self.label_set, self.given.input_size, self.variation.draw(rng))

    def _normalised(self, images: Tensor) -> Tensor:
        if self.given.channel_order == "bgr":
            images = images.flip(1)
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.given.mean, self.given.std))
        return (images / 255 - mean) / std


def warped(
    image: np.ndarray,
    label: np.ndarray,
    label_set: LabelSet,
    target: Size,
    drawn: tuple[float, float, bool],
) -> tuple[Tensor, Tensor]:
    """Image u1 H,W,3 and label map u1 H,W -> float32 3,h,w in 0..255 and int64 h,w at ``target``.

    drawn: growth of the box around its centre, radians (counter-clockwise), mirror. Without any
    of them the image lies as ``parsing_models.parsers.warp`` puts it.
    """
    grow, angle, mirror = drawn
    if mirror:
        image, label = np.ascontiguousarray(image[:, ::-1]), _mirrored(label, label_set)
    height, width = label.shape
    place = Similarity.between((height, width), target)
    # From a pixel of the input back to the image, both counted from their centres.
    scale = grow / place.scale
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    y = torch.arange(target[0], dtype=torch.float64)[:, None] - (target[0] - 1) / 2
    x = torch.arange(target[1], dtype=torch.float64)[None, :] - (target[1] - 1) / 2
    column = cos * x - sin * y + (width - 1) / 2
    row = sin * x + cos * y + (height - 1) / 2
    grid = torch.stack(
        [2 * column / max(width - 1, 1) - 1, 2 * row / max(height - 1, 1) - 1], dim=-1
    ).float()[None]
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    moved = F.grid_sample(pixels, grid, mode="bilinear", align_corners=True)[0]
    # Labels travel as label + 1, so that what comes from outside is 0 and becomes IGNORE.
    known = torch.from_numpy(label.astype(np.float32) + 1)[None, None]
    back = F.grid_sample(known, grid, mode="nearest", align_corners=True)[0, 0].long()
    outside = (row < -0.5) | (row > height - 0.5) | (column < -0.5) | (column > width - 0.5)
    return moved, torch.where(outside | (back == 0), IGNORE, back - 1)


def _mirrored(label: np.ndarray, label_set: LabelSet) -> np.ndarray:
    table = np.arange(256, dtype=np.uint8)  # IGNORE stays
    table[: len(label_set)] = label_set.flip_order
    return table[label[:, ::-1]]
