"""The files of the label-map cache: immutable HDF5 shards, each believed only when it is whole.

A shard ``maps-00000.h5`` holds up to 256 images: ``label`` u1 (n,H,W); ``confidence`` u1 (n,H,W) =
round(15 p), p the maximum soft-max; ``key`` (bytes); ``source_size`` u2 (n,2), height and width of
the image; ``source_digest`` u1 (n,16), first half of its SHA-256; ``checksum`` u4, crc32 of each
label map; ``note`` u1, bits of what its maker noted about each map (older shards have none). Maps
lie one image to a chunk under gzip-1, which every HDF5 can read. The file's attributes carry the
label set and how the maps were made (JSON text where not a plain number).
"""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipeline.terminal.errors import ReidpipeError

SCHEMA = 1
SHARD_IMAGES = 256
LARGEST_SIDE = 1 << 14  # of a map: its pixels are room that is made before they are read
CONFIDENCE_STEPS = 15
NOTES = "notes"  # the attribute that says what the bits of ``note`` mean
_SHARD = re.compile(r"maps-(\d{5,18})\.h5")
# HDF5 reports damage as any of these, depending on where it strikes.
READ_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, ArithmeticError, zlib.error)
# Name, dtype and number of dimensions; None: bytes of any length.
_DATASETS: dict[str, tuple[str | None, int]] = {
    "label": ("u1", 3),
    "confidence": ("u1", 3),
    "key": (None, 1),
    "source_size": ("u2", 2),
    "source_digest": ("u1", 2),
    "checksum": ("u4", 1),
}


class DamagedShard(ReidpipeError):
    """A shard that cannot be read back as it was written."""


def damaged(shard: Path, reason: str) -> DamagedShard:
    """The error that names a shard and what is wrong with it."""
    return DamagedShard(
        f"label maps {shard}: {reason}; expected a whole shard; type reidpipe cache verify, "
        "or delete this file and type reidpipe parse again (only its images are redone)"
    )


def shards(folder: Path | str) -> list[Path]:
    """Finished shards of ``folder`` in numeric order; files in the making are not among them."""
    found = [path for path in Path(folder).glob("maps-*.h5") if _SHARD.fullmatch(path.name)]
    return sorted(found, key=number_of)


def number_of(shard: Path) -> int:
    """7 of ``maps-00007.h5``."""
    return int(shard.stem.removeprefix("maps-"))


