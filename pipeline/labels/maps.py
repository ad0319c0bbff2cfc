"""The label-map cache: immutable HDF5 shards, written crash-safely, read at random.

A shard ``maps-00000.h5`` holds up to 256 images: ``label`` u1 (n,H,W); ``confidence`` u1 (n,H,W) =
round(15 p), p the maximum soft-max; ``key`` (bytes); ``source_size`` u2 (n,2), height and width of
the image; ``source_digest`` u1 (n,16), first half of its SHA-256; ``checksum`` u4, crc32 of each
label map. Maps lie one image to a chunk under gzip-1, which every HDF5 can read. The file's
attributes carry the label set and how the maps were made (JSON text where not a plain number).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipeline.artifacts.atomic import replacing
from pipeline.labels.sets import LabelSet
from pipeline.terminal.errors import ReidpipeError

SCHEMA = 1
SHARD_IMAGES = 256
CONFIDENCE_STEPS = 15
OPEN_SHARDS = 64
_SHARD = re.compile(r"maps-(\d{5,})\.h5")
# HDF5 reports damage as any of these, depending on where it strikes.
_READ_ERRORS = (OSError, RuntimeError, KeyError, UnicodeDecodeError)
_OF_THE_FILE = ("schema", "label_set", "confidence_steps", "images", "complete")
_DATASETS = ("label", "confidence", "key", "source_size", "source_digest", "checksum")


class MissingMap(ReidpipeError, KeyError):
    """No label map is stored for an image."""

    def __str__(self) -> str:  # KeyError would show the repr
        return str(self.args[0])


def shards(folder: Path | str) -> list[Path]:
    """Finished shards of ``folder`` in numeric order; files in the making are not among them."""
    found = [path for path in Path(folder).glob("maps-*.h5") if _SHARD.fullmatch(path.name)]
    return sorted(found, key=_number)


def finished_keys(folder: Path | str) -> set[str]:
    """Keys of all images whose map is stored; raises ``ReidpipeError`` naming a damaged shard."""
    return {key for shard in shards(folder) for key in _keys(shard)}


def verify(folder: Path | str) -> list[str]:
    """Names of the shards that are damaged or repeat a key of an earlier one; reads every map."""
    damaged, seen = [], set()
    for shard in shards(folder):
        try:
            keys = check_shard(shard)
        except DamagedShard:
            damaged.append(shard.name)
            continue
        if seen & set(keys):
            damaged.append(shard.name)
        seen |= set(keys)
    return damaged


class DamagedShard(ReidpipeError):
    """A shard that cannot be read back as it was written."""


def _damaged(shard: Path, reason: str) -> DamagedShard:
    return DamagedShard(
        f"label maps {shard}: {reason}; expected a whole shard; type reidpipe cache verify, "
        "or delete this file and type reidpipe parse again (only its images are redone)"
    )


def check_shard(shard: Path) -> list[str]:
    """Read a shard in full and compare counts and checksums; its keys when it is sound.

    Raises ``DamagedShard``.
    """
    with _opened(shard) as file:
        keys = _decoded(file["key"][:])
        count = int(file.attrs["images"])
        if any(len(file[name]) != count for name in _DATASETS) or len(set(keys)) != count:
            raise _damaged(shard, f"its datasets do not all hold {count} images")
        for row, expected in enumerate(file["checksum"][:]):
            if zlib.crc32(file["label"][row].tobytes()) != expected:
                raise _damaged(shard, f"the map of {keys[row]} fails its checksum")
        for row in range(count):  # gzip's own checksum guards the confidence
            file["confidence"][row]
    return keys


class MapWriter:
    """Collects maps and writes them as shards of ``SHARD_IMAGES``; use it in a ``with`` block.

    attributes: JSON-plain facts about how the maps were made. size: (H, W) of every map. Several
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
    ) -> None:
        self.folder = Path(folder)
        self.label_set = label_set
        self.attributes = dict(attributes or {})
        self.size = (int(size[0]), int(size[1]))
        self._rows: OrderedDict[str, tuple[np.ndarray, np.ndarray, tuple[int, int], bytes]]
        self._rows = OrderedDict()
        self._known: dict[str, set[str]] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        with _folder_lock(self.folder):
            self._drop_stale_files()

    def __enter__(self) -> MapWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.flush()

    def add(
        self,
        key: str,
        label: np.ndarray,
        confidence: np.ndarray,
        *,
        source_size: tuple[int, int],
        source_digest: str,
    ) -> None:
        """Store one image: label u1 (H, W); confidence float (H, W) in 0..1; the image's own
        (height, width); hex SHA-256 of its file. Raises ``ValueError`` on maps of another shape,
        labels outside the set, or a key given twice."""
        label = np.asarray(label)
        if label.shape != self.size or np.shape(confidence) != self.size:
            raise ValueError(f"map of {key} has shape {label.shape}, expected {self.size}")
        if label.dtype != np.uint8 or int(label.max()) >= len(self.label_set):
            raise ValueError(f"map of {key} is not u1 with labels below {len(self.label_set)}")
        if key in self._rows:
            raise ValueError(f"{key} was added twice")
        steps = np.rint(np.clip(confidence, 0.0, 1.0) * CONFIDENCE_STEPS).astype(np.uint8)
        digest = bytes.fromhex(source_digest)[:16].ljust(16, b"\0")
        self._rows[key] = (label.copy(), steps, source_size, digest)
        if len(self._rows) >= SHARD_IMAGES:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered as one shard, verified and durable when this returns."""
        if not self._rows:
            return
        with _folder_lock(self.folder):
            self._drop_stale_files()
            stored = self._stored_keys()
            rows = {key: row for key, row in self._rows.items() if key not in stored}
            if rows:
                taken = shards(self.folder)
                number = _number(taken[-1]) + 1 if taken else 0
                with replacing(self.folder / f"maps-{number:05d}.h5") as temporary:
                    self._write(temporary, rows)
                    if check_shard(temporary) != list(rows):
                        raise _damaged(temporary, "it reads back other keys than written")
        self._rows.clear()

    def _stored_keys(self) -> set[str]:
        for shard in shards(self.folder):
            if shard.name not in self._known:
                self._known[shard.name] = set(_keys(shard))
        return set().union(*self._known.values())

    def _drop_stale_files(self) -> None:
        for path in self.folder.glob(".maps-*.h5.tmp-*"):
            path.unlink()

    def _write(self, path: Path, rows: Mapping[str, tuple]) -> None:
        labels, steps, sizes, digests = zip(*rows.values(), strict=True)
        maps = {"chunks": (1, *self.size), "compression": "gzip", "compression_opts": 1}
        with h5py.File(path, "w") as file:
            file.create_dataset("label", data=np.stack(labels), **maps)
            file.create_dataset("confidence", data=np.stack(steps), **maps)
            small = {
                "key": np.array([key.encode() for key in rows]),
                "source_size": np.array(sizes, dtype=np.uint16),
                "source_digest": np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16),
                "checksum": np.array([zlib.crc32(x.tobytes()) for x in labels], dtype=np.uint32),
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


class Keys(tuple[str, ...]):
    """A reader's keys: an attribute, as of arrays on disk, that also answers the call that Python's
    mappings answer, so that ``dict(reader)`` works."""

    def __call__(self) -> Keys:
        return self


class LabelMapReader:
    """Random access to the maps of a folder: ``reader[key] -> (label u1 HxW, confidence f4 HxW)``.

    Opens shards when first needed, separately in every process (HDF5 handles must not cross a
    fork), at most ``OPEN_SHARDS`` at a time; safe to pickle and to share between threads.
    Raises ``ReidpipeError`` when the folder holds no maps, a damaged shard, two label sets, or one
    key twice.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._shards = shards(self.folder)
        if not self._shards:
            raise ReidpipeError(
                f"found no label maps in {self.folder}; expected maps-*.h5; type reidpipe parse"
            )
        self.attributes = _attributes(self._shards[0])
        self.label_set = LabelSet.from_json(json.loads(self.attributes["label_set"]))
        self._rows: dict[str, tuple[int, int]] = {}
        for number, shard in enumerate(self._shards):
            self._enter(number, shard)
        self._reset()

    def _enter(self, number: int, shard: Path) -> None:
        if number and _attributes(shard)["label_set"] != self.attributes["label_set"]:
            raise _damaged(shard, "its label set differs from the other shards'")
        for row, key in enumerate(_keys(shard)):
            if key in self._rows:
                raise _damaged(shard, f"it repeats {key}")
            self._rows[key] = (number, row)

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._open: OrderedDict[int, Any] = OrderedDict()

    @property
    def keys(self) -> Keys:
        """Image keys in storage order; ``keys()`` gives them too."""
        return Keys(self._rows)

    @property
    def made_by(self) -> dict[str, Any]:
        """What its ``MapWriter`` was told of how the maps were made."""
        return {name: v for name, v in self.attributes.items() if name not in _OF_THE_FILE}

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every map."""
        with self._file(0) as file:
            height, width = file["label"].shape[1:]
        return int(height), int(width)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __getitem__(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        number, row = self._place(key)
        with self._file(number) as file:
            label, steps = file["label"][row], file["confidence"][row]
        return label, steps.astype(np.float32) / CONFIDENCE_STEPS

    def read(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Maps of several images: label u1 (N,H,W), confidence f4 (N,H,W)."""
        pairs = [self[key] for key in keys]
        return np.stack([label for label, _ in pairs]), np.stack([sure for _, sure in pairs])

    def source_digest(self, key: str) -> str:
        """First 32 hex digits of the SHA-256 of the image file the map was made from."""
        number, row = self._place(key)
        with self._file(number) as file:
            return file["source_digest"][row].tobytes().hex()

    def source_size(self, key: str) -> tuple[int, int]:
        """(height, width) of the image the map was made from."""
        number, row = self._place(key)
        with self._file(number) as file:
            height, width = file["source_size"][row]
        return int(height), int(width)

    def _place(self, key: str) -> tuple[int, int]:
        try:
            return self._rows[key]
        except KeyError:
            raise MissingMap(
                f"no label map of {key} in {self.folder} ({len(self)} maps); expected one per "
                "image; type reidpipe parse"
            ) from None

    @contextlib.contextmanager
    def _file(self, number: int) -> Iterator[Any]:
        if self._process != os.getpid():
            self._reset()
        with self._lock:
            try:
                file = self._open.pop(number, None)
                if file is None:
                    file = h5py.File(self._shards[number], "r")
                    if len(self._open) >= OPEN_SHARDS:
                        self._open.popitem(last=False)[1].close()
                self._open[number] = file
                yield file
            except _READ_ERRORS as error:
                raise _damaged(self._shards[number], _first_line(error)) from error

    def close(self) -> None:
        """Close this process's handles; reading again re-opens them."""
        if self._process == os.getpid():
            for file in self._open.values():
                file.close()
        self._reset()

    def __getstate__(self) -> dict[str, Any]:
        handles = ("_open", "_lock", "_process")
        return {name: value for name, value in self.__dict__.items() if name not in handles}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()


def _number(shard: Path) -> int:
    return int(shard.stem.removeprefix("maps-"))


def _decoded(keys: np.ndarray) -> list[str]:
    return [key.decode() for key in keys]


def _keys(shard: Path) -> list[str]:
    with _opened(shard) as file:
        return _decoded(file["key"][:])


def _attributes(shard: Path) -> dict[str, Any]:
    with _opened(shard) as file:
        return {name: _plain(value) for name, value in file.attrs.items()}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


@contextlib.contextmanager
def _opened(shard: Path) -> Iterator[Any]:
    try:
        with h5py.File(shard, "r") as file:
            if file.attrs.get("complete") != 1:
                raise _damaged(shard, "it was never finished")
            yield file
    except _READ_ERRORS as error:
        raise _damaged(shard, f"it cannot be read ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    # A lock on the folder itself leaves no lock file behind in the artifact.
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
