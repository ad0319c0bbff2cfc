"""Squared Euclidean distances of a few queries at a time to a whole gallery."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import cache
from typing import NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.order import pieces

# Block of gallery rows per matrix product: at 8000 x 1280 floats it stays near the caches and is
# 1.4x faster than one product over a large gallery.
BLOCK = 8000
CHUNK = 480
# Rows whose squares are added at once, so that the sums stay in the cache.
FEW = 8
# Norms up to which the numbers are float32: squared distances, (|q| + |g|)^2 at most, and where
# rows are normalised the products 2 q.g of unit queries with the gallery as it is.
LARGEST = float(np.sqrt(np.finfo(np.float32).max)) / 2
LARGEST_SCALED = float(np.finfo(np.float32).max) / 2
# The limit of BLAS threads belongs to the process: who sets it has to be alone.
_ALONE = threading.Lock()


class Shape(NamedTuple):
    """Matrix products whose entries all see the same kernel, so that equal rows give equal bits.

    A product rounds an entry by the kernel that its place falls to: register blocks cut short at
    the end of a product have kernels of their own. So a product takes a multiple of ``step``
    queries and of ``unit`` gallery rows. Of every unit, ``edge`` rows at both ends are multiplied
    again at places away from all edges, for the first ``odd`` queries of every step.
    """

    unit: int
    edge: int
    step: int
    odd: int


# OpenBLAS for AVX2 packs 320 rows at once and multiplies the first and last 8 in another way with
# the left half of a block of 12 queries.
AVX2 = Shape(unit=320, edge=8, step=12, odd=6)
PLAIN = Shape(unit=64, edge=0, step=8, odd=0)
# By the names of threadpoolctl: all core types of numpy's wheels for x86, each measured. They have
# Haswell's kernels for Zen; a library with kernels named Zen has not been met.
SHAPES: dict[str, Shape] = {
    "Haswell": AVX2,
    **dict.fromkeys(("SkylakeX", "Nehalem", "Sandybridge", "Katmai", "Prescott"), PLAIN),
}
# A library of unknown habits: both cures, and no product below ENTRIES x LEAST_DIMS.
CAREFUL = Shape(unit=320, edge=8, step=48, odd=48)
# Below 10^6 multiplications OpenBLAS takes other kernels: ENTRIES x LEAST_DIMS is more than that.
ENTRIES, LEAST_DIMS = 320 * 48, 72


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Rows divided by their L2 norm, float32; a zero row stays zero, one that is not finite so."""
    with np.errstate(over="ignore", invalid="ignore"):
        features = np.ascontiguousarray(features, dtype=np.float32)
        norms = np.sqrt(_squares(features))
        return features / np.maximum(norms, 1e-12)[:, None].astype(np.float32)


def check_lengths(query: np.ndarray, gallery: np.ndarray) -> None:
    """Raise ReidpipeError for features (Q, D) and (G, D) that are not of one length."""
    if query.shape[1] != gallery.shape[1]:
        raise ReidpipeError(
            f"found query features of length {query.shape[1]} and gallery features of length "
            f"{gallery.shape[1]}; expected the same model for both"
        )


