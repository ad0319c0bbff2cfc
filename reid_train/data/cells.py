"""Label maps brought to the grid of a feature map, and features gathered by part.

A part is a label of the parser's label set, 0..P-1; ``IGNORE`` marks what shows nothing of the
image. Everything runs on the device of its input. Counts and sums of confidence are integers, so
the result is the same to the bit on every device and in any order of summation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.labels.sets import IGNORE
from pipeline.labels.shards import CONFIDENCE_STEPS
from reid_train.engine.arithmetic import full

# One int64 per (cell, label) holds the pixel count above, the confidence sum below: the greatest
# is the majority, ties decided by confidence. Cached confidences are whole numbers of these steps,
# so equal sums are seen as equal; 2**16 pixels of 2**22 fill the lower 40 bits at most.
_COUNT = 2**40
_STEPS = CONFIDENCE_STEPS * 2**18
_MOST_PIXELS = 2**16 - 1

RULES = ("majority", "nearest")


class Axis(NamedTuple):
    """Per cell along one axis: its pixels ``first`` .. ``end`` - 1, and the ``centre`` pixel."""

    first: tuple[int, ...]
    end: tuple[int, ...]
    centre: tuple[int, ...]

    @classmethod
    def even(cls, pixels: int, cells: int) -> Axis:
        """Cells share the axis evenly; a pixel cut by a border belongs to both neighbours."""
        places = range(cells)
        return cls(
            tuple(i * pixels // cells for i in places),
            tuple(-(-(i + 1) * pixels // cells) for i in places),
            tuple((2 * i + 1) * pixels // (2 * cells) for i in places),
        )

    @classmethod
    def tokens(cls, pixels: int, patch: int, stride: int) -> Axis:
        """Cells are what each token of a patch convolution sees."""
        first = tuple(range(0, pixels - patch + 1, stride))
        return cls(first, tuple(i + patch for i in first), tuple(i + patch // 2 for i in first))


@dataclass(frozen=True)
class CellGrid:
    """Which pixels of an image belong to which cell of a feature map, axis by axis.

    ``even`` is for maps that cover the image: 32x16 over 256x128 has cells of 8x8 pixels. Where
    the grid does not divide the image, cell i takes pixels floor(i H/h) .. ceil((i+1) H/h) - 1;
    the rule is symmetric, mirrored maps give mirrored cells. ``tokens`` is for patches: cell i
    takes the ``patch`` pixels from ``stride`` i that its token sees. With overlapping patches (OLP,
    stride 12: 21x10 over 256x128) pixels count for several cells, and the last 4 columns for none,
    as for the encoder; then mirroring does not commute with the grid.
    """

    rows: Axis
    columns: Axis

    def __post_init__(self) -> None:
        if not self.rows.first or not self.columns.first:
            raise ValueError("the grid has no cell; the image must be at least one patch large")
        most = 1
        for axis in (self.rows, self.columns):
            most *= max(end - first for first, end in zip(axis.first, axis.end, strict=True))
        if most > _MOST_PIXELS:
            raise ValueError(f"cells of {most} pixels; expected at most {_MOST_PIXELS}")

    @classmethod
    def even(cls, size: tuple[int, int], grid: tuple[int, int]) -> CellGrid:
        """``grid`` (h, w) cells that cover an image of ``size`` (H, W)."""
        return cls(Axis.even(size[0], grid[0]), Axis.even(size[1], grid[1]))

    @classmethod
    def tokens(cls, size: tuple[int, int], *, patch: int = 16, stride: int = 16) -> CellGrid:
        """The tokens of a patch convolution without padding over an image of ``size`` (H, W)."""
        return cls(Axis.tokens(size[0], patch, stride), Axis.tokens(size[1], patch, stride))

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w)."""
        return len(self.rows.first), len(self.columns.first)


class Cells(NamedTuple):
    """``labels`` int64 N,h,w (0..P-1 or ``IGNORE``); ``confidence`` float32 N,h,w in 0..1."""

    labels: Tensor
    confidence: Tensor

    @property
    def counted(self) -> Tensor:
        """bool N,h,w: cells that show a part."""
        return self.labels != IGNORE


