"""Which gallery images a query must not be compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.datasets.exclusion import RULES, Rule
from pipeline.terminal.errors import ReidpipeError, nearest


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

    Rules (``pipeline.datasets.exclusion``): ``same-camera`` leaves out images of the same identity
    AND the same camera (images of other identities from that camera stay), as all published person
    evaluators do; ``same-camera-or-clothes`` those of the same identity and the same camera or
    clothes, ``same-camera-or-other-clothes`` the same camera or other clothes (LTCC, as in CAL, Gu
    et al., CVPR 2022); ``same-place`` all images of the query's camera, whoever they are of
    (SYSU-MM01, Wu et al., ICCV 2017); ``same-image`` images whose key is identical; ``none``
    nothing. Identity -1 has no special meaning: junk images are dropped when a dataset is indexed.
    """

    rule: Rule
    people: Groups
    person: np.ndarray
    # Gallery images that hide from a query whoever they are of: its own, or those of its camera.
    others: Groups | None
    other: np.ndarray | None
    q_camids: np.ndarray | None
    g_camids: np.ndarray | None
    q_clothes: np.ndarray | None
    g_clothes: np.ndarray | None

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
        q_clothes: np.ndarray | None = None,
        g_clothes: np.ndarray | None = None,
    ) -> Matches:
        """Prepare a rule; ReidpipeError when it is unknown or lacks cameras, keys or clothes."""
        if exclude not in RULES:
            raise ReidpipeError(
                f"found exclusion rule '{exclude}'{nearest(exclude, RULES)}; "
                f"expected one of {', '.join(RULES)}"
            )
        rule = RULES[exclude]
        people, person = Groups.build(q_pids, g_pids)
        others = other = cameras_q = cameras_g = clothes_q = clothes_g = None
        if rule.camera:
            cameras_q = _cameras(q_camids, "query", exclude)
            cameras_g = _cameras(g_camids, "gallery", exclude)
        if rule.clothes is not None:
            clothes_q = _clothes(q_clothes, "query", exclude)
            clothes_g = _clothes(g_clothes, "gallery", exclude)
        if rule.image:
            if q_keys is None or g_keys is None:
                raise ReidpipeError(
                    "found no image keys for the rule 'same-image'; expected keys of query and "
                    "gallery; give keys to both Embeddings or use --exclude none"
                )
            others, other = Groups.build(q_keys, g_keys)
        elif rule.everyone and cameras_q is not None and cameras_g is not None:
            others, other = Groups.build(cameras_q, cameras_g)
        return cls(rule, people, person, others, other, cameras_q, cameras_g, clothes_q, clothes_g)

    def of(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Ascending gallery indices (positives, left out) of one query."""
        same = self.people.of(int(self.person[query]))
        if self.others is not None and self.other is not None:
            hidden = self.others.of(int(self.other[query]))
            return np.setdiff1d(same, hidden, assume_unique=True), hidden
        if not self.rule.camera:
            return same, same[:0]
        own = self.rule.hides(
            *(None if side is None else side[query] for side in (self.q_camids, self.q_clothes)),
            *(None if side is None else side[same] for side in (self.g_camids, self.g_clothes)),
        )
        return same[~own], same[own]


def _cameras(camids: np.ndarray | None, side: str, exclude: str) -> np.ndarray:
    if camids is not None and camids.dtype.kind == "O" and all(c is not None for c in camids):
        camids = np.array(list(camids))
    # A column with gaps arrives as objects (None) or as floats (NaN).
    gaps = camids is not None and camids.dtype.kind == "f" and np.isnan(camids).any()
    if camids is None or camids.dtype.kind == "O" or gaps:
        raise ReidpipeError(
            f"found {side} images without a camera; the rule '{exclude}' expects a camera for "
            "each image; type --exclude same-image or --exclude none"
        )
    return camids


def _clothes(clothes: np.ndarray | None, side: str, exclude: str) -> np.ndarray:
    if clothes is None or any(worn is None or worn == "" for worn in clothes):
        raise ReidpipeError(
            f"found {side} images whose clothes are unknown; the rule '{exclude}' expects a column "
            "'clothes'; type --exclude same-camera"
        )
    return clothes
