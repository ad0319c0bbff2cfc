"""Reading label maps at random from the shards of a folder."""

from __future__ import annotations

import contextlib
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.atomic import parse_json
from pipeline.artifacts.checked import checked
from pipeline.labels.chunks import Chunks
from pipeline.labels.places import Places
from pipeline.labels.sets import LabelSet
from pipeline.labels.shards import CONFIDENCE_STEPS, NOTES, Shard, damaged, shards
from pipeline.terminal.errors import ReidpipeError

OPEN_SHARDS = 64
_OF_THE_FILE = ("schema", "label_set", "confidence_steps", "images", "complete", NOTES)


class MissingMap(ReidpipeError, KeyError):
    """No label map is stored for an image."""

    def __str__(self) -> str:  # KeyError would show the repr
        return str(self.args[0])


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
        self.attributes: dict[str, Any] = {}
        self._places = Places()
        self._starts: list[int] = []  # of each shard's first key
        self._notes: list[tuple[str, np.ndarray | None]] = []
        for number, path in enumerate(self._shards):
            with Shard(checked(path)) as shard:
                self._enter(number, shard)
        again = self._places.repeated()
        if again is not None:
            number, _ = self._at(again)
            raise damaged(self._shards[number], f"it repeats {self._places.key(again)}")
        self.label_set = _label_set(self._shards[0], self.attributes)
        self._reset()

    def _enter(self, number: int, shard: Shard) -> None:
        attributes = shard.attributes()
        if not number:
            self.attributes = attributes
        if attributes.get("label_set") != self.attributes.get("label_set"):
            raise damaged(shard.path, "its label set differs from the other shards'")
        self._starts.append(len(self._places))
        self._places.extend(shard.keys())
        self._notes.append((str(attributes.get(NOTES, "")), shard.notes()))

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._chunks: dict[int, Chunks | None] = {}

    @property
    def keys(self) -> Keys:
        """Image keys in storage order; ``keys()`` gives them too."""
        return Keys(self._places)

    @property
    def made_by(self) -> dict[str, Any]:
        """What its ``MapWriter`` was told of how the maps were made."""
        return {name: v for name, v in self.attributes.items() if name not in _OF_THE_FILE}

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every map."""
        with self._shard(0) as shard:
            return shard.size

    def noted(self, meaning: str) -> Iterator[tuple[str, int | None]]:
        """Every key with its ``note``, shard after shard."""
        for number, (told, notes) in enumerate(self._notes):
            start = self._starts[number]
            stop = (*self._starts, len(self))[number + 1]
            bits = notes.tolist() if notes is not None and told == meaning else None
            for row in range(stop - start):
                yield self._places.key(start + row), None if bits is None else bits[row]

    def note(self, key: str, meaning: str) -> int | None:
        """The bits that were noted about a map, where they mean what ``meaning`` says (the text of
        the attribute ``notes``); None where they do not, or nothing was noted.
        """
        number, row = self._place(key)
        told, notes = self._notes[number]
        return int(notes[row]) if notes is not None and told == meaning else None

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._places.find(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __getitem__(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        label, steps = self.stored(key)
        return label, steps.astype(np.float32) / CONFIDENCE_STEPS

    def stored(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """A map as it lies in its shard: label u1 (H, W), confidence in steps u1 (H, W), 0 to
        ``CONFIDENCE_STEPS``.
        """
        number, row = self._place(key)
        chunks = self._lying(number)
        if chunks is not None:
            return chunks.read(row, key)
        with self._shard(number) as shard:
            return shard.label(row), shard.confidence(row)

    def read(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Maps of several images: label u1 (N,H,W), confidence f4 (N,H,W)."""
        pairs = [self[key] for key in keys]
        return np.stack([label for label, _ in pairs]), np.stack([sure for _, sure in pairs])

    def source_digest(self, key: str) -> str:
        """First 32 hex digits of the SHA-256 of the image file the map was made from."""
        number, row = self._place(key)
        with self._shard(number) as shard:
            return shard.source(row)[1]

    def source_size(self, key: str) -> tuple[int, int]:
        """(height, width) of the image the map was made from."""
        number, row = self._place(key)
        with self._shard(number) as shard:
            return shard.source(row)[0]

    def _place(self, key: str) -> tuple[int, int]:
        place = self._places.find(key)
        if place is None:
            raise MissingMap(
                f"no label map of {key} in {self.folder} ({len(self)} maps); expected one per "
                "image; type reidpipe parse"
            )
        return self._at(place)

    def _at(self, place: int) -> tuple[int, int]:
        """Shard and row."""
        number = bisect_right(self._starts, place) - 1
        return number, place - self._starts[number]

    def _lying(self, number: int) -> Chunks | None:
        if self._process != os.getpid():
            self._reset()
        if number not in self._chunks:
            # Not kept open: an open shard takes a megabyte, what is read off it nine kilobytes.
            with Shard(checked(self._shards[number])) as shard:
                self._chunks[number] = Chunks.of(shard)
        return self._chunks[number]

    @contextlib.contextmanager
    def _shard(self, number: int) -> Iterator[Shard]:
        if self._process != os.getpid():
            self._reset()
        with self._lock:
            shard = self._open.pop(number, None) or Shard(checked(self._shards[number]))
            while len(self._open) >= OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
            self._open[number] = shard
            yield shard

    def close(self) -> None:
        """Close this process's handles; reading again re-opens them."""
        if self._process == os.getpid():
            for shard in self._open.values():
                shard.close()
        self._reset()

    def __getstate__(self) -> dict[str, Any]:
        handles = ("_open", "_lock", "_process", "_chunks")
        return {name: value for name, value in self.__dict__.items() if name not in handles}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()


def _label_set(path: Path, attributes: dict[str, Any]) -> LabelSet:
    try:
        return LabelSet.from_json(parse_json(attributes["label_set"]))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise damaged(path, f"its label set cannot be read ({error})") from error
