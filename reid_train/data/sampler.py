"""Which images make a batch. A sampler is a pure function of its seed and the epoch, so there is
nothing to save, and its batches are global: processes take equal shares of the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.runtime import derive_seed


class Sampler(Protocol):
    """Every epoch has ``len`` batches of ``batch`` positions, whole ones only."""

    batch: int
    # Images that must stay on one process: the rows of a batch are split in multiples of it.
    together: int

    def __len__(self) -> int: ...

    def epoch(self, epoch: int) -> np.ndarray:
        """int64 (len, batch): positions in the training set."""
        ...


class ShuffledSampler:
    """Every image once per epoch in random order; what does not fill a last batch is left out
    (other images in every epoch).
    """

    together = 1

    def __init__(self, count: int, *, batch: int, seed: int) -> None:
        """Raises ReidpipeError when there are fewer images than a batch holds."""
        if count < batch:
            raise ReidpipeError(
                f"found {count} training images; expected at least a batch of {batch}; "
                f"type --set stages.0.data.batch={max(count, 1)}"
            )
        self.count, self.batch, self.seed = count, batch, seed

    def __len__(self) -> int:
        return self.count // self.batch

    def epoch(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng(derive_seed(self.seed, "shuffle", epoch))
        order = generator.permutation(self.count)[: len(self) * self.batch]
        return order.reshape(len(self), self.batch)


class IdentitySampler:
    """Batches of ``ids`` identities with ``images_per_id`` images each, grouped by identity
    (Hermans et al. 2017).

    In every epoch each identity's images are shuffled and cut into chunks of ``images_per_id``;
    an identity with fewer images gives one chunk drawn with replacement, and leftovers wait for
    the next epoch. Batches draw different identities at random as long as chunks last.

    Deviation from CLIP-ReID, whose epoch ends when fewer than ``ids`` identities happen to be left
    and so differs in length: here all epochs have the largest possible number of batches, and
    identities that must appear in all remaining batches to reach it are drawn first.
    """

    def __init__(
        self, labels: Sequence[int] | np.ndarray, *, ids: int, images_per_id: int, seed: int
    ) -> None:
        """labels: one per image of the training set. Raises ReidpipeError when ids are too few."""
        self.ids, self.together, self.seed = ids, images_per_id, seed
        self.batch = ids * images_per_id
        self.members = members_of(np.asarray(labels), ids)
        self.chunks = np.array([max(len(m) // images_per_id, 1) for m in self.members])
        self.length = _most_batches(self.chunks, ids)

    def __len__(self) -> int:
        return self.length

    def epoch(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng(derive_seed(self.seed, "identities", epoch))
        waiting = [self._cut(members, generator) for members in self.members]
        left = self.chunks.copy()
        batches = np.empty((self.length, self.batch), np.int64)
        for step in range(self.length):
            needed = np.flatnonzero(left >= self.length - step)
            if len(needed) >= self.ids:
                chosen = generator.choice(needed, self.ids, replace=False)
            else:
                others = np.flatnonzero((left > 0) & (left < self.length - step))
                drawn = generator.choice(others, self.ids - len(needed), replace=False)
                chosen = generator.permutation(np.concatenate([needed, drawn]))
            left[chosen] -= 1
            batches[step] = np.concatenate(
                [waiting[identity][left[identity]] for identity in chosen]
            )
        return batches

    def _cut(self, members: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        size = self.together
        if len(members) < size:
            return generator.choice(members, (1, size), replace=True)
        return generator.permutation(members)[: len(members) // size * size].reshape(-1, size)


class OtherCamerasSampler:
    """Batches of ``ids`` identities: of each one image, and ``images_per_id`` - 1 that other
    cameras took of it; every identity comes once a pass, but for those that fill no last batch (Ge
    et al., SpCL, NeurIPS 2020, and what follows it: ClusterContrast, PCL-CLIP without labels).

    An identity with too few images of other cameras gives some of them several times; one that a
    single camera saw, or whose camera is unknown (-1), gives its other images instead, and one of a
    single image that image alone, which the published sampler cannot batch.
    """

    def __init__(
        self, labels: np.ndarray, camids: np.ndarray, *, ids: int, images_per_id: int, seed: int
    ) -> None:
        """labels, camids: int64, one per image. Raises ReidpipeError when ids are too few."""
        self.ids, self.together, self.seed = ids, images_per_id, seed
        self.batch, self.camids = ids * images_per_id, camids
        self.members = members_of(labels, ids)

    def __len__(self) -> int:
        return len(self.members) // self.ids

    def epoch(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng(derive_seed(self.seed, "identities", epoch))
        order = generator.permutation(len(self.members))[: len(self) * self.ids]
        drawn = [self._draw(self.members[identity], generator) for identity in order]
        return np.stack(drawn).reshape(len(self), self.batch)

    def _draw(self, members: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        first = generator.choice(members)
        camera = self.camids[first]
        others = members[self.camids[members] != camera] if camera >= 0 else members[:0]
        if len(others) == 0:
            others = members[members != first] if len(members) > 1 else members
        wanted = self.together - 1
        more = generator.choice(others, wanted, replace=len(others) < wanted)
        return np.concatenate([[first], more])


class RestartedSampler:
    """``iterations`` batches per epoch: passes of another sampler one after the other, the last
    one cut off (PCL-CLIP, ClusterContrast), over the labels last given to ``assign``. A pass is one
    of ``IdentitySampler``, or with ``camids`` of ``OtherCamerasSampler``.

    With fewer than ``ids`` labels a batch is smaller: it has all of them, or as many as
    ``processes`` can share.
    """

    inner: IdentitySampler | OtherCamerasSampler

    def __init__(
        self,
        *,
        ids: int,
        images_per_id: int,
        iterations: int,
        seed: int,
        camids: np.ndarray | None = None,
    ) -> None:
        self.ids, self.together, self.seed, self.camids = ids, images_per_id, seed, camids
        self.iterations, self.batch = iterations, ids * images_per_id

    def assign(self, labels: np.ndarray, *, processes: int = 1) -> None:
        """labels: int64, one per image; images with label -1 are left out. Each batch draws its
        labels, so all of them get their turn also when one or more are left over.

        Raises ReidpipeError when there is no label.
        """
        self.kept = np.flatnonzero(labels >= 0)
        labels = labels[self.kept]
        ids, found = self.ids, len(np.unique(labels))
        if found < ids:
            ids = max(found // processes * processes, 1)
        self.batch = ids * self.together
        seed = derive_seed(self.seed, "passes")
        if self.camids is None:
            self.inner = IdentitySampler(labels, ids=ids, images_per_id=self.together, seed=seed)
        else:
            cameras = self.camids[self.kept]
            self.inner = OtherCamerasSampler(
                labels, cameras, ids=ids, images_per_id=self.together, seed=seed
            )

    def __len__(self) -> int:
        return self.iterations

    def epoch(self, epoch: int) -> np.ndarray:
        # A pass has one batch at least, so the passes of two epochs never have the same number.
        passes = range(epoch * self.iterations, (epoch + 1) * self.iterations)
        batches: list[np.ndarray] = []
        for number in passes:
            batches.extend(self.inner.epoch(number))
            if len(batches) >= self.iterations:
                break
        return self.kept[np.stack(batches[: self.iterations])]


def shuffled(labels: Sequence[int] | np.ndarray, *, batch: int, seed: int) -> Sampler:
    """``SAMPLERS["shuffled"]``: every image once, whoever it shows."""
    return ShuffledSampler(len(labels), batch=batch, seed=seed)


def identity_batches(
    labels: Sequence[int] | np.ndarray,
    *,
    ids: int,
    images_per_id: int,
    seed: int,
    iterations: int | None = None,
    draw: str = "chunks",
    cameras: np.ndarray | None = None,
) -> Sampler:
    """``SAMPLERS["identity-batches"]``: an epoch has ``iterations`` batches, or as many as the
    images give. labels of -1 have no identity yet: a hook assigns them. draw: which images of an
    identity, its ``chunks`` or those of ``other-cameras`` (``cameras``: int64, -1 unknown).
    """
    if iterations is None:
        return IdentitySampler(labels, ids=ids, images_per_id=images_per_id, seed=seed)
    sampler = RestartedSampler(
        ids=ids,
        images_per_id=images_per_id,
        iterations=iterations,
        seed=seed,
        camids=None if draw == "chunks" else cameras,
    )
    labels = np.asarray(labels)
    if (labels >= 0).any():
        sampler.assign(labels)
    return sampler


def members_of(labels: np.ndarray, ids: int) -> list[np.ndarray]:
    """Positions of each label's images, labels ascending. Raises ReidpipeError when there are fewer
    labels than ``ids``.
    """
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    members = np.split(order, starts[1:]) if len(order) else []
    if len(members) < ids:
        raise ReidpipeError(
            f"found {len(members)} identities to train on; expected at least {ids} for a "
            f"batch; type --set stages.0.data.ids={max(len(members), 1)}"
        )
    return members


def _most_batches(chunks: np.ndarray, ids: int) -> int:
    """Largest T with sum_i min(chunks_i, T) >= ids * T: an identity appears once in a batch."""
    low, high = 1, int(chunks.sum()) // ids
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(chunks, middle).sum() >= ids * middle:
            low = middle
        else:
            high = middle - 1
    return low
