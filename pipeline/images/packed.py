"""Packed pixels: one array of all images, read by memory map."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.arrays import map_array
from pipeline.artifacts.checked import read_json
from pipeline.terminal.errors import ReidpipeError, nearest

PIXELS = "pixels.npy"
KEYS = "keys.json"


@dataclass(frozen=True)
class PackedImages:
    """Reader of what ``pack`` wrote; the pixels are mapped on first use and never loaded whole.

    ``size`` is (H, W), ``filter`` the resize filter's name, ``keys`` the index keys in row order.
    """

    folder: Path
    keys: list[str]
    size: tuple[int, int]
    filter: str

    @classmethod
    def open(cls, folder: Path | str) -> PackedImages:
        """Open a folder written by ``pack``; ReidpipeError when it holds none."""
        folder = Path(folder)
        if not (folder / KEYS).is_file() or not (folder / PIXELS).is_file():
            raise ReidpipeError(
                f"found no packed images in {folder}; expected {PIXELS} and {KEYS}; "
                "type `reidpipe cache verify`"
            )
        about = read_json(folder / KEYS)
        height, width = about["size"]
        return cls(folder, about["keys"], (height, width), about["filter"])

    @cached_property
    def pixels(self) -> np.ndarray:
        """uint8 (n, H, W, 3) in 0..255, RGB: a read-only memory map."""
        array = map_array(self.folder / PIXELS, "uint8 (n, H, W, 3)")
        if array.shape != (len(self.keys), *self.size, 3) or array.dtype != np.uint8:
            raise ReidpipeError(
                f"found {array.dtype} {array.shape} in {self.folder / PIXELS}; expected uint8 "
                f"{(len(self.keys), *self.size, 3)}; type `reidpipe cache verify`"
            )
        return array

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {key: place for place, key in enumerate(self.keys)}

    def row(self, key: str) -> int:
        """Row number of an index key; ReidpipeError names a key that is not packed."""
        if key not in self._rows:
            raise ReidpipeError(
                f"found no image '{key}' in {self.folder}{nearest(key, self.keys[:2000])}; "
                "expected a key of the index it was packed from"
            )
        return self._rows[key]

    def __len__(self) -> int:
        return len(self.keys)

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the file itself instead of receiving a copy of the pixels.
        return (PackedImages.open, (self.folder,))