def to_cells(
    labels: Tensor, confidence: Tensor, grid: CellGrid, *, parts: int, rule: str = "majority"
) -> Cells:
    """Label maps u1 N,H,W (255 = ignore) and confidence f4 N,H,W in 0..1 -> ``Cells`` N,h,w.

    ``majority``: the label of most pixels of the cell; ties go to the larger sum of confidence,
    then to ``IGNORE``, then to the lower label. Ignored pixels vote too: a cell mostly erased shows
    noise. The confidence is the mean over the winning pixels, to 3e-7. ``nearest``: label and
    confidence of the pixel in which the centre of the cell lies; a centre on a border takes the
    pixel after it. Labels are never blended. Raises ValueError for another rule; a label of
    ``parts`` or more that votes is an index error.
    """
    if rule not in RULES:
        raise ValueError(f"rule is {rule!r}; it must be one of {list(RULES)}")
    device = labels.device
    if rule == "nearest":
        rows = torch.tensor(grid.rows.centre, device=device)[:, None]
        columns = torch.tensor(grid.columns.centre, device=device)
        return Cells(labels[:, rows, columns].long(), confidence[:, rows, columns].float())
    row, row_inside = _pixels(grid.rows, device)
    column, column_inside = _pixels(grid.columns, device)
    places = (slice(None), row[:, None, :, None], column[None, :, None, :])
    slots = (labels[places] + 1).flatten(3).long()  # N,h,w,K, u1 wraps: ignored is slot 0
    votes = (confidence[places].float() * _STEPS).round_().long().add_(_COUNT).flatten(3)
    inside = row_inside[:, None, :, None] & column_inside[None, :, None, :]
    if not bool(inside.all()):
        votes *= inside.flatten(2)
    scores = votes.new_zeros(*slots.shape[:3], parts + 1).scatter_add_(3, slots, votes)
    best, slot = scores.max(3)  # the first of equal scores
    return Cells((slot - 1) % 256, (best % _COUNT).float() / _STEPS / (best // _COUNT).float())


def _pixels(axis: Axis, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pixels of each cell, int64 h,k, and which are its own: short cells are filled up."""
    first = torch.tensor(axis.first, device=device)
    end = torch.tensor(axis.end, device=device)
    longest = max(b - a for a, b in zip(axis.first, axis.end, strict=True))
    pixels = first[:, None] + torch.arange(longest, device=device)
    return torch.minimum(pixels, end[:, None] - 1), pixels < end[:, None]


def membership(cells: Cells, parts: int) -> Tensor:
    """float32 N,P,h*w: 1 where the cell shows the part."""
    part = torch.arange(parts, device=cells.labels.device)
    return (cells.labels.flatten(1)[:, None] == part[:, None]).float()


def pool(features: Tensor, cells: Cells, parts: int) -> tuple[Tensor, Tensor]:
    """Mean feature of each part: features N,D,h,w -> means float32 N,P,D and counts of cells
    float32 N,P. The mean of a part that is not there is 0. Gradients flow to the features.
    """
    _check_grid(features, cells)
    with torch.autocast(features.device.type, enabled=False):
        values = full(features).flatten(2).transpose(1, 2)
        members = membership(cells, parts).to(values.dtype)
        counts = members.sum(2)
        sums = members @ values  # N,P,D
        return sums / counts.clamp(min=1)[..., None], counts


def sample(
    features: Tensor, cells: Cells, parts: int, *, pixels: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """At most ``pixels`` cells of each part at random without replacement: features N,D,h,w ->
    rows float32 N,P,K,D and weights float32 N,P,K, K = min(pixels, h*w).

    A row weighs count / taken, so that the weights of a part sum to its count of cells as after
    ``pool``; rows beyond the cells of a part weigh 0. Numbers are drawn on the generator's device.
    """
    _check_grid(features, cells)
    if pixels < 1:
        raise ValueError(f"pixels is {pixels}; it must be at least 1")
    members = membership(cells, parts).bool()  # N,P,T
    order = torch.rand(
        (len(members), 1, members.shape[2]), generator=generator, device=generator.device
    ).to(features.device)
    keep = min(pixels, members.shape[2])
    chosen = order.masked_fill(~members, torch.inf).topk(keep, dim=2, largest=False).indices
    taken = members.gather(2, chosen)  # N,P,K
    image = torch.arange(len(members), device=features.device)[:, None, None]
    rows = full(features).flatten(2).transpose(1, 2)[image, chosen]  # N,P,K,D
    count = members.sum(2, keepdim=True).float()
    return rows, taken * count / taken.sum(2, keepdim=True).clamp(min=1)


def _check_grid(features: Tensor, cells: Cells) -> None:
    if features.ndim != 4 or features[:, 0].shape != cells.labels.shape:
        raise ValueError(
            f"features {tuple(features.shape)} over cells {tuple(cells.labels.shape)}; "
            "expected N,D,h,w over N,h,w"
        )
