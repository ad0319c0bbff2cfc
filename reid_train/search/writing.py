"""A gallery's files: written whole, by one process at a time, going on after a kill."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from pipeline.artifacts import atomic
from pipeline.artifacts.locks import holding, is_held
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.embeddings import FEATURES, GALLERY
from reid_train.search.about import About

LOCK = ".lock"
BLOCKS = ".blocks"  # features that are computed, of a gallery that is not yet written
NEXT = {name: f".{name}.next" for name in (FEATURES, GALLERY)}


@contextlib.contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold the gallery ``folder`` for writing: a second process waits, and says so. What a killed
    one had written whole is put in place first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with holding(folder / LOCK, f"{folder} is being written"):
        for left in folder.glob(".*.tmp-*"):  # by a killed one
            left.unlink()
        _put_in_place(folder)
        yield


def is_written(folder: Path) -> bool:
    """Whether a process holds the gallery, or was killed while it put files in place."""
    if (folder / NEXT[GALLERY]).exists():
        return True
    return is_held(folder / LOCK)


def write_gallery(folder: Path, about: About, blocks: Iterable[np.ndarray]) -> None:
    """Write or replace a gallery. blocks: the rows float32 (m, D), one after another, as many in
    all as ``about`` has names and at least one; they may come from the gallery that is replaced.

    Both files are whole under other names before either is put in place; who is killed in between
    leaves that to the next ``one_writer``.
    """
    count, start = len(about.names), 0
    folder.mkdir(parents=True, exist_ok=True)
    # Written, not mapped into memory: on a full disk that would kill the process with SIGBUS.
    digest = hashlib.sha256()
    with atomic.replacing(folder / NEXT[FEATURES]) as temporary, temporary.open("wb") as file:
        for block in blocks:
            rows = np.ascontiguousarray(block, "<f4")
            if not start:
                shape = (count, rows.shape[1])
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                start_of_file = BytesIO()
                np.lib.format.write_array_header_1_0(start_of_file, header)
                digest.update(start_of_file.getbuffer())
                file.write(start_of_file.getbuffer())
            digest.update(rows.data)
            file.write(rows.data)
            start += len(rows)
        if not start or start != count:
            raise ValueError(f"found {start} rows of features for {count} names")
    about = about.model_copy(update={"features_sha256": digest.hexdigest()})
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


def next_block(folder: Path) -> int:
    """The first number of which nothing is kept."""
    kept = (folder / BLOCKS).glob("*.json")
    return 1 + max((int(path.stem) for path in kept if path.stem.isdecimal()), default=-1)


def keep_block(
    folder: Path,
    number: int,
    made_by: dict[str, object],
    names: Sequence[str],
    digests: Sequence[str],
    features: np.ndarray,
) -> None:
    """Keep features (m, D) of images until the gallery is written. number: ``next_block`` at first,
    then one more each time. made_by: what made them.
    """
    place = folder / BLOCKS
    place.mkdir(exist_ok=True)
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
