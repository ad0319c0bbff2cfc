"""The training split as arrays, and the batches made from it."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pipeline.datasets.index import ImageRow
from pipeline.images.packed import PackedImages
from pipeline.labels.sets import nearest_resized
from pipeline.labels.shards import CONFIDENCE_STEPS
from pipeline.terminal.errors import ReidpipeError
from reid_train.data.augmentation import Augmentation, Draws
from reid_train.data.buffers import Buffers
from reid_train.data.prefetch import prefetch
from reid_train.data.sampler import Sampler
from reid_train.engine.runtime import derive_seed
from reid_train.engine.task import share

if TYPE_CHECKING:
    from pipeline.labels.maps import LabelMapReader


class TrainingSet:
    """Images of one split with class numbers in ascending order of identity.

    ``pids[label]`` is the identity of a class; where some images have none, their label is -1.
    ``cameras`` are the images' cameras, int64 with -1 for unknown; ``camids`` and ``views`` are
    None unless all are known. ``flipped_copies`` doubles the set: position
    ``n + i`` is image i mirrored (the COL780 recipes). Label maps are brought to the images' size
    by taking the nearest pixel, and kept in memory as bytes once read.
    """

    def __init__(
        self,
        images: PackedImages,
        rows: list[ImageRow],
        *,
        maps: LabelMapReader | None = None,
        flipped_copies: bool = False,
        labelled: bool = True,
    ) -> None:
        """labelled: whether every image must have an identity. Raises ReidpipeError when there is
        no image, or one without what it must have: identity, label map.
        """
        unnamed = [row.key for row in rows if row.pid is None] if labelled else []
        if not rows or unnamed:
            found = f"image '{unnamed[0]}' without identity" if unnamed else "no training image"
            wanted = "train rows with a pid" if labelled else "train rows"
            raise ReidpipeError(
                f"found {found}; expected {wanted} in index.csv; type reidpipe prepare"
            )
        self.images, self.maps, self.flipped_copies = images, maps, flipped_copies
        self.keys = [row.key for row in rows]
        self.places = np.array([images.row(key) for key in self.keys])
        self.pids: list[int] = sorted({row.pid for row in rows if row.pid is not None})
        place = {pid: label for label, pid in enumerate(self.pids)}
        copies = 2 if flipped_copies else 1
        labels = [-1 if row.pid is None else place[row.pid] for row in rows]
        self.labels = np.tile(np.array(labels, np.int64), copies)
        cameras = [-1 if row.camid is None else row.camid for row in rows]
        self.cameras = np.tile(np.array(cameras, np.int64), copies)
        self.camids = all_known([row.camid for row in rows] * copies)
        self.views = all_known([row.view for row in rows] * copies)
        if maps is not None:
            absent = [key for key in self.keys if key not in maps]
            if absent:
                raise ReidpipeError(
                    f"found no label map of '{absent[0]}' ({len(absent)} of {len(rows)} images); "
                    "expected one per training image; type reidpipe parse"
                )
            # Untouched pages of np.empty cost nothing: memory grows as maps are read.
            shape = (len(self.keys), *self.size)
            self._map_memory = (
                np.empty(shape, np.uint8), np.empty(shape, np.uint8),
                np.zeros(len(self.keys), bool),
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.labels)

    def relabelled(self, labels: np.ndarray) -> TrainingSet:
        """The same images with other labels: int64, one per image, copies left out; -1 = none."""
        other = copy(self)
        other.labels = np.tile(labels, 2 if self.flipped_copies else 1)
        return other

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every image."""
        return self.images.size

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """int64 N: where in ``images.pixels`` the images are; copies not yet mirrored."""
        return self.places[positions % len(self.keys)]

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Pixels uint8 N,H,W,3 RGB; copies not yet mirrored."""
        return self.images.pixels[self.rows(positions)]

    def mirrored(self, positions: np.ndarray) -> np.ndarray:
        """bool N: which positions are mirrored copies."""
        return positions >= len(self.keys)

    def read_maps(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Label maps u1 N,H,W and confidence f4 N,H,W in 0..1; copies not yet mirrored."""
        labels, steps, originals = self.stored_maps(positions)
        return labels[originals], in_confidence(steps[originals])

    def stored_maps(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Label maps and steps of confidence, u1 n,H,W, of which those at the rows int64 N that
        come third are read and belong to ``positions``. Several threads may call it.
        """
        labels, steps, known = self._map_memory
        originals = positions % len(self.keys)
        for position in originals[~known[originals]].tolist():
            labels[position], steps[position] = self._read_map(self.keys[position])
            known[position] = True
        return labels, steps, originals

    def _read_map(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        assert self.maps is not None
        label, steps = self.maps.stored(key)
        return nearest_resized(label, self.size), nearest_resized(steps, self.size)


def in_confidence(steps: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Steps u1 as confidence f4 in 0..1."""
    return np.divide(steps, np.float32(CONFIDENCE_STEPS), out=out, dtype=np.float32)


def all_known(values: list[int | None]) -> np.ndarray | None:
    """``values`` as int64 (N,); None when some are unknown: a table of cameras must not be indexed
    by a guess.
    """
    known = [value for value in values if value is not None]
    return np.array(known, np.int64) if len(known) == len(values) else None


class ReidBatches:
    """A ``BatchSource``: what the sampler chooses, augmented.

    A batch has ``images`` uint8 N,3,H,W RGB, ``labels`` int64 N (class numbers), ``positions``
    int64 N in the training set, ``cameras`` int64 N with -1 for unknown ones, ``camids`` and
    ``views`` int64 N where all images of the set have them; when the
    augmentation has them, ``factors`` float32 N,3 for ``augmentation.colour``, and ``erased``
    int64 N,4 and ``filling`` float32 M,3 or 1,3 for ``augmentation.erase``; with label maps also
    ``label_maps`` u1 N,H,W (255 = ignore) and ``confidence`` f4 N,H,W.
    """

    def __init__(
        self,
        data: TrainingSet,
        sampler: Sampler,
        augmentation: Augmentation,
        *,
        seed: int,
        threads: int = 1,
        pinned: bool = False,
        planar: bool = False,
    ) -> None:
        """threads: that make batches, which are the same whatever their number. pinned: in memory
        that a GPU reads by itself. planar: images lie in memory in the order N,3,H,W, for who
        computes in it on a CPU, else as N,H,W,3, as they are stored.
        """
        self.data, self.sampler, self.augmentation, self.seed = data, sampler, augmentation, seed
        self.threads, self.planar = threads, planar
        self.buffers = Buffers(pinned=pinned)

    def __len__(self) -> int:
        return len(self.sampler)

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, Tensor]]:
        rows = share(self.sampler.batch, self.sampler.together, rank, world)
        make = partial(self._batch, epoch, rows)
        return prefetch(self._chosen(epoch), make, threads=self.threads)

    def _chosen(self, epoch: int) -> Iterator[tuple[int, np.ndarray]]:
        # Not before a thread asks for it: many identities take a while to be drawn.
        yield from enumerate(self.sampler.epoch(epoch))

    def _batch(self, epoch: int, rows: slice, chosen: tuple[int, np.ndarray]) -> dict[str, Tensor]:
        step, positions = chosen
        generator = np.random.default_rng(derive_seed(self.seed, "augment", epoch, step))
        draws = self.augmentation.draw(len(positions), self.data.size, generator)
        draws.flips[:] ^= self.data.mirrored(positions)
        return self._changed(positions[rows], draws.of(rows))

    def _changed(self, positions: np.ndarray, draws: Draws) -> dict[str, Tensor]:
        data = self.data
        batch = {
            "images": self._images(positions, draws),
            "labels": self._tensor(data.labels[positions]),
            "positions": self._tensor(positions.copy()),
            "cameras": self._tensor(data.cameras[positions]),
        }
        for name, numbers in (("camids", data.camids), ("views", data.views)):
            if numbers is not None:
                batch[name] = self._tensor(numbers[positions])
        if self.augmentation.colours:
            batch["factors"] = self._tensor(draws.factors)
        if self.augmentation.erase > 0:
            batch["erased"] = self._tensor(np.ascontiguousarray(draws.boxes[:, :4]))
            batch["filling"] = self.buffers((draws.filled, 3), torch.float32)
            draws.filling(batch["filling"].numpy())
        if data.maps is not None:
            batch["label_maps"], batch["confidence"] = self._maps(positions, draws)
        return batch

    def _images(self, positions: np.ndarray, draws: Draws) -> Tensor:
        count, (height, width) = len(positions), self.data.size
        if self.planar:
            images = self.buffers((count, 3, height, width), torch.uint8)
        else:
            images = self.buffers((count, height, width, 3), torch.uint8).permute(0, 3, 1, 2)
        pixels = self.data.images.pixels
        draws.move(pixels, self.data.rows(positions), images.permute(0, 2, 3, 1).numpy())
        return images

    def _maps(self, positions: np.ndarray, draws: Draws) -> tuple[Tensor, Tensor]:
        assert self.data.maps is not None
        shape = (len(positions), *self.data.size)
        labels, confidence = (self.buffers(shape, kind) for kind in (torch.uint8, torch.float32))
        moved = labels.numpy(), self.buffers(shape, torch.uint8).numpy()
        maps, steps, places = self.data.stored_maps(positions)
        draws.move_maps(maps, steps, self.data.maps.label_set.mirrored, places, moved)
        in_confidence(moved[1], confidence.numpy())
        return labels, confidence

    def _tensor(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self.buffers.pinned else tensor
