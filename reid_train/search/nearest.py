"""The rows most similar to a few queries: blocks of many rows, exactly the best, bounded memory."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable

import numpy as np

from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.similarity import LEAST, similarity_of

ROWS = 16384  # of a gallery that are searched at a time
QUERIES = 512  # that are multiplied at a time
WAYS = ("numpy", "faiss")
SPARE = 16  # more than are asked for of faiss, to see that nothing equal was cut off
# Norms outside this range could overflow, or vanish, in float32 squares and products.
SAFE = (1e-12, 1e15)


def way_to_search(name: str | None) -> str:
    """``numpy`` (None too) or ``faiss``, with the same results. Raises ReidpipeError for others,
    and for faiss where it is not installed.

    faiss is asked for, not taken where it is: its flat index on a CPU takes 4 to 6 times as long
    (docs/benchmarks.md).
    """
    if name is None:
        return "numpy"
    if name not in WAYS:
        raise ReidpipeError(f"found a search through '{name}'; expected one of {', '.join(WAYS)}")
    if name == "faiss" and importlib.util.find_spec("faiss") is None:
        raise ReidpipeError(
            "found no faiss; expected it for a search through it; type pip install faiss-cpu"
        )
    return name


class NormsOfRows:
    """L2 norms of a gallery's rows (n,) float32, made when first searched and kept.

    Raises ``damaged(row)`` for a row that is not finite.
    """

    def __init__(self, features: np.ndarray, damaged: Callable[[int], Exception]) -> None:
        self.norms = np.full(len(features), np.nan, np.float32)
        self.damaged = damaged

    def of(self, start: int, block: np.ndarray) -> np.ndarray:
        """Of the rows from ``start`` on, which are ``block``."""
        norms = self.norms[start : start + len(block)]
        if np.isnan(norms).any():
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                squares = np.einsum("nd,nd->n", block, block)
            odd = np.flatnonzero(~((squares > SAFE[0] ** 2) & (squares < SAFE[1] ** 2)))
            if len(odd):
                wide = np.asarray(block[odd], np.float64)
                exact = np.einsum("nd,nd->n", wide, wide)
                if not np.isfinite(exact).all():
                    raise self.damaged(start + int(odd[np.argmin(np.isfinite(exact))]))
            np.sqrt(squares, out=norms)
            if len(odd):
                norms[odd] = np.sqrt(exact)
        return norms


def nearest_rows(
    query: np.ndarray,
    features: np.ndarray,
    norms: NormsOfRows,
    *,
    top: int,
    distance: str,
    through: str,
) -> tuple[np.ndarray, np.ndarray]:
    """The ``top`` (at most n) rows most similar to each query: similarity float32 (M, top), best
    first, and row int64 (M, top); equal similarities stand by ascending row.

    query: (M, D) finite float32. features: (n, D) float32, may be a memory map. A first pass over
    each block in float32 leaves the rows that could be among the best; only their similarities are
    computed, in float64 from the two features alone. So neither the blocks, the way, the other
    queries nor the number of threads change a bit of the result.
    """
    wide = query.astype(np.float64)
    lengths = np.sqrt(np.einsum("md,md->m", wide, wide))
    # cosine: only the direction counts, and unit vectors keep the first pass inside float32
    asked = wide / np.maximum(lengths, LEAST)[:, None] if distance == "cosine" else wide
    similarity = np.full((len(query), top), -np.inf, np.float32)
    rows = np.full((len(query), top), -1, np.int64)
    for start in range(0, len(features), ROWS):
        block = _Block(np.asarray(features[start : start + ROWS]), start, norms, distance)
        for first in range(0, len(query), QUERIES):
            part = slice(first, first + QUERIES)
            margins = block.margins(lengths[part])
            floors = block.keys_of(similarity[part, -1], lengths[part]) - margins
            for place, found in enumerate(
                block.candidates(asked[part], top, floors, margins, through)
            ):
                if not len(found):
                    continue
                number = first + place
                near = block.similarities(wide[number], lengths[number], found)
                values = np.concatenate([similarity[number], near])
                places = np.concatenate([rows[number], found + start])
                # those found before are of earlier rows: a stable order keeps ties by row
                order = np.argsort(-values, kind="stable")[:top]
                similarity[number], rows[number] = values[order], places[order]
    return similarity, rows


class _Block:
    """Rows of a gallery with what ranks them: *keys*, which rise with the similarity.

    The key of a query q, of unit length for the cosine, and a row g is q.g / |g| for the cosine and
    2 q.g - |g|^2 for the Euclidean distance.
    """

    def __init__(self, rows: np.ndarray, start: int, norms: NormsOfRows, distance: str) -> None:
        self.rows, self.distance = rows, distance
        self.norms = norms.of(start, rows)
        self.longest = float(self.norms.max())

    def keys_of(self, similarity: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Keys (M,) of similarities (M,) of queries of these lengths."""
        if self.distance == "cosine":
            return similarity.astype(np.float64)
        return lengths**2 - similarity.astype(np.float64) ** 2

    def margins(self, lengths: np.ndarray) -> np.ndarray:
        """How far keys in float32 and what they are compared with may be off, (M,): D roundings of
        a sum, and as many of a norm.
        """
        share = 3 * self.rows.shape[1] * 2.0**-24 + 1e-6
        if self.distance == "cosine":
            return np.full(len(lengths), share)
        return 2 * share * (lengths + self.longest) ** 2

    def candidates(
        self, asked: np.ndarray, top: int, floors: np.ndarray, margins: np.ndarray, through: str
    ) -> list[np.ndarray]:
        """For each query the ascending rows that could be among its ``top`` best."""
        found: list[np.ndarray | None] = [None] * len(asked)
        if through == "faiss" and self.longest < SAFE[1]:
            found = self._through_faiss(asked, top, floors, margins)
        left = [place for place, rows in enumerate(found) if rows is None]
        keys = self._keys(asked[left])
        for place, row in zip(left, keys, strict=True):
            rows = np.flatnonzero(row >= floors[place])
            if len(rows) > top:
                limit = np.partition(row[rows], len(rows) - top)[len(rows) - top]
                rows = rows[row[rows] >= limit - margins[place]]
            found[place] = rows
        return [rows for rows in found if rows is not None]

    def _keys(self, asked: np.ndarray) -> np.ndarray:
        """Keys (M, rows), in float32 where that can hold them."""
        if not len(asked):
            return np.empty((0, len(self.rows)), np.float32)
        rows, norms = self.rows, self.norms
        if self.longest >= SAFE[1]:
            rows, norms = rows.astype(np.float64), norms.astype(np.float64)
        keys = asked.astype(rows.dtype) @ rows.T
        if self.distance == "cosine":
            keys /= np.maximum(norms, rows.dtype.type(LEAST))
        else:
            keys *= 2
            keys -= norms**2
        return keys

    def _through_faiss(
        self, asked: np.ndarray, top: int, floors: np.ndarray, margins: np.ndarray
    ) -> list[np.ndarray | None]:
        """As ``candidates``, by the flat index of faiss; None for a query with so many equal keys
        that some may have been cut off.
        """
        # An extra: type checkers of a plain installation must not look for it.
        faiss = importlib.import_module("faiss")

        query, count = asked.astype(np.float32), min(top + SPARE, len(self.rows))
        if self.distance == "cosine":
            unit = self.rows / np.maximum(self.norms, np.float32(LEAST))[:, None]
            # what IndexFlatIP does, without its copy of the block
            keys, places = faiss.knn(query, unit, count, metric=faiss.METRIC_INNER_PRODUCT)
        else:
            squared, places = faiss.knn(query, np.ascontiguousarray(self.rows), count)
            keys = np.einsum("md,md->m", asked, asked)[:, None] - squared
        found: list[np.ndarray | None] = []
        for place, (row, near) in enumerate(zip(keys, places, strict=True)):
            limit = max(row[min(top, count) - 1] - margins[place], floors[place])
            whole = count == len(self.rows) or row[-1] < limit
            found.append(np.sort(near[row >= limit]) if whole else None)
        return found

    def similarities(self, query: np.ndarray, length: float, rows: np.ndarray) -> np.ndarray:
        """Of a query (D,) float64 and rows by number: float32."""
        found = np.empty(len(rows), np.float32)
        slab = max(1, 2**22 // max(1, len(query)))
        for start in range(0, len(rows), slab):
            part = slice(start, start + slab)
            wide = self.rows[rows[part]].astype(np.float64)
            norms = np.sqrt(np.einsum("nd,nd->n", wide, wide))
            products = np.einsum("nd,d->n", wide, query)
            found[part] = similarity_of(products, length, norms, self.distance)
        return found
