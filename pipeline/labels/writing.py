"""Writing label maps: shard by shard, crash-safely, from one process or several."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from pipeline.artifacts.atomic import replacing
from pipeline.artifacts.locks import holding
from pipeline.labels.sets import LabelSet
from pipeline.labels.shards import (
    CONFIDENCE_STEPS,
    SCHEMA,
    SHARD_IMAGES,
    Shard,
    damaged,
    deflate,
    keys_of,
    number_of,
    shards,
)


class PackedMap(NamedTuple):
    """Label and confidence of an image as they will lie in the file; checksum: of the label."""

    label: bytes
    confidence: bytes
    checksum: int


class _Row(NamedTuple):
    """A map and what is known of it."""

    packed: PackedMap
    size: tuple[int, int]
    digest: bytes
    note: int


class Stored:
    """Which keys lie in the shards of a folder, each shard read once, and the next free number.

    first: shards below this number hold no key that will be asked for, and are not read. One such
    object serves all writers of a process to a folder, while nothing is deleted there. Used by who
    holds the folder's lock.
    """

    def __init__(self, folder: Path | str, first: int = 0) -> None:
        self.folder, self.next = Path(folder), first
        self._keys: set[str] = set()
        self._listed = False

    def look(self, number: int | None = None) -> None:
        """Take in what others have written since, under ``number`` too. Numbers follow one another:
        after the first time the folder is not listed again, which for each of a million images'
        shards would cost more than writing them.
        """
        if number is not None and (shard := self.path(number)).exists():
            self._read(shard)
        if self._listed:
            while (shard := self.path(self.next)).exists():
                self._read(shard)
            return
        self._listed = True
        for shard in shards(self.folder):
            if number_of(shard) >= self.next:
                self._read(shard)

    def _read(self, shard: Path) -> None:
        self.add(keys_of(shard), number_of(shard))

    def path(self, number: int) -> Path:
        """Of a shard."""
        return self.folder / f"maps-{number:05d}.h5"

    def add(self, keys: Iterable[str], number: int) -> None:
        """Keys of a shard that was written."""
        self._keys.update(keys)
        self.next = max(self.next, number + 1)

    def free(self, number: int | None) -> int:
        """``number`` where that is not taken, else the next that is free."""
        return self.next if number is None or self.path(number).exists() else number

    def __contains__(self, key: object) -> bool:
        return key in self._keys


class MapWriter:
    """Collects maps and writes them as shards of ``SHARD_IMAGES``; use it in a ``with`` block.

    attributes: JSON-plain facts about how the maps were made. size: (H, W) of every map. stored:
    what the process knows of the folder, where it writes there more than once. Several
    processes may write to one folder: an operating-system lock on the folder, which dies with its
    holder, covers choosing a number, writing and renaming, so numbers never collide and whatever
    temporary file the holder finds belongs to a dead writer. A map that another process stored
    first is dropped: keys stay unique. After an exception inside the block nothing more is written.
    """

    def __init__(
        self,
        folder: Path | str,
        label_set: LabelSet,
        attributes: Mapping[str, Any] | None = None,
        size: tuple[int, int] = (256, 128),
        *,
        stored: Stored | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.label_set = label_set
        self.attributes = dict(attributes or {})
        self.size = (int(size[0]), int(size[1]))
        self._rows: dict[str, _Row] = {}
        self._number: int | None = None
        self._stored = stored if stored is not None else Stored(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        with _folder_lock(self.folder):
            self._drop_stale_files()

    def __enter__(self) -> MapWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.flush()
            with _folder_lock(self.folder):
                self._drop_stale_files()

    def begin(self, number: int) -> None:
        """Maps added from here on lie in the shard of this number; if that is there already, in the
        next that is free (``Stored.first`` and after).
        """
        if number != self._number:
            self.flush()
            self._number = number

    def add(
        self,
        key: str,
        label: np.ndarray,
        confidence: np.ndarray,
        *,
        source_size: tuple[int, int],
        source_digest: str,
        note: int = 0,
    ) -> None:
        """Pack and store one image: see ``pack`` and ``add_packed``."""
        packed = self.pack(key, label, confidence)
        self.add_packed(
            key, packed, source_size=source_size, source_digest=source_digest, note=note
        )

    def pack(self, key: str, label: np.ndarray, confidence: np.ndarray) -> PackedMap:
        """label u1 (H, W); confidence float (H, W) in 0..1. Any thread may call it, and most of it
        leaves the interpreter free: it takes longer than all else that is done to store a map.
        Raises ``ValueError`` on maps of another shape, labels outside the set and NaN.
        """
        label = np.asarray(label)
        if label.shape != self.size or np.shape(confidence) != self.size:
            raise ValueError(f"map of {key} has shape {label.shape}, expected {self.size}")
        if label.dtype != np.uint8 or int(label.max()) >= len(self.label_set):
            raise ValueError(f"map of {key} is not u1 with labels below {len(self.label_set)}")
        if np.isnan(confidence).any():
            raise ValueError(f"map of {key} has a confidence that is NaN")
        scaled = np.clip(confidence, 0.0, 1.0)
        scaled *= CONFIDENCE_STEPS
        steps = np.rint(scaled, out=scaled).astype(np.uint8)
        checksum = zlib.crc32(np.ascontiguousarray(label).data)
        return PackedMap(deflate(label), deflate(steps), checksum)

    def add_packed(
        self,
        key: str,
        packed: PackedMap,
        *,
        source_size: tuple[int, int],
        source_digest: str,
        note: int = 0,
    ) -> None:
        """Store one image: what ``pack`` made; the image's own (height, width); hex SHA-256 of its
        file; note: bits 0..255 whose meaning the attribute ``notes`` gives. Raises ``ValueError``
        on a key given twice.
        """
        if key in self._rows:
            raise ValueError(f"{key} was added twice")
        digest = bytes.fromhex(source_digest)[:16].ljust(16, b"\0")
        self._rows[key] = _Row(packed, source_size, digest, note)
        if len(self._rows) >= SHARD_IMAGES:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered as one shard, verified and durable when this returns."""
        if not self._rows:
            return
        with _folder_lock(self.folder):
            self._stored.look(self._number)
            rows = {key: row for key, row in self._rows.items() if key not in self._stored}
            if rows:
                number = self._stored.free(self._number)
                with replacing(self._stored.path(number)) as temporary:
                    content = self._content(rows)
                    temporary.write_bytes(content)
                    _check(temporary, content, rows)
                self._stored.add(rows, number)
        self._rows.clear()

    def _drop_stale_files(self) -> None:
        for path in self.folder.glob(".maps-*.h5.tmp-*"):
            path.unlink()

    def _content(self, rows: Mapping[str, _Row]) -> bytes:
        """A shard, made in memory, where its maps are already: HDF5 cannot let go of a file that a
        full disk does not let it finish, and says so with tracebacks.
        """
        shape = (len(rows), *self.size)
        how = {"chunks": (1, *self.size), "compression": "gzip", "compression_opts": 1}
        with h5py.File(str(self.folder), "w", driver="core", backing_store=False) as file:
            for name in ("label", "confidence"):
                values: Any = file.create_dataset(name, shape, np.uint8, **how)
                for place, row in enumerate(rows.values()):
                    values.id.write_direct_chunk((place, 0, 0), getattr(row.packed, name))
            known = rows.values()
            small = {
                "key": np.array([key.encode() for key in rows]),
                "source_size": np.array([row.size for row in known], dtype=np.uint16),
                "source_digest": np.frombuffer(
                    b"".join(row.digest for row in known), np.uint8
                ).reshape(-1, 16),
                "checksum": np.array([row.packed.checksum for row in known], dtype=np.uint32),
                "note": np.array([row.note for row in known], dtype=np.uint8),
            }
            for name, values in small.items():
                file.create_dataset(name, data=values, chunks=values.shape, fletcher32=True)
            for name, value in self.attributes.items():
                plain = isinstance(value, str | int | float)
                file.attrs[name] = value if plain else json.dumps(value, sort_keys=True)
            file.attrs["schema"] = SCHEMA
            file.attrs["label_set"] = json.dumps(self.label_set.to_json())
            file.attrs["confidence_steps"] = CONFIDENCE_STEPS
            file.attrs["images"] = len(rows)
            file.attrs["complete"] = 1
            file.flush()
            return file.id.get_file_image()


def _check(path: Path, content: bytes, rows: Mapping[str, _Row]) -> None:
    """Compare what lies in a new shard with what was to be written."""
    if path.read_bytes() != content:
        raise damaged(path, "it reads back otherwise than written")
    with Shard(path) as shard:
        first = next(iter(rows.values()))
        same = shard.keys() == list(rows) and all(
            shard.sets[name].id.read_direct_chunk((0, 0, 0)) == (0, getattr(first.packed, name))
            for name in ("label", "confidence")
        )
    if not same:
        raise damaged(path, "it reads back otherwise than written")


def _folder_lock(folder: Path) -> contextlib.AbstractContextManager[object]:
    # Beside the folder: NFS locks no folders, and the artifact keeps no file of it.
    path = folder.absolute()
    return holding(path.with_name(f"{path.name}.shards.lock"), None)
