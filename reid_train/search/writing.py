"""A gallery's files: written whole, by one process at a time, going on after a kill."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from pipeline.artifacts import atomic
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.embeddings import FEATURES, GALLERY
from reid_train.search.about import About

log = logging.getLogger(__name__)

LOCK = ".lock"
BLOCKS = ".blocks"  # features that are computed, of a gallery that is not yet written
NEXT = {name: f".{name}.next" for name in (FEATURES, GALLERY)}


@contextlib.contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold the gallery ``folder`` for writing: a second process waits, and says so. What a killed
    one had written whole is put in place first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("%s is being written by another process: waiting", folder)
        lock.acquire()
    try:
        for left in folder.glob(".*.tmp-*"):  # by a killed one
            left.unlink()
        _put_in_place(folder)
        yield
    finally:
        lock.release()


def is_written(folder: Path) -> bool:
    """Whether a process holds the gallery, or was killed while it put files in place."""
    if (folder / NEXT[GALLERY]).exists():
        return True
    if not (folder / LOCK).is_file() or not os.access(folder / LOCK, os.W_OK):
        return False
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def write_gallery(folder: Path, about: About, blocks: Iterable[np.ndarray]) -> None:
    """Write or replace a gallery. blocks: the rows float32 (m, D), one after another, as many in
    all as ``about`` has names and at least one; they may come from the gallery that is replaced.

    Both files are whole under other names before either is put in place; who is killed in between
    leaves that to the next ``one_writer``.
    """
    count, start, out = len(about.names), 0, None
    folder.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(folder / NEXT[FEATURES]) as temporary:
        for block in blocks:
            if out is None:
                shape = (count, block.shape[1])
                out = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
            out[start : start + len(block)] = block
            start += len(block)
        if out is None or start != count:
            raise ValueError(f"found {start} rows of features for {count} names")
        out.flush()
        del out
    # From here on the new gallery is the one that counts.
    atomic.write_text(folder / NEXT[GALLERY], about.text())
    _put_in_place(folder)


def _put_in_place(folder: Path) -> None:
    if not (folder / NEXT[GALLERY]).is_file():
        (folder / NEXT[FEATURES]).unlink(missing_ok=True)
        return
    if (folder / NEXT[FEATURES]).is_file():
        (folder / NEXT[FEATURES]).replace(folder / FEATURES)
    (folder / NEXT[GALLERY]).replace(folder / GALLERY)
    atomic.flush_folder(folder)


@dataclass(frozen=True)
class Computed:
    """Features that are computed and not yet in the gallery: of names -> (file, row)."""

    places: dict[str, tuple[Path, int]]
    dimension: int | None

    def rows(self, names: Sequence[str]) -> np.ndarray:
        """Features (len(names), D) float32."""
        found = np.empty((len(names), self.dimension or 0), np.float32)
        opened: dict[Path, np.ndarray] = {}
        for number, name in enumerate(names):
            file, row = self.places[name]
            if file not in opened:
                opened[file] = np.load(file, mmap_mode="r", allow_pickle=False)
            found[number] = opened[file][row]
        return found


def keep_block(
    folder: Path, made_by: dict[str, object], names: Sequence[str], digests: Sequence[str], features
) -> None:
    """Keep features (m, D) of images until the gallery is written. made_by: what made them."""
    place = folder / BLOCKS
    place.mkdir(exist_ok=True)
    number = 1 + max((int(p.stem) for p in place.glob("*.json") if p.stem.isdecimal()), default=-1)
    with (
        atomic.replacing(place / f"{number}.npy") as temporary,
        temporary.open("wb") as file,
    ):
        np.save(file, np.asarray(features, np.float32), allow_pickle=False)
    about = {"made_by": made_by, "names": list(names), "sha256": list(digests)}
    # Written last: a block without it is not there.
    atomic.write_text(place / f"{number}.json", json.dumps(about))


def kept_blocks(folder: Path, made_by: dict[str, object], digests: dict[str, str]) -> Computed:
    """Features that an earlier process kept of the images with these digests, by what makes them
    today; others are passed over.
    """
    places: dict[str, tuple[Path, int]] = {}
    dimension = None
    for path in sorted((folder / BLOCKS).glob("*.json")):
        try:
            about = atomic.parse_json(path.read_bytes())
            features = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
            if about["made_by"] != made_by or len(about["names"]) != len(features):
                continue
            for row, (name, digest) in enumerate(zip(about["names"], about["sha256"], strict=True)):
                if digests.get(name) == digest:
                    places[name] = (path.with_suffix(".npy"), row)
            dimension = features.shape[1]
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            continue  # cut by a kill: its images are computed again
    return Computed(places, dimension)


def forget_blocks(folder: Path) -> None:
    """Remove what ``keep_block`` kept: it is in the gallery."""
    shutil.rmtree(folder / BLOCKS, ignore_errors=True)


def check_not_written(folder: Path) -> None:
    """Raise ReidpipeError when the gallery is being written, or was when its writer was killed."""
    if is_written(folder):
        raise ReidpipeError(
            f"found the gallery {folder} being written; expected a finished one; wait until "
            "reidpipe embed has ended, or type it again if it was stopped"
        )