class Shard:
    """An open shard. Raises DamagedShard for a file that is unfinished or of another shape."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._told():
            self.file = h5py.File(path, "r")
        try:
            with self._told():
                self._check()
        except DamagedShard:
            self.file.close()
            raise

    def _check(self) -> None:
        if self.file.attrs.get("complete") != 1:
            raise damaged(self.path, "it was never finished")
        for name, ours in (("schema", SCHEMA), ("confidence_steps", CONFIDENCE_STEPS)):
            if (found := self.file.attrs.get(name, ours)) != ours:
                raise damaged(self.path, f"its {name} is {found}, which only {ours} is read of")
        images: Any = self.file.attrs["images"]
        count = int(images)
        self.sets = {name: self._dataset(name, *form) for name, form in _DATASETS.items()}
        if "note" in self.file:
            self.sets["note"] = self._dataset("note", "u1", 1)
        if any(len(values) != count for values in self.sets.values()):
            raise damaged(self.path, f"its datasets do not all hold {count} images")
        label, confidence = self.sets["label"].shape, self.sets["confidence"].shape
        if max(self.size) > LARGEST_SIDE or confidence != label:
            raise damaged(self.path, f"its maps are of {label}, their confidences of {confidence}")
        self.checksums = self.sets["checksum"][:]
        self.plain = {name: self._is_plain(name) for name in ("label", "confidence")}

    def _dataset(self, name: str, dtype: str | None, dimensions: int) -> Any:
        # Links to other files, and values that lie in them, would be followed without a word.
        link = self.file.get(name, getlink=True)
        values = self.file[name] if isinstance(link, h5py.HardLink) else None
        if not isinstance(values, h5py.Dataset) or values.external or values.is_virtual:
            raise damaged(self.path, f"its '{name}' is no dataset of its own")
        right = values.dtype.kind == "S" if dtype is None else values.dtype == np.dtype(dtype)
        if not right or values.ndim != dimensions:
            raise damaged(self.path, f"its '{name}' has type {values.dtype}, {values.ndim} axes")
        return values

    def _is_plain(self, name: str) -> bool:
        """Whether maps lie as they are written here: a chunk each, under gzip alone."""
        values = self.sets[name]
        made = values.id.get_create_plist()
        gzip = made.get_nfilters() == 1 and made.get_filter(0)[0] == h5py.h5z.FILTER_DEFLATE
        return gzip and values.chunks == (1, *values.shape[1:])

    def __len__(self) -> int:
        return len(self.checksums)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of its maps."""
        height, width = self.sets["label"].shape[1:]
        return int(height), int(width)

    def keys(self) -> list[str]:
        """Keys of its images, in order."""
        with self._told():
            return [key.decode() for key in self.sets["key"][:]]

    def notes(self) -> np.ndarray | None:
        """What was noted about each map, u1 (n,), or None."""
        with self._told():
            return self.sets["note"][:] if "note" in self.sets else None

    def attributes(self) -> dict[str, Any]:
        """The file's attributes as plain values."""
        with self._told():
            return {name: _plain(value) for name, value in self.file.attrs.items()}

    def label(self, row: int) -> np.ndarray:
        """A label map, u1 (H, W), compared with its checksum."""
        found = self._map("label", row)
        if zlib.crc32(found.data) != self.checksums[row]:
            raise damaged(self.path, f"the map of {self.keys()[row]} fails its checksum")
        return found

    def confidence(self, row: int) -> np.ndarray:
        """A map of confidence in steps, u1 (H, W), guarded by the checksum that gzip has."""
        return self._map("confidence", row)

    def _map(self, name: str, row: int) -> np.ndarray:
        values = self.sets[name]
        with self._told():
            if not self.plain[name]:
                return values[row]
            # What HDF5 does by itself, less the selection it builds for every read.
            mask, data = values.id.read_direct_chunk((row, 0, 0))
            if mask:
                return values[row]
            height, width = values.shape[1:]
            return np.frombuffer(bytearray(inflate(data, height * width)), np.uint8).reshape(
                height, width
            )

    def chunks(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Offsets in the file, int64 (2, n), and sizes, int64 (2, n), of the packed label maps and
        maps of confidence; None where a map lies otherwise than it is written here.
        """
        if not all(self.plain.values()):
            return None
        offsets, sizes = np.zeros((2, 2, len(self)), np.int64)
        with self._told():
            for which, name in enumerate(("label", "confidence")):
                lying = self.sets[name].id
                for row in range(len(self)):
                    chunk = lying.get_chunk_info_by_coord((row, 0, 0))
                    if chunk.filter_mask or chunk.byte_offset is None:
                        return None
                    offsets[which, row], sizes[which, row] = chunk.byte_offset, chunk.size
        return offsets, sizes

    def source(self, row: int) -> tuple[tuple[int, int], str]:
        """(height, width) of an image and the first 32 hex digits of its file's SHA-256."""
        with self._told():
            height, width = self.sets["source_size"][row]
            digest = self.sets["source_digest"][row].tobytes().hex()
        return (int(height), int(width)), digest

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except DamagedShard:
            raise
        except READ_ERRORS as error:
            raise damaged(self.path, f"it cannot be read ({_first_line(error)})") from error

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def deflate(values: np.ndarray) -> bytes:
    """A map as HDF5's gzip-1 stores it."""
    return zlib.compress(np.ascontiguousarray(values).data, 1)


def inflate(data: bytes, size: int) -> bytes:
    """The ``size`` bytes of a map; no more, whatever ``data`` unfolds to. Raises ValueError."""
    unfolding = zlib.decompressobj()
    found = unfolding.decompress(data, size)
    # The end of the stream, behind its last byte, holds its checksum.
    more = b"" if unfolding.eof else unfolding.decompress(unfolding.unconsumed_tail, 1)
    if len(found) != size or more or not unfolding.eof:
        raise ValueError(f"a map of other than {size} bytes")
    return found


def keys_of(shard: Path) -> list[str]:
    """Keys of a shard's images, in order."""
    with Shard(shard) as opened:
        return opened.keys()


def check_shard(shard: Path) -> list[str]:
    """Read a shard in full and compare counts and checksums; its keys when it is sound.

    Raises ``DamagedShard``.
    """
    with Shard(shard) as opened:
        keys = opened.keys()
        if len(set(keys)) != len(keys):
            raise damaged(shard, f"its datasets do not all hold {len(keys)} images")
        for row in range(len(keys)):
            opened.label(row)
            opened.confidence(row)
    return keys


def verify(folder: Path | str) -> list[str]:
    """Names of the shards that are damaged or repeat a key of an earlier one; reads every map."""
    found, seen = [], set()
    for shard in shards(folder):
        try:
            keys = check_shard(shard)
        except DamagedShard:
            found.append(shard.name)
            continue
        if seen & set(keys):
            found.append(shard.name)
        seen |= set(keys)
    return found


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
