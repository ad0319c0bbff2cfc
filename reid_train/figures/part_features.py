"""Features of single cells by the body part they show: sampled from test images, and measured.

pi-VL draws such features and says that those of one part lie together and those of one person
within them (v1 Fig. 2); ``part_consistency`` puts numbers to both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.labels.sets import LabelSet, nearest_resized
from reid_train.evaluation.distances import unit_rows

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.datasets.index import ImageRow
    from pipeline.labels.maps import LabelMapReader
    from reid_train.models.deployable import ReidModel

GROUPS = ("Head", "Body", "Shoes")
_GROUP_OF = {
    **dict.fromkeys(("hat", "hair", "sunglasses", "face", "head"), 0),
    # Pascal's lower legs are the lowest part it has, and hold the shoes.
    **dict.fromkeys(("socks", "left-shoe", "right-shoe", "lower-legs"), 2),
    **dict.fromkeys(("background", "bag"), -1),
}
IDENTITIES, IMAGES, CELLS = 24, 10, 10
BATCH = 32


def part_groups(label_set: LabelSet) -> np.ndarray:
    """int64 (P,): the place in ``GROUPS`` of each label, -1 for what is no part of a person.

    The paper colours by three groups and does not list them; these are LIP's labels as the names
    say, other sets by the same names. Everything else a person has is Body.
    """
    return np.array([_GROUP_OF.get(name, 1) for name in label_set.names])


@dataclass(frozen=True)
class PartCells:
    """M cells of feature maps: features float32 (M, D), the label each shows, the identity and the
    number of the image it is from, int64 (M,).
    """

    features: np.ndarray
    parts: np.ndarray
    pids: np.ndarray
    images: np.ndarray

    def of(self, chosen: np.ndarray) -> PartCells:
        """Some of them: places or a mask."""
        columns = (self.features, self.parts, self.pids, self.images)
        return PartCells(*(column[chosen] for column in columns))


def dense_maps(network: ReidModel, images: Tensor) -> dict[str, Tensor]:
    """What a model knows of each cell: images N,3,H,W float RGB in 0..1 -> maps N,C,h,w by name.

    ``final``: the last map or the patch tokens after the last block, of which the retrieval feature
    is made; ``projected``: CLIP's image-text space; ``level``: for convolutional trunks with
    several maps, the last before the final stage, to which pi-VL's fusion head reaches. Empty for
    trunks that have no map of the whole image (SliceNets, a few of timm's). Without side
    information, as the frozen features of prompt tuning.
    """
    from reid_train.models.pyramid import token_map

    trunk: Any = getattr(network.trunk, "trunk", network.trunk)  # beneath a neck
    x = (images - network.mean) / network.std
    if callable(getattr(trunk, "tokens", None)):
        tokens = trunk.tokens(x)
        maps = {"projected": token_map(tokens.projected[:, 1:], trunk.grid)}
        if tokens.final.ndim == 3:
            return {"final": tokens.levels[-1], **maps}
        return {"final": tokens.final, **maps, "level": tokens.levels[-1]}
    if not callable(getattr(trunk, "map", None)) or not getattr(trunk, "takes_maps", True):
        return {}
    if callable(getattr(trunk, "maps", None)):
        return {"final": trunk.map(x), "level": trunk.maps(x)[-1]}
    return {"final": trunk.map(x)}


def sample_cells(
    features: np.ndarray, labels: np.ndarray, pids: Sequence[int], *, cells: int = CELLS
) -> PartCells:
    """At most ``cells`` of each identity and part, evenly spread over all it has.

    features: float (N, D, h, w). labels: int (N, h, w), 0 = background and above 254 = unknown:
    both are left out. pids: N. Nothing is drawn at random: equal input gives equal cells.
    """
    numbers = np.asarray(pids)
    shown = (labels > 0) & (labels < 255)
    chosen: list[np.ndarray] = []
    for pid in np.unique(numbers):
        mine = shown & (numbers == pid)[:, None, None]
        for part in np.unique(labels[mine]):
            places = np.argwhere(mine & (labels == part))
            take = np.linspace(0, len(places) - 1, min(cells, len(places))).round().astype(int)
            chosen.append(places[take])
    image, row, column = np.concatenate(chosen or [np.zeros((0, 3), int)]).T
    return PartCells(
        features[image, :, row, column].astype(np.float32),
        labels[image, row, column].astype(np.int64),
        numbers[image].astype(np.int64),
        image.astype(np.int64),
    )


def read_cells(
    network: ReidModel,
    rows: Sequence[ImageRow],
    pixels: Callable[[ImageRow], np.ndarray],
    maps: LabelMapReader,
) -> dict[str, PartCells]:
    """``sample_cells`` of every one of ``dense_maps`` over the images of ``rows``.

    pixels: row -> uint8 (H, W, 3) at the model's input size. A cell has the label of most of its
    pixels.
    """
    import torch

    from reid_train.data.cells import CellGrid, to_cells

    place = next(network.parameters()).device
    trunk: Any = getattr(network.trunk, "trunk", network.trunk)
    parts, features, labels = len(maps.label_set), {}, {}
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        images = np.stack([pixels(row) for row in some])
        with torch.inference_mode():
            x = torch.from_numpy(images).to(place).permute(0, 3, 1, 2).float() / 255
            dense = dense_maps(network, x)
        read = [
            [nearest_resized(plane, network.input_size) for plane in maps[row.key]] for row in some
        ]
        label, confidence = (torch.from_numpy(np.stack(side)) for side in zip(*read, strict=True))
        for name, found in dense.items():
            grid = CellGrid.even(network.input_size, (found.shape[2], found.shape[3]))
            if hasattr(trunk, "cells"):
                grid = trunk.cells(network.input_size)
            shown = to_cells(label, confidence, grid, parts=parts).labels
            features.setdefault(name, []).append(found.float().cpu().numpy())
            labels.setdefault(name, []).append(shown.numpy())
    pids = [row.pid or 0 for row in rows]
    return {
        name: sample_cells(np.concatenate(found), np.concatenate(labels[name]), pids)
        for name, found in features.items()
    }


def part_consistency(
    features: np.ndarray,
    parts: Sequence[int] | np.ndarray,
    ids: Sequence[int] | np.ndarray,
    images: Sequence[int] | np.ndarray | None = None,
) -> dict[str, Any]:
    """How well cells of one part lie together, and those of one person among them.

    features: (M, D) float. parts, ids: M. images: M or None; pairs of cells of one image, which
    resemble each other whatever the model, are then left out of the cosines.

    ``silhouette`` (Rousseeuw 1987, cosine distances) of the parts, -1..1: the mean over parts of
    ``by_part``, itself the mean over the part's cells, so that frequent parts do not decide; a part
    of one cell counts 0. ``same_identity``, ``other_identity``: mean cosine of two cells of the
    same part, of one person and of two; ``other_part``: of two cells of different parts; each a
    mean over parts, None where no part has such a pair. ``gap``: the first less the second.
    Raises ValueError for fewer than two parts.
    """
    parts, ids = np.asarray(parts), np.asarray(ids)
    names = np.unique(parts)
    if len(names) < 2:
        raise ValueError(f"cells of {len(names)} part; expected two parts at least")
    rows = unit_rows(features)
    cosines = rows @ rows.T
    silhouettes = _silhouettes(1 - cosines, parts == names[:, None])
    apart = ~np.eye(len(rows), dtype=bool)
    if images is not None:
        apart = np.asarray(images)[:, None] != np.asarray(images)
    same = ids[:, None] == ids
    found: dict[str, list[float]] = {"same_identity": [], "other_identity": [], "other_part": []}
    for part in names:
        inside = parts == part
        block, allowed, alike = (table[inside][:, inside] for table in (cosines, apart, same))
        pairs = {"same_identity": block[allowed & alike], "other_identity": block[allowed & ~alike]}
        pairs["other_part"] = cosines[inside][:, ~inside][apart[inside][:, ~inside]]
        for name, values in pairs.items():
            if values.size:
                found[name].append(float(values.mean()))
    means = {name: float(np.mean(values)) if values else None for name, values in found.items()}
    own, other = means["same_identity"], means["other_identity"]
    by_part = {int(part): float(silhouettes[parts == part].mean()) for part in names}
    return {
        "cells": len(rows),
        "identities": len(np.unique(ids)),
        "silhouette": float(np.mean(list(by_part.values()))),
        "by_part": by_part,
        **means,
        "gap": None if own is None or other is None else own - other,
    }


def _silhouettes(distances: np.ndarray, members: np.ndarray) -> np.ndarray:
    """(M, M) distances and members bool (P, M) of a partition -> (M,) silhouettes."""
    counts = members.sum(1)
    sums = distances @ members.T  # M P
    own = members.T
    inside = sums[own] / np.maximum(counts - 1, 1)[own.argmax(1)]
    outside = np.where(own, np.inf, sums / counts).min(1)
    scale = np.maximum(inside, outside)
    values = np.divide(outside - inside, scale, out=np.zeros_like(scale), where=scale > 0)
    return np.where(counts[own.argmax(1)] > 1, values, 0.0)


def measure(cells: Mapping[str, PartCells], label_set: LabelSet) -> dict[str, Any]:
    """``part_consistency`` of every map by its name; ``by_part`` has the labels' names, and
    ``groups`` is the silhouette of ``GROUPS`` in place of labels.
    """
    measured = {}
    groups = part_groups(label_set)
    for name, found in cells.items():
        numbers = part_consistency(found.features, found.parts, found.pids, found.images)
        named = {label_set.names[part]: value for part, value in numbers["by_part"].items()}
        inside = found.of(groups[found.parts] >= 0)
        group = groups[inside.parts]
        together = (
            part_consistency(inside.features, group, inside.pids)["silhouette"]
            if len(np.unique(group)) > 1
            else None
        )
        measured[name] = {**numbers, "by_part": named, "groups": together}
    return measured
