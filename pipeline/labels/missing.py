"""Images of an index that have no label map yet: in which order, and in which shard each lies."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Generic, Protocol, TypeVar, overload

import numpy as np


class Keyed(Protocol):
    """Of an index: what label maps are kept by."""

    @property
    def key(self) -> str: ...


Row = TypeVar("Row", bound=Keyed)


class Missing(Sequence[tuple[int, Row]], Generic[Row]):
    """Rows without a map, each with the number of its shard: shard n holds the images n * size to
    (n + 1) * size of the index, whoever makes it and whenever. Pairs are made when they are asked
    for.

    Shards of which nothing is there come first, so that slices of ``size`` are whole shards; then
    the images of those that are there in part, whose files were damaged when they were made.
    """

    def __init__(
        self, rows: Sequence[Row], done: Container[str], made: Sequence[int], size: int
    ) -> None:
        self._rows, self._size = rows, size
        places = np.fromiter((n for n, row in enumerate(rows) if row.key not in done), np.int64)
        begun = np.isin(places // size, np.array(made, np.int64))
        self._places = np.concatenate([places[~begun], places[begun]])

    @property
    def shards(self) -> int:
        """How many there are if every image has a map."""
        return -(-len(self._rows) // self._size)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> tuple[int, Row]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[tuple[int, Row]]: ...
    def __getitem__(self, place: int | slice) -> tuple[int, Row] | Sequence[tuple[int, Row]]:
        if isinstance(place, slice):
            return [self._placed(one) for one in self._places[place]]
        return self._placed(self._places[place])

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        return (self._placed(one) for one in self._places)

    def _placed(self, place: int) -> tuple[int, Row]:
        return int(place) // self._size, self._rows[place]
