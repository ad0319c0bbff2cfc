"""Training batches of generated people, varied on the way: a ``BatchSource`` for the loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from parsing_models.parsers.schp import MEAN_BGR, STD_BGR
from pipeline.labels.sets import IGNORE, LIP
from pipeline.mannequins import sample
from reid_train.engine.runtime import derive_seed
from reid_train.engine.task import share


@dataclass
class MannequinBatches:
    """Generated once (uint8 N,3,H,W and N,H,W), then augmented differently in every epoch.

    A batch: ``images`` normalised float N,3,H,W in BGR, or RGB, ``labels`` int64 N,H,W with
    ``IGNORE`` where a warped image has no pixel.
    """

    images: Tensor
    labels: Tensor
    batch: int
    seed: int
    strength: float = 1.0
    rgb: bool = False

    @classmethod
    def render(
        cls, count: int, size: tuple[int, int], *, batch: int, seed: int, strength: float = 1.0
    ) -> MannequinBatches:
        """Draw ``count`` people of the world ``seed``, who are in no dataset. ``strength`` of the
        augmentation: 0 keeps mirroring and black bars only."""
        images, labels = sample(seed, count, size)
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        return cls(pixels, torch.from_numpy(labels), batch, seed, strength)

    def first(self, count: int) -> MannequinBatches:
        """The first ``count`` people alone."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def resized(self, size: tuple[int, int]) -> MannequinBatches:
        """The same people at another size (H, W)."""
        rows, columns = (
            torch.linspace(0, old - 1, new).round().long()
            for old, new in zip(self.labels.shape[1:], size, strict=True)
        )
        images = torch.empty(len(self.images), 3, *size, dtype=torch.uint8)
        for start in range(0, len(images), 256):
            part = slice(start, start + 256)
            images[part] = (
                F.interpolate(self.images[part].float(), size, mode="area").round().byte()
            )
        return replace(self, images=images, labels=self.labels[:, rows][:, :, columns])

    def __len__(self) -> int:
        return len(self.images) // self.batch

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, Tensor]]:
        seed = derive_seed(self.seed, "order", epoch)
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(seed))
        own = share(self.batch, 1, rank, world)
        for step in range(len(self)):
            rows = order[step * self.batch : (step + 1) * self.batch][own]
            rng = np.random.default_rng(derive_seed(self.seed, "augment", epoch, step, rank))
            pixels = self.images[rows].float() / 255
            images, labels = augment(pixels, self.labels[rows], rng, self.strength)
            images = normalise(images)
            yield {"images": images.flip(1) if self.rgb else images, "labels": labels}


def normalise(images: Tensor) -> Tensor:
    """RGB N,3,H,W in 0..1 -> SCHP's input: BGR, minus mean, over deviation."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN_BGR, STD_BGR))
    return (images.flip(1) - mean) / std


def augment(
    images: Tensor, labels: Tensor, rng: np.random.Generator, strength: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Vary a batch: RGB N,3,H,W in 0..1, labels u1 N,H,W -> the same, labels int64.

    Mirror (sides exchanged), scale, shift, tilt; loss of resolution; light and colour; patches that
    hide; black bars where a crop narrower than the input would have been padded.
    """
    images, labels = _mirror(images, labels.long(), rng)
    images, labels = _move(images, labels, rng, strength)
    images = _colour(_coarsen(images, rng, strength), rng, strength)
    images, labels = _hide(images, labels, rng, strength)
    return images, labels


def _some(rng: np.random.Generator, n: int, share: float) -> Tensor:
    return torch.from_numpy(rng.random(n) < share)


def _uniform(rng: np.random.Generator, n: int, low: float, high: float) -> Tensor:
    return torch.from_numpy(rng.uniform(low, high, n).astype(np.float32))


