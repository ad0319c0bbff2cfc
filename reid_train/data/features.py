"""Features of a frozen trunk for a whole training split: written once, shuffled in every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.artifacts.atomic import replacing, write_json
from pipeline.artifacts.checked import read_json
from pipeline.terminal.errors import DamagedFile
from reid_train.engine.checkpoint import read_tensors
from reid_train.engine.runtime import derive_seed

FEATURES, ABOUT = "features.safetensors", "features.json"


@dataclass(frozen=True)
class FrozenFeatures:
    """projected N,D float32: the image in the image-text space. labels int64 N: class numbers;
    pids: the identity of each class. parts float16 N,P,D and counts float32 N,P: means over the
    cells that show each part, and their number; part_names: P. Both None without label maps.
    """

    projected: Tensor
    labels: Tensor
    pids: list[int]
    parts: Tensor | None = None
    counts: Tensor | None = None
    part_names: tuple[str, ...] = ()

    def save(self, folder: Path) -> None:
        """Write ``features.safetensors`` and ``features.json`` (identities and parts, in order)."""
        from safetensors.torch import save_file

        columns = ("projected", "labels", "parts", "counts")
        tensors = {name: getattr(self, name) for name in columns}
        with replacing(folder / FEATURES) as temporary:
            save_file({k: v.contiguous() for k, v in tensors.items() if v is not None}, temporary)
        write_json(folder / ABOUT, {"pids": self.pids, "part_names": list(self.part_names)})

    @classmethod
    def load(cls, folder: Path) -> FrozenFeatures:
        """The inverse of ``save``. Raises DamagedFile for arrays that do not belong together."""
        about = read_json(folder / ABOUT)
        wanted = {"projected": 2, "labels": 1}
        if about["part_names"]:
            wanted |= {"parts": 3, "counts": 2}
        found = read_tensors(folder / FEATURES, wanted)
        tensors = {name: found[name] for name in wanted}
        classes, count = len(about["pids"]), len(tensors["labels"])
        labels = tensors["labels"]
        whole = all(len(values) == count for values in tensors.values())
        known = not labels.is_floating_point() and (
            not count or bool(int(labels.min()) >= 0 and int(labels.max()) < classes)
        )
        parted = all(
            tensors[name].shape[1] == len(about["part_names"])
            for name in ("parts", "counts")
            if name in tensors
        )
        if not (whole and known and parted):
            raise DamagedFile(
                f"found features of other images, identities or parts in {folder / FEATURES}; "
                f"expected {classes} identities; type reidpipe cache verify --repair"
            )
        return cls(pids=about["pids"], part_names=tuple(about["part_names"]), **tensors)


class FeatureBatches:
    """A ``BatchSource``: ``projected`` N,D, ``labels`` N and, where there are parts, ``parts``
    N,P,D float32 and ``counts`` N,P, shuffled, the last partial batch included as CLIP-ReID does
    (whose extra empty batch, when the number of images is a multiple, is not copied).
    """

    def __init__(self, features: FrozenFeatures, *, batch: int, parts: bool, seed: int) -> None:
        """Raises DamagedFile for features without the parts that are asked for."""
        if parts and features.parts is None:
            raise DamagedFile(
                "found frozen features without parts; expected those made with label maps; type "
                "reidpipe cache rm features, and then the same command again"
            )
        self.features, self.batch, self.parts, self.seed = features, batch, parts, seed

    def __len__(self) -> int:
        return -(-len(self.features.labels) // self.batch)

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, Tensor]]:
        generator = np.random.default_rng(derive_seed(self.seed, "shuffle", epoch))
        order = generator.permutation(len(self.features.labels))
        given = self.features
        for step in range(len(self)):
            positions = order[step * self.batch : (step + 1) * self.batch]
            # Processes take equal shares: the last batch is filled up from the epoch's beginning.
            size = -(-len(positions) // world) * world
            filled = np.resize(np.concatenate([positions, order]), size)
            chosen = torch.from_numpy(filled[rank::world])
            batch = {"projected": given.projected[chosen], "labels": given.labels[chosen]}
            if self.parts:
                assert given.parts is not None and given.counts is not None
                batch["parts"] = given.parts[chosen].float()
                batch["counts"] = given.counts[chosen]
            yield batch
