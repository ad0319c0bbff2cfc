"""Galleries: features of many images in a folder, and the images nearest to a few queries.

``features.npy`` holds float32 (n, D), not normalised, and is opened as a memory map;
``gallery.json`` says whose features they are (``About``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.checked import has_digest
from pipeline.artifacts.runs import Run, list_runs
from pipeline.artifacts.store import Workspace
from pipeline.terminal.errors import DamagedFile, ReidpipeError
from reid_train.evaluation.embeddings import (
    FEATURES,
    GALLERY,
    Embeddings,
    open_features,
    to_numpy,
)
from reid_train.models import COSINE
from reid_train.search.about import About, read_about
from reid_train.search.nearest import NormsOfRows, nearest_rows, way_to_search
from reid_train.search.writing import BLOCKS, LOCK, check_not_written, is_written

CHECKED = ".checked.json"  # in which state large features were hashed
PATIENCE = 20  # looks at a gallery that is being written, a tenth of a second apart


@dataclass(frozen=True)
class Gallery:
    """n images that can be searched.

    names: n names, a list. pids: (n,) int64 identities, camids: (n,) int64 cameras (of type object
    where single ones are None), or None where unknown. What people and cameras are called is in
    ``about.identities`` and ``about.cameras``. features: (n, D) float32, not normalised;
    a memory map when opened from a folder. about: the rest of ``gallery.json``, None of a gallery
    that was never written.
    """

    names: list[str]
    features: np.ndarray
    pids: np.ndarray | None = None
    camids: np.ndarray | None = None
    about: About | None = None

    @classmethod
    def of(cls, about: About, features: np.ndarray) -> Gallery:
        """Features (n, D) float32 and what is said of them."""
        pids, camids = (
            None if values is None else np.array(values, object if None in values else np.int64)
            for values in (about.pids, about.camids)
        )
        return cls(about.names, features, pids, camids, about)

    def __len__(self) -> int:
        return len(self.features)

    def search(
        self, features: Any, *, top: int = 10, through: str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The images most similar to each of M queries.

        features: (M, D) real numbers, numpy or torch, normalised or not, by the gallery's model.
        through: ``numpy`` (None too), or ``faiss`` where that is installed, with the same results.
        Returns similarity float32 (M, k), best first, as ``similarity_of`` defines it for the
        gallery's distance (the cosine in -1..1 unless ``about`` says otherwise), and row int64
        (M, k), where k is ``top`` or, of a smaller gallery, all n; equal similarities stand by
        ascending row. A feature of zeros has cosine 0 with all. Memory beside the queries, the
        result and 4 bytes a row does not depend on n. Raises ReidpipeError for features of another
        length, that are no numbers or not finite, here or in the gallery, for a ``top`` below 1,
        and for a way that is not there.
        """
        query = self._checked(features)
        if not isinstance(top, int | np.integer) or top < 1:
            raise ReidpipeError(f"found top={top}; expected a whole number of at least 1")
        return nearest_rows(
            query,
            self.features,
            self._norms,
            top=min(int(top), len(self)),
            distance=self.distance,
            through=way_to_search(through),
        )

    @property
    def distance(self) -> str:
        """What ranks its images."""
        return COSINE if self.about is None else self.about.distance

    def _checked(self, features: Any) -> np.ndarray:
        query = to_numpy(features)
        if query.dtype.kind not in "fiu":
            raise ReidpipeError(f"found features of type {query.dtype}; expected real numbers")
        if query.ndim != 2 or query.shape[1] != self.features.shape[1]:
            raise ReidpipeError(
                f"found features of shape {query.shape}; expected (M, {self.features.shape[1]}), "
                "of the model the gallery was made by; type reidpipe embed RUN DIR for this model"
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite
            query = query.astype(np.float32)
        return Embeddings(query, np.zeros(len(query), np.int64)).features

    @cached_property
    def _norms(self) -> NormsOfRows:
        def damaged(row: int) -> DamagedFile:
            return DamagedFile(
                f"found NaN or infinite features of {self.names[row]} (row {row}) in the "
                "gallery; expected finite numbers; delete it and type reidpipe embed again"
            )

        return NormsOfRows(self.features, damaged)


def is_gallery(folder: Path) -> bool:
    """Whether ``folder`` says of itself that it is a gallery: sound or not, or yet to be."""
    return any((folder / name).exists() for name in (GALLERY, LOCK, BLOCKS))


def open_gallery(folder: Path | str) -> Gallery:
    """The gallery that ``reidpipe embed`` wrote into ``folder``; its features are a memory map.

    Raises ReidpipeError when the folder holds none, or one that is being written; DamagedFile when
    what it holds is not what was written there.
    """
    folder = Path(folder)
    for _ in range(PATIENCE):
        try:
            return read_gallery(folder)
        except ReidpipeError:
            # Between two files of one writing they need not fit; that takes milliseconds.
            if not is_written(folder):
                break
        time.sleep(0.1)
    check_not_written(folder)
    return read_gallery(folder)


def read_gallery(folder: Path) -> Gallery:
    """As ``open_gallery``, for who holds the folder for writing: nobody else is waited for."""
    if not (folder / GALLERY).is_file():
        what = f"no {GALLERY} in {folder}" if folder.is_dir() else f"no folder {folder}"
        if (folder / BLOCKS).is_dir():
            what += ", where a reidpipe embed was stopped"
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
    wanted, note = about.features_sha256, folder / CHECKED
    if wanted and not has_digest(folder / FEATURES, wanted, note=note, name=FEATURES):
        raise DamagedFile(
            f"found other bytes in {folder / FEATURES} than were written there; expected SHA-256 "
            f"{wanted[:12]}...; {again}"
        )
    return Gallery.of(about, features)


def check_model(workspace: Workspace, run: Run, folder: Path, gallery: Gallery) -> About:
    """What the gallery in ``folder`` says, if its features are by the model of ``run``. Raises
    ReidpipeError when they are by another.
    """
    about = gallery.about
    assert about is not None
    if about.model_key != run.model.key:
        names = [other.name for other in list_runs(workspace) if other.model.key == about.model_key]
        whose = f"run '{names[0]}'" if names else f"another model ({about.model_key[:12]})"
        raise ReidpipeError(
            f"found features by {whose} in {folder}; expected those of run '{run.name}' "
            f"({run.model.key[:12]}); type reidpipe embed {run.name} DIR --out ANOTHER"
        )
    return about