def _mirror(images: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    chosen = _some(rng, len(images), 0.5)
    order = torch.from_numpy(LIP.flip_order)
    images = torch.where(chosen[:, None, None, None], images.flip(-1), images)
    return images, torch.where(chosen[:, None, None], order[labels].flip(-1), labels)


def _move(
    images: Tensor, labels: Tensor, rng: np.random.Generator, strength: float
) -> tuple[Tensor, Tensor]:
    n, height, width = labels.shape
    zoom = torch.exp(strength * _uniform(rng, n, -0.28, 0.22))
    stretch = torch.exp(strength * _uniform(rng, n, -0.2, 0.2))
    tilt = strength * torch.from_numpy(rng.normal(0, 0.06, n).astype(np.float32))
    cos, sin = torch.cos(tilt), torch.sin(tilt)
    aspect = width / height
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = cos * zoom * stretch, -sin * zoom / aspect
    theta[:, 1, 0], theta[:, 1, 1] = sin * zoom * stretch * aspect, cos * zoom
    theta[:, 0, 2] = strength * _uniform(rng, n, -0.18, 0.18)
    theta[:, 1, 2] = strength * _uniform(rng, n, -0.12, 0.12)
    grid = F.affine_grid(theta, [n, 1, height, width], align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    # Labels travel as label + 1, so that what comes from outside is 0 and becomes IGNORE.
    moved = F.grid_sample((labels + 1).float()[:, None], grid, mode="nearest", align_corners=False)[
        :, 0
    ].long()
    return images, torch.where(moved == 0, IGNORE, moved - 1)


def _coarsen(images: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    images = images.clone()
    height, width = images.shape[-2:]
    chance, share = rng.random(len(images)), 0.15 * strength
    for k, factor in enumerate((1.4, 2.0, 3.0)):
        rows = np.flatnonzero((chance >= share * k) & (chance < share * (k + 1)))
        if len(rows):
            size = (round(height / factor), round(width / factor))
            small = F.interpolate(images[rows], size, mode="area")
            mode = "bicubic" if rng.random() < 0.5 else "bilinear"
            images[rows] = F.interpolate(small, (height, width), mode=mode, align_corners=False)
    return images


def _colour(images: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    n = len(images)

    def factor(spread: float) -> Tensor:
        spread *= strength
        return torch.exp(_uniform(rng, n, -spread, spread))[:, None, None, None]

    tint = strength * rng.normal(0, 0.08, (n, 3, 1, 1))
    cast = torch.from_numpy(np.exp(tint).astype(np.float32))
    images = images.clamp(0, 1) * cast * factor(0.3)
    grey = images.mean(1, keepdim=True)
    saturation = torch.where(_some(rng, n, 0.06 * strength)[:, None, None, None], 0.0, factor(0.45))
    images = grey + (images - grey) * saturation
    middle = images.mean((1, 2, 3), keepdim=True)
    images = middle + (images - middle) * factor(0.35)
    images = images.clamp(1e-4, 1) ** factor(0.35)
    sigma = (
        _uniform(rng, n, 0, 0.04)[:, None, None, None]
        * _some(rng, n, 0.4 * strength)[:, None, None, None]
    )
    noise = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32))
    return (images + noise * sigma).clamp(0, 1)


def _hide(
    images: Tensor, labels: Tensor, rng: np.random.Generator, strength: float
) -> tuple[Tensor, Tensor]:
    images, labels = images.clone(), labels.clone()
    n, height, width = labels.shape
    for row in np.flatnonzero(rng.random(n) < 0.15 * strength):
        h, w = (
            int(rng.integers(height // 10, height // 3)),
            int(rng.integers(width // 8, width // 2)),
        )
        y, x = int(rng.integers(height - h)), int(rng.integers(width - w))
        images[row, :, y : y + h, x : x + w] = torch.from_numpy(
            rng.random((3, 1, 1), dtype=np.float32)
        )
        labels[row, y : y + h, x : x + w] = 0
    # Whatever the strength: narrow crops always come with bars.
    for row in np.flatnonzero(rng.random(n) < 0.45):
        wide = rng.random() < 0.85
        full = width if wide else height
        bar = int(rng.integers(1, full // 5))
        for part in (slice(0, bar), slice(full - bar, full)):
            where = (slice(None), part) if wide else (part, slice(None))
            images[row][(slice(None), *where)] = 0.0
            labels[row][where] = 0
    return images, labels
