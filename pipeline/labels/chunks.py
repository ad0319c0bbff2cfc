"""Where the maps of a shard lie in its file, so that one is read without opening HDF5 for it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.labels.shards import Shard, damaged, inflate


@dataclass(frozen=True)
class Chunks:
    """Of a shard whose maps lie as they are written here. offsets: int64 (2, n), of each label map
    and of each map of confidence; sizes: int64 (2, n), of their packed bytes; checksums: u4 (n,).

    Opening a shard takes HDF5 as long as reading fifteen maps; where maps are read at random from
    more shards than may stay open, nearly every map would need that.
    """

    path: Path
    size: tuple[int, int]
    offsets: np.ndarray
    sizes: np.ndarray
    checksums: np.ndarray

    @classmethod
    def of(cls, shard: Shard) -> Chunks | None:
        """Of an open shard; None where HDF5 has to read it."""
        found = shard.chunks()
        if found is None:
            return None
        return cls(shard.path, shard.size, *found, shard.checksums)

    def read(self, row: int, key: str) -> tuple[np.ndarray, np.ndarray]:
        """The label map of ``key`` and its steps of confidence, u1 (H, W), checked as ``Shard``
        does. Raises DamagedShard.
        """
        try:
            with self.path.open("rb") as file:
                label, steps = (self._unpacked(file, which, row) for which in (0, 1))
        except (OSError, ValueError, zlib.error) as error:
            raise damaged(self.path, f"it cannot be read ({error})") from error
        if zlib.crc32(label.data) != self.checksums[row]:
            raise damaged(self.path, f"the map of {key} fails its checksum")
        return label, steps

    def _unpacked(self, file: BinaryIO, which: int, row: int) -> np.ndarray:
        file.seek(int(self.offsets[which, row]))
        data = file.read(int(self.sizes[which, row]))
        height, width = self.size
        found = bytearray(inflate(data, height * width))
        return np.frombuffer(found, np.uint8).reshape(height, width)
