"""Which gallery images a query must not be compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.datasets.exclusion import RULES, Rule
from pipeline.terminal.errors import ReidpipeError, nearest

# Images that are listed at one time.
LISTED = 2**18


@dataclass(frozen=True)
class Pairs:
    """Gallery images of each of n queries: of query k those from ``bounds[k]`` to ``bounds[k+1]``,
    ascending. query: (P,) 0..n-1; gallery: (P,) gallery indices; bounds: (n + 1,). All int64.
    """

    query: np.ndarray
    gallery: np.ndarray
    bounds: np.ndarray

    def __len__(self) -> int:
        return len(self.gallery)

    @property
    def sizes(self) -> np.ndarray:
        """How many each query has, (n,)."""
        return np.diff(self.bounds)

    def of(self, first: int, last: int) -> Pairs:
        """Those of the queries from ``first`` to ``last``, which are numbered from 0 again."""
        part = slice(self.bounds[first], self.bounds[last])
        bounds = self.bounds[first : last + 1] - self.bounds[first]
        return Pairs(self.query[part] - first, self.gallery[part], bounds)

    def part(self, chosen: np.ndarray) -> Pairs:
        """Those chosen by bool (P,)."""
        left = np.concatenate([[0], np.cumsum(chosen)])
        return Pairs(self.query[chosen], self.gallery[chosen], left[self.bounds])


@dataclass(frozen=True)
class Groups:
    """Gallery indices by value: ``of(code)`` is the ascending list of those with that value.

    codes: (G,) int32 the number of each image's group.
    """

    order: np.ndarray
    bounds: np.ndarray
    codes: np.ndarray

    @classmethod
    def build(cls, query: np.ndarray, gallery: np.ndarray) -> tuple[Groups, np.ndarray]:
        """Groups of the gallery values (G,), and for each query (Q,) the number of its group."""
        values, codes = np.unique(gallery, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        # One more, empty group answers for values the gallery does not have.
        bounds = np.searchsorted(codes[order], np.arange(len(values) + 2))
        groups = cls(order, bounds, codes.astype(np.int32))
        if len(values) == 0:
            return groups, np.zeros(len(query), np.int64)
        found = np.searchsorted(values, query)
        known = values[np.minimum(found, len(values) - 1)] == query
        return groups, np.where(known, found, len(values))

    def of(self, numbers: np.ndarray) -> Pairs:
        """The images of the groups ``numbers`` (n,), group by group."""
        first, sizes = self.bounds[numbers], self.bounds[numbers + 1] - self.bounds[numbers]
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        places = np.arange(bounds[-1]) + np.repeat(first - bounds[:-1], sizes)
        return Pairs(np.repeat(np.arange(len(numbers)), sizes), self.order[places], bounds)


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
    # What ``pairs`` listed last: of which queries, and theirs.
    listed: list[Any] = field(default_factory=list, repr=False, compare=False)

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
        """Prepare a rule; ReidpipeError when it is unknown or lacks cameras, keys or clothes, and
        for columns that are numbers on one side and text on the other, which would match nothing.
        """
        if not isinstance(exclude, str) or exclude not in RULES:
            raise ReidpipeError(
                f"found exclusion rule '{exclude}'{nearest(str(exclude), RULES)}; "
                f"expected one of {', '.join(RULES)}"
            )
        rule = RULES[exclude]
        people, person = Groups.build(*_comparable(q_pids, g_pids, "pids"))
        others = other = cameras_q = cameras_g = clothes_q = clothes_g = None
        if rule.camera:
            cameras_q = _cameras(q_camids, "query", exclude)
            cameras_g = _cameras(g_camids, "gallery", exclude)
            cameras_q, cameras_g = _comparable(cameras_q, cameras_g, "camids")
        if rule.clothes is not None:
            clothes_q = _clothes(q_clothes, "query", exclude)
            clothes_g = _clothes(g_clothes, "gallery", exclude)
            clothes_q, clothes_g = _comparable(clothes_q, clothes_g, "clothes")
        if rule.image:
            if q_keys is None or g_keys is None:
                raise ReidpipeError(
                    "found no image keys for the rule 'same-image'; expected keys of query and "
                    "gallery; give keys to both Embeddings or use --exclude none"
                )
            others, other = Groups.build(*_comparable(q_keys, g_keys, "keys"))
        elif rule.everyone and cameras_q is not None and cameras_g is not None:
            others, other = Groups.build(cameras_q, cameras_g)
        return cls(rule, people, person, others, other, cameras_q, cameras_g, clothes_q, clothes_g)

    def of(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Ascending gallery indices (positives, left out) of one query."""
        right, hidden = self.pairs(query, query + 1)
        return right.gallery, hidden.gallery

    def pairs(self, start: int, stop: int) -> tuple[Pairs, Pairs]:
        """(Positives, left out) of the queries from ``start`` to ``stop``, numbered from 0."""
        if not (self.listed and self.listed[0] <= start and stop <= self.listed[1]):
            # Of many queries at once, for those who ask for the next ones, or for these again.
            end = min(max(stop, start + self._together()), len(self.person))
            right, hidden = self._own(start, end)
            if self.others is not None and self.other is not None:
                hidden = self.others.of(self.other[start:end])
            self.listed[:] = start, end, right, hidden
        first, _, right, hidden = self.listed
        return right.of(start - first, stop - first), hidden.of(start - first, stop - first)

    def _together(self) -> int:
        """Of how many queries images are listed at one time."""
        sides = (self.people, self.others)
        most = sum(int(np.diff(side.bounds).max()) for side in sides if side is not None)
        return max(1, LISTED // max(1, most))

    def _own(self, start: int, stop: int) -> tuple[Pairs, Pairs]:
        """Images of the queries' people: (those that count, those left out)."""
        same = self.people.of(self.person[start:stop])
        own = self.hides(start + same.query, same.gallery)
        return same.part(~own), same.part(own)

    def hides(self, query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        """Whether each query is not compared with an image: bool, of places that broadcast."""
        if self.others is not None and self.other is not None:
            return self.others.codes[gallery] == self.other[query]
        same = self.people.codes[gallery] == self.person[query]
        if not self.rule.camera:
            return np.zeros_like(same)
        return same & self.rule.hides(
            *(None if side is None else side[query] for side in (self.q_camids, self.q_clothes)),
            *(None if side is None else side[gallery] for side in (self.g_camids, self.g_clothes)),
        )

    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """How many gallery images of each query are (positives, left out): (Q,) each."""
        step = self._together()
        found = [
            [part.sizes for part in self._own(start, min(start + step, len(self.person)))]
            for start in range(0, len(self.person), step)
        ]
        right, hidden = (np.concatenate(part) for part in zip(*found, strict=True))
        if self.others is not None and self.other is not None:
            hidden = np.diff(self.others.bounds)[self.other]
        return right, hidden


def _comparable(query: np.ndarray, gallery: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Columns (Q,) and (G,) of one kind, numbers or text; bytes become text. Raises ReidpipeError
    for columns of different kinds, of several, or with a value that is missing. name: for messages.
    """
    sides = {"query": query, "gallery": gallery}
    columns = [_of_one_kind(values, f"{side} {name}") for side, values in sides.items()]
    if all(map(len, columns)) and len({column.dtype.kind in "OU" for column in columns}) > 1:
        told = [
            f"{side} {name} that are {'text' if column.dtype.kind in 'OU' else 'numbers'}"
            for side, column in zip(sides, columns, strict=True)
        ]
        raise ReidpipeError(
            f"found {' and '.join(told)}; expected one or the other on both sides; convert one"
        )
    return columns[0], columns[1]


def _of_one_kind(values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "surrogateescape")
    kinds = set(map(type, values)) if values.dtype.kind == "O" else {values.dtype.type}
    if all(issubclass(kind, str) for kind in kinds):
        return values
    whole = all(issubclass(kind, int | np.integer | np.bool_) for kind in kinds)
    if whole or all(issubclass(kind, int | float | np.number) for kind in kinds):
        try:
            numbers = values.astype(np.int64 if whole else np.float64, copy=False)
        except OverflowError:
            numbers = values
        if (numbers == values).all():  # no NaN, and nothing beyond 63 bits
            return numbers
    told = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise ReidpipeError(
        f"found {name} of {told}, or one that is missing; expected numbers of at most 63 bits or "
        "text alone; give one for each image"
    )


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