class Distances:
    """Rows of the matrix |q|^2 + |g|^2 - 2 q.g, made in chunks inside a memory budget.

    The bits of a distance depend on its two rows and the processor alone: not on the other queries
    and gallery rows, their order, the budget, the arrays' layout or the number of threads.
    Rounding can make the distance of (nearly) equal features slightly negative, as in the
    published evaluators.

    features: query (Q, D), gallery (G, D); computed in float32. normalise: as if the rows were
    L2-normalised first; the norms of the gallery enter after the product, so that no normalised
    copy of it is made. memory_mib bounds what is allocated on top of the given features, down to
    the distances of a single query and one product of the least size. Raises ReidpipeError for
    features of different lengths, and for such as are not finite or so large that distances were
    not.
    """

    def __init__(
        self, query: np.ndarray, gallery: np.ndarray, *, normalise: bool, memory_mib: float
    ) -> None:
        check_lengths(query, gallery)
        self.query, self.gallery, self.normalise = query, gallery, normalise
        self.shape, self.threads = _habits()
        count, dims = gallery.shape
        self.width = max(LEAST_DIMS, dims)
        self.budget = memory_mib * 2**20
        self.block = max(64, min(BLOCK, int(self.budget / 4 / (4 * self.width))))
        chunk = int(self.budget / 2 / (4 * (count + 3 * self.width)))
        chunk = max(1, min(CHUNK, chunk, _round_up(len(query), self.shape.step)))
        self.chunk = chunk - chunk % self.shape.step or chunk
        self.scales = np.ones(count, np.float32)
        self.squares = np.empty(count, np.float32)
        for start in range(0, count, self.block):
            part = slice(start, start + self.block)
            squares = self._measured(gallery, part)
            if normalise:
                scales = 1 / np.maximum(np.sqrt(squares), 1e-12)
                self.scales[part] = scales
                squares *= scales**2
            self.squares[part] = squares
        for start in range(0, 0 if query is gallery else len(query), self.block):
            self._measured(query, slice(start, start + self.block))

    def _measured(self, features: np.ndarray, part: slice) -> np.ndarray:
        """Squared norms float64 of the rows of ``part``, none of which is too long."""
        with np.errstate(over="ignore"):
            squares = _squares(np.asarray(features[part], dtype=np.float32))
        most = LARGEST_SCALED if self.normalise else LARGEST
        wrong = np.flatnonzero(~(squares <= most**2))
        if len(wrong):
            raise ReidpipeError(
                f"found features of norm {np.sqrt(squares[wrong[0]]):.3g} in row "
                f"{part.start + wrong[0]}; expected finite numbers, and norms up to {most:.3g}; "
                "the model may have diverged: train it again with a lower learning rate"
            )
        return squares

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first query, distances (n, G) float32) of a few queries, ``piece_rows``, so that
        they are in the caches when they are looked at; the array is reused by the next chunk.
        """
        buffer = np.empty((self.chunk, len(self.gallery)), np.float32)
        sums = np.empty(len(self.gallery), np.float32)
        for start in range(0, len(self.query), self.chunk):
            query = np.asarray(self.query[start : start + self.chunk], dtype=np.float32)
            if self.normalise:
                query = unit_rows(query)
            out = self._multiply(query, buffer)
            squares = _squares(query).astype(np.float32)
            for first, piece in pieces(0, out):
                for row, square in zip(piece, squares[first:], strict=False):
                    if self.normalise:
                        row *= self.scales
                    row += np.add(self.squares, square, out=sums)
                yield start + first, piece

    def upper(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first, distances (n, N - first) float32) of N rows among themselves: of n rows
        from ``first`` on to these and all after them; the array is reused by the next chunk.

        So each pair is multiplied once, but for those inside a chunk: a distance has the same bits
        the other way round. Only where ``query`` is ``gallery`` and not ``normalise``.
        """
        assert self.query is self.gallery and not self.normalise
        room = np.empty(self.chunk * len(self.gallery), np.float32)
        for start in range(0, len(self.gallery), self.chunk):
            rest = copy(self)
            rest.gallery, rest.squares = self.gallery[start:], self.squares[start:]
            query = np.asarray(rest.gallery[: self.chunk], dtype=np.float32)
            width = len(rest.gallery)
            out = rest._multiply(query, room[: self.chunk * width].reshape(self.chunk, width))
            for few in range(0, len(out), FEW):
                part = slice(few, min(few + FEW, len(out)))
                out[part] += rest.squares + rest.squares[part, None]
            yield start, out

    def _multiply(self, query: np.ndarray, buffer: np.ndarray) -> np.ndarray:
        """Write -2 q.g of ``query`` (n, D) into n rows of ``buffer`` (chunk, G), return those."""
        unit, edge, step, odd = self.shape
        count = len(query)
        # A few queries fit where nothing has to be mended.
        first = odd if count <= step - odd else 0
        doubled = np.zeros((_round_up(first + count, step), self.width), np.float32)
        # A power of two: the product is exactly -2 (q.g).
        np.multiply(query, -2, out=doubled[first : first + count, : query.shape[1]])
        fits = len(doubled) <= len(buffer)
        out = buffer[first : first + count] if fits else buffer[:count]
        products, near, rest = self._plan(len(doubled))

        def multiply(part: slice) -> None:
            if self.width != query.shape[1]:
                block = self._padded(part.stop - part.start, 0, part)
            else:
                block = np.ascontiguousarray(self.gallery[part], dtype=np.float32)
            if fits:
                np.matmul(doubled, block.T, out=buffer[: len(doubled), part])
            else:
                out[:, part] = np.matmul(doubled, block.T)[first : first + count]

        def mend(asked: np.ndarray, rows: np.ndarray) -> None:
            size = unit if edge else _round_up(len(rows), unit)
            height = _round_up(max(len(asked), -(-ENTRIES // size)), step)
            some = doubled[np.pad(first + asked, (0, height - len(asked)), mode="edge")]
            product = np.matmul(some, self._padded(size, edge, rows).T)
            out[np.ix_(asked, rows)] = product[: len(asked), edge : edge + len(rows)]

        places = np.arange(count)
        tasks = []
        for asked, rows in ((places[(first + places) % step < odd], near), (places, rest)):
            inner = unit - 2 * edge if edge else max(1, len(rows))
            if len(asked):
                tasks += [(asked, rows[at : at + inner]) for at in range(0, len(rows), inner)]
        # Threads of BLAS would cut a product into others; whole products share them instead.
        share = 4 * self.block * (len(doubled) + self.width)
        workers = max(1, min(self.threads, int(self.budget / 4 / share)))
        with _ALONE, _blas().limit(limits=1), ThreadPoolExecutor(workers) as pool:
            # Memory costs less in this thread than in a new one.
            run = pool.map if workers > 1 else map
            list(run(multiply, products))
            list(run(lambda task: mend(*task), tasks))
        return out

    def _plan(self, queries: int) -> tuple[list[slice], np.ndarray, np.ndarray]:
        """Gallery rows of every large product, those of them at the edges of units, and the rest.

        The rest is less than a whole product. Both are numbers of rows (n,) int64.
        """
        unit, edge = self.shape.unit, self.shape.edge
        least = _round_up(-(-ENTRIES // queries), unit)
        whole = len(self.gallery) // unit * unit
        # Equal shares, and one for every thread if they do not get small.
        shares = max(1, -(-whole // self.block), min(self.threads, whole // (4 * least)))
        rows = max(least, _round_up(-(-whole // shares), unit))
        cuts = range(0, whole, rows)
        products = [slice(first, min(first + rows, whole)) for first in cuts]
        if products and products[-1].stop - products[-1].start < least:
            products.pop()
        done = products[-1].stop if products else 0
        places = np.arange(done)
        near = (places % unit < edge) | (places % unit >= unit - edge)
        return products, places[near], np.arange(done, len(self.gallery))

    def _padded(self, size: int, first: int, rows: slice | np.ndarray) -> np.ndarray:
        """(size, width) float32: gallery rows from place ``first`` on, zeros elsewhere."""
        block, found = np.zeros((size, self.width), np.float32), self.gallery[rows]
        block[first : first + len(found), : found.shape[1]] = found
        return block


def _squares(rows: np.ndarray) -> np.ndarray:
    """Squared norms (n,), summed in float64 so that large features do not overflow.

    The sum of a row depends on that row alone as long as rows are contiguous: strides choose
    another order of summation.
    """
    rows = np.ascontiguousarray(rows)
    return np.einsum("nd,nd->n", rows, rows, dtype=np.float64)


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


@cache
def _blas() -> ThreadpoolController:
    """The BLAS libraries of this process."""
    return ThreadpoolController().select(user_api="blas")


def _habits() -> tuple[Shape, int]:
    """The shape that suits every BLAS library here, and the threads they may use."""
    libraries = _blas().info()
    shapes = {SHAPES.get(str(library.get("architecture")), CAREFUL) for library in libraries}
    threads = max((library["num_threads"] for library in libraries), default=1)
    return shapes.pop() if len(shapes) == 1 else CAREFUL, threads
