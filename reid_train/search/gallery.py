"""Galleries: features of many images in a folder, and the images nearest to a few queries.

``features.npy`` holds float32 (n, D), not normalised, and is opened as a memory map;
``gallery.json`` says whose features they are (``About``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts import atomic
from pipeline.artifacts.runs import Run, list_runs
from pipeline.artifacts.store import Workspace
from pipeline.terminal.errors import DamagedFile, ReidpipeError
from reid_train.evaluation.distances import Distances
from reid_train.evaluation.embeddings import (
    FEATURES,
    GALLERY,
    Embeddings,
    open_features,
    to_numpy,
)
from reid_train.evaluation.ranking import nearest_first
from reid_train.evaluation.similarity import similarities
from reid_train.models import COSINE
from reid_train.search.about import About, read_about

ROWS = 16384  # of a gallery that are searched at a time
MEMORY_MIB = 256
_LEAST = 1e-12  # norm below which a row counts as zero, as where features are normalised


@dataclass(frozen=True)
class Gallery:
    """n images that can be searched.

    names: n names, a list. pids: (n,) int64 identities, camids: (n,) int64 cameras (of type object
    where single ones are None), or None where unknown. features: (n, D) float32, not normalised;
    a memory map when opened from a folder. about: the rest of ``gallery.json``, None of a gallery
    that was never written. distance: "cosine" or "euclidean", as of the model.
    """

    names: list[str]
    features: np.ndarray
    pids: np.ndarray | None = None
    camids: np.ndarray | None = None
    about: About | None = None
    distance: str = COSINE

    def __len__(self) -> int:
        return len(self.features)

    def search(self, features: Any, *, top: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The images most similar to each of M queries.

        features: (M, D) real numbers, numpy or torch, normalised or not, by the gallery's model.
        Returns similarity float32 (M, k), the cosine in -1..1 or minus the Euclidean distance, best
        first, and row int64 (M, k), where k is ``top`` or, of a smaller gallery, all n; equal
        similarities stand by ascending row. A feature of zeros has no direction: its cosines are 0.
        Memory beside the queries and the result does not depend on n. Raises ReidpipeError for
        features of another length, that are no numbers or not finite, here or in the gallery, and
        for a ``top`` below 1.
        """
        query = self._checked(features)
        if not isinstance(top, int | np.integer) or top < 1:
            raise ReidpipeError(f"found top={top}; expected a whole number of at least 1")
        by_cosine = self.distance == COSINE
        zero = self._zero_rows if by_cosine else self._zero_rows[:0]
        blank = (np.linalg.norm(query, axis=1) < _LEAST) & by_cosine
        count = min(int(top), len(self))
        similarity = np.empty((len(query), 0), np.float32)
        rows = np.empty((len(query), 0), np.int64)
        for start in range(0, len(self), ROWS):
            block = np.asarray(self.features[start : start + ROWS])
            inside = zero[(zero >= start) & (zero < start + len(block))] - start
            best = min(count, len(block))
            near = np.empty((len(query), best), np.float32)
            places = np.empty((len(query), best), np.int64)
            distances = Distances(query, block, normalise=by_cosine, memory_mib=MEMORY_MIB)
            for first, chunk in distances.chunks():
                for number, row in enumerate(chunk, first):
                    # Ordered as similarities: rounding makes some equal whose distances are not.
                    found = similarities(row, self.distance)
                    if by_cosine:
                        np.clip(found, -1, 1, out=found)
                        found[inside] = 0
                    places[number] = nearest_first(-found, best)
                    near[number] = found[places[number]]
            near[blank], places[blank] = 0, np.arange(best)
            similarity, rows = _merged(similarity, rows, near, places + start, count)
        return similarity, rows

    def _checked(self, features: Any) -> np.ndarray:
        query = to_numpy(features)
        if query.dtype.kind not in "fiu":
            raise ReidpipeError(f"found features of type {query.dtype}; expected real numbers")
        if query.ndim != 2 or query.shape[1] != self.features.shape[1]:
            raise ReidpipeError(
                f"found features of shape {query.shape}; expected (M, {self.features.shape[1]}), "
                "of the model the gallery was made by"
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite
            query = query.astype(np.float32)
        return Embeddings(query, np.zeros(len(query), np.int64)).features

    @cached_property
    def _zero_rows(self) -> np.ndarray:
        """Ascending rows of no direction; the gallery is read once to find that all are finite."""
        found = [np.empty(0, np.int64)]
        for start in range(0, len(self), ROWS):
            block = np.asarray(self.features[start : start + ROWS])
            squares = np.einsum("nd,nd->n", block, block, dtype=np.float64)
            if not np.isfinite(squares).all():
                row = start + int(np.argmin(np.isfinite(squares)))
                raise DamagedFile(
                    f"found NaN or infinite features of {self.names[row]} (row {row}) in the "
                    "gallery; expected finite numbers; delete it and type reidpipe embed again"
                )
            found.append(start + np.flatnonzero(squares < _LEAST**2))
        return np.concatenate(found)


def _merged(
    similarity: np.ndarray, rows: np.ndarray, near: np.ndarray, places: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The best ``count`` of what was found so far and, in rows after those, in one block more."""
    similarity = np.concatenate([similarity, near], axis=1)
    rows = np.concatenate([rows, places], axis=1)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(similarity, order, 1), np.take_along_axis(rows, order, 1)


def is_gallery(folder: Path) -> bool:
    """Whether ``folder`` says of itself that it is a gallery, sound or not."""
    return (folder / GALLERY).is_file()


def open_gallery(folder: Path | str) -> Gallery:
    """The gallery that ``reidpipe embed`` wrote into ``folder``; its features are a memory map.

    Raises ReidpipeError when the folder holds none, DamagedFile when what it holds is not what was
    written there.
    """
    folder = Path(folder)
    if not is_gallery(folder):
        what = f"no {GALLERY} in {folder}" if folder.is_dir() else f"no folder {folder}"
        raise ReidpipeError(
            f"found {what}; expected a gallery; type reidpipe embed RUN DIR --out {folder}"
        )
    again = f"delete {folder} and type reidpipe embed again"
    about = read_about(folder / GALLERY, again)
    features = open_features(folder)
    if len(features) != len(about.names):
        raise DamagedFile(
            f"found {len(features)} rows in {folder / FEATURES} for the {len(about.names)} names "
            f"of {GALLERY}; expected as many; {again}"
        )
    pids, camids = (
        None if values is None else np.array(values, object if None in values else np.int64)
        for values in (about.pids, about.camids)
    )
    return Gallery(about.names, features, pids, camids, about, about.distance)


def open_gallery_of(workspace: Workspace, run: Run, folder: Path) -> tuple[Gallery, About]:
    """A gallery and what it says, whose features are by the model of ``run``.

    Raises ReidpipeError when they are by another, and as ``open_gallery``.
    """
    gallery = open_gallery(folder)
    about = gallery.about
    assert about is not None
    if about.model_key != run.model.key:
        names = [other.name for other in list_runs(workspace) if other.model.key == about.model_key]
        whose = f"run '{names[0]}'" if names else f"another model ({about.model_key[:12]})"
        raise ReidpipeError(
            f"found features by {whose} in {folder}; expected those of run '{run.name}' "
            f"({run.model.key[:12]}); type reidpipe embed {run.name} DIR --out ANOTHER"
        )
    return gallery, about


def write_gallery(folder: Path, about: About, blocks: Iterable[np.ndarray]) -> None:
    """Write or replace a gallery. blocks: the rows float32 (m, D), one after another, as many in
    all as ``about`` has names and at least one; they may come from the gallery that is replaced.
    """
    count, start, out = len(about.names), 0, None
    with (
        # Both are written before either is renamed: nothing but the renames can come apart.
        atomic.replacing(folder / GALLERY) as listed,
        atomic.replacing(folder / FEATURES) as temporary,
    ):
        content = json.dumps(about.model_dump(), indent=1, sort_keys=True)
        listed.write_text(content + "\n", encoding="utf-8")
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
