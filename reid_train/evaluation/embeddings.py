"""Retrieval features with the identities, cameras and keys of their images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.artifacts import atomic
from pipeline.artifacts.arrays import map_array
from pipeline.artifacts.checked import read_json
from pipeline.artifacts.running import SILENT, Counter, Running
from pipeline.terminal.errors import DamagedFile, ReidpipeError

if TYPE_CHECKING:
    import torch

    from reid_train.engine.runtime import Runtime

FEATURES = "features.npy"
FEATURE_KEYS = "features.json"
GALLERY = "gallery.json"


@dataclass(frozen=True, init=False)
class Embeddings:
    """Features of N images and what the evaluation must know about them.

    features: (N, D) float, numpy or torch (any device). pids: (N,) int identities. camids: (N,)
    int cameras; None, or None for single images, where unknown. keys: (N,) str image names.
    clothes: (N,) str, equal where somebody wears the same; None where unknown.
    All fields are numpy afterwards. Raises ReidpipeError when lengths differ or a feature is
    NaN or infinite (a diverged model would otherwise be ranked in silence).
    """

    features: np.ndarray
    pids: np.ndarray
    camids: np.ndarray | None
    keys: np.ndarray | None
    clothes: np.ndarray | None

    def __init__(
        self, features: Any, pids: Any, camids: Any = None, keys: Any = None, clothes: Any = None
    ) -> None:
        features = to_numpy(features)
        if features.ndim != 2:
            raise ReidpipeError(f"found features of shape {features.shape}; expected (N, D)")
        put = object.__setattr__
        put(self, "features", features)
        columns = {"pids": pids, "camids": camids, "keys": keys, "clothes": clothes}
        for name, values in columns.items():
            column = None if values is None else to_numpy(values)
            if column is not None and column.shape != (len(features),):
                raise ReidpipeError(
                    f"found {name} of shape {column.shape} for {len(features)} features; "
                    f"expected ({len(features)},)"
                )
            put(self, name, column)
        # 4096 rows at a time: no mask of a whole gallery.
        for start in range(0, len(features), 4096):
            if not np.isfinite(features[start : start + 4096]).all():
                raise ReidpipeError(
                    "found NaN or infinite features; expected finite numbers; "
                    "the model has diverged: train it again with a lower learning rate"
                )

    def __len__(self) -> int:
        return len(self.features)


def to_numpy(values: Any) -> np.ndarray:
    """A numpy view or copy of an array, a tensor on any device (bfloat16 too) or a list."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if "bfloat16" in str(values.dtype):
            values = values.float()
        return values.numpy()
    return np.asarray(values)


Encoder = Callable[..., "torch.Tensor"]


def embed(
    model: Encoder,
    pixels: np.ndarray,
    rows: Sequence[int] | np.ndarray,
    *,
    runtime: Runtime,
    batch: int = 64,
    flip: bool = False,
    camids: np.ndarray | None = None,
    views: np.ndarray | None = None,
    joined: Callable[[torch.Tensor], torch.Tensor] | None = None,
    running: Running = SILENT,
) -> np.ndarray:
    """Features of packed images: float32 (len(rows), D), not normalised, in the order of ``rows``;
    float64 where the model is computed in ``fp64``.

    model: called as ``model(images N,3,H,W float in 0..1 RGB, camids=, views=)`` on
    ``runtime.device``. pixels: uint8 (n, H, W, 3) RGB, may be a memory map. rows: row numbers.
    camids, views: (len(rows),) int64, given only to models with side information.
    flip: the feature is the SUM of those of the image and of its mirror image; after the L2
    normalisation of the evaluation this equals their mean (fast-reid, CLIP-ReID's siblings and
    Simple-ReID sum too). joined: what is made of it then (``compared``). Memory does not depend on
    the number of images but for the result.
    """
    import torch

    from reid_train.engine.arithmetic import full

    rows = np.asarray(rows, dtype=np.int64)
    # A memory map is read fastest in file order; the result is put back in the caller's order.
    order = np.argsort(rows, kind="stable")
    result: np.ndarray | None = None
    count = Counter(running, len(rows))
    with torch.inference_mode():
        for place in _batches(order, batch):
            block = torch.from_numpy(np.ascontiguousarray(pixels[rows[place]]))
            images = (
                block.to(runtime.device).permute(0, 3, 1, 2).to(runtime.dtype).div_(255)
            )  # N 3 H W
            side = {
                name: torch.from_numpy(values[place]).to(runtime.device)
                for name, values in (("camids", camids), ("views", views))
                if values is not None
            }
            with runtime.autocast():
                features = full(model(images, **side))
                if flip:
                    features = features + full(model(images.flip(3), **side))
                if joined is not None:
                    features = joined(features)
            values = features.cpu().numpy()
            if result is None:
                result = np.empty((len(rows), values.shape[1]), values.dtype)
            result[place] = values
            count.add(len(place))
    if result is None:
        raise ReidpipeError("found no image to embed; expected at least one")
    return result


def _batches(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def save_features(folder: Path, features: np.ndarray, keys: Sequence[str]) -> None:
    """Write ``features.npy`` (N, D) float32 and ``features.json`` (the N keys) into ``folder``."""
    with (
        atomic.replacing(folder / FEATURES) as temporary,
        temporary.open("wb") as file,
    ):
        np.save(file, features, allow_pickle=False)
    atomic.write_json(folder / FEATURE_KEYS, list(keys))


def load_features(folder: Path) -> tuple[np.ndarray, list[str]]:
    """What ``save_features`` wrote, or the features and names of a gallery: a read-only memory map
    float32 (N, D) and its keys. Errors as ``open_features``.
    """
    features = open_features(folder)
    if (folder / GALLERY).is_file():
        return features, read_json(folder / GALLERY)["names"]
    return features, read_json(folder / FEATURE_KEYS)


def open_features(folder: Path) -> np.ndarray:
    """``features.npy`` of ``folder`` as a read-only memory map float32 (N, D), none of it read.

    Raises ReidpipeError when there is none, DamagedFile when it is cut or holds anything else.
    """
    path = folder / FEATURES
    if not path.is_file():
        raise ReidpipeError(
            f"found no {FEATURES} in {folder}; expected the folder of an evaluation or a gallery; "
            "type another"
        )
    features = map_array(path, "float32 (N, D)")
    if features.dtype != np.float32 or features.ndim != 2:
        raise DamagedFile(
            f"found {features.dtype} {features.shape} in {path}; expected float32 (N, D); make it "
            "again"
        )
    return features
