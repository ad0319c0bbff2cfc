"""Which gallery images a query must not be compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.terminal.errors import ReidpipeError, nearest

RULES = ("same-camera", "same-image", "none")


@dataclass(frozen=True)
class Groups:
    """Gallery indices by value: ``of(code)`` is the ascending list of those with that value."""

    order: np.ndarray
    bounds: np.ndarray

    @classmethod
    def build(cls, query: np.ndarray, gallery: np.ndarray) -> tuple[Groups, np.ndarray]:
        """Groups of the gallery values (G,), and for each query (Q,) the number of its group."""
        values, codes = np.unique(gallery, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        # One more, empty group answers for values the gallery does not have.
        bounds = np.searchsorted(codes[order], np.arange(len(values) + 2))
        if len(values) == 0:
            return cls(order, bounds), np.zeros(len(query), np.int64)
        found = np.searchsorted(values, query)
        known = values[np.minimum(found, len(values) - 1)] == query
        return cls(order, bounds), np.where(known, found, len(values))

    def of(self, group: int) -> np.ndarray:
        """Ascending gallery indices of one group."""
        return self.order[self.bounds[group] : self.bounds[group + 1]]


@dataclass(frozen=True)
class Matches:
    """For each query, the gallery images of its identity that count and those left out.

    Rules: ``same-camera`` leaves out images of the same identity AND the same camera (images of
    other identities from that camera stay), as all published person evaluators do; ``same-image``
    leaves out images whose key is identical; ``none`` leaves out nothing. Identity -1 has no
    special meaning: junk images are dropped when a dataset is indexed.
    """

    people: Groups
    person: np.ndarray
    images: Groups | None
    image: np.ndarray | None
    q_camids: np.ndarray | None
    g_camids: np.ndarray | None

    @classmethod
    def build(
        cls,
        exclude: str,
        *,
        q_pids: np.ndarray,
        g_pids: np.ndarray,
        q_camids: np.ndarray | None,
        g_camids: np.ndarray | None,
        q_keys: np.ndarray | None,
        g_keys: np.ndarray | None,
    ) -> Matches:
        """Prepare a rule; ReidpipeError when it is unknown or lacks the cameras or keys."""
        if exclude not in RULES:
            raise ReidpipeError(
                f"found exclusion rule '{exclude}'{nearest(exclude, RULES)}; "
                f"expected one of {', '.join(RULES)}"
            )
        people, person = Groups.build(q_pids, g_pids)
        images = image = cameras_q = cameras_g = None
        if exclude == "same-camera":
            cameras_q, cameras_g = _cameras(q_camids, "query"), _cameras(g_camids, "gallery")
        if exclude == "same-image":
            if q_keys is None or g_keys is None:
                raise ReidpipeError(
                    "found no image keys for the rule 'same-image'; expected keys of query and "
                    "gallery; give keys to both Embeddings or use --exclude none"
                )
            images, image = Groups.build(q_keys, g_keys)
        return cls(people, person, images, image, cameras_q, cameras_g)

    def of(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Ascending gallery indices (positives, left out) of one query."""
        same = self.people.of(int(self.person[query]))
        if self.q_camids is not None and self.g_camids is not None:
            own = self.g_camids[same] == self.q_camids[query]
            return same[~own], same[own]
        if self.images is not None and self.image is not None:
            identical = self.images.of(int(self.image[query]))
            return np.setdiff1d(same, identical, assume_unique=True), identical
        return same, same[:0]


def _cameras(camids: np.ndarray | None, side: str) -> np.ndarray:
    if camids is not None and camids.dtype.kind == "O" and all(c is not None for c in camids):
        camids = np.array(list(camids))
    # A column with gaps arrives as objects (None) or as floats (NaN).
    gaps = camids is not None and camids.dtype.kind == "f" and np.isnan(camids).any()
    if camids is None or camids.dtype.kind == "O" or gaps:
        raise ReidpipeError(
            f"found {side} images without a camera; the rule 'same-camera' expects a camera for "
            "each image; type --exclude same-image or --exclude none"
        )
    return camids
