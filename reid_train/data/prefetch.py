"""Batches made by threads while the previous one is computed on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

Given = TypeVar("Given")
Item = TypeVar("Item")


def prefetch(
    given: Iterable[Given],
    make: Callable[[Given], Item] | None = None,
    *,
    threads: int = 1,
    depth: int | None = None,
) -> Generator[Item, None, None]:
    """``make`` of everything ``given`` (without it, what is given), in the order in which it is
    given, whatever the number of ``threads``; at most ``depth`` (``threads`` + 2) are begun ahead.

    ``given`` is asked by one thread at a time. An exception of either is raised here, in its place,
    and nothing after it. The threads end when this iterator is exhausted, closed or forgotten.
    """
    making = _Making(iter(given), make, threads + 2 if depth is None else depth)
    workers = [
        threading.Thread(target=making.work, name="prefetch", daemon=True) for _ in range(threads)
    ]
    for worker in workers:
        worker.start()
    try:
        yield from making.items()
    finally:
        making.stop()
        for worker in workers:
            worker.join()


class _Making:
    """What the threads share. ``ready``: number -> (item, error, whether there is more)."""

    def __init__(self, given: Iterator[Any], make: Callable[[Any], Any] | None, depth: int) -> None:
        self.given, self.make = given, make
        self.turn = threading.Lock()
        self.taken = 0
        self.room = threading.Semaphore(depth)
        self.changed = threading.Condition()
        self.ready: dict[int, tuple[Any, BaseException | None, bool]] = {}
        self.over = False

    def work(self) -> None:
        while True:
            with self.turn:
                self.room.acquire()
                if self.over:
                    self.room.release()  # for the next in turn
                    return
                number = self.taken
                self.taken += 1
                try:
                    item = next(self.given)
                except StopIteration:
                    self.over = True
                    self._put(number, None, None, False)
                    return
                except BaseException as error:  # handed to the consumer, who raises it
                    self.over = True
                    self._put(number, None, error, False)
                    return
            try:
                item = item if self.make is None else self.make(item)
            except BaseException as error:
                self._put(number, None, error, False)
                return
            self._put(number, item, None, True)
            del item  # it is the consumer's: nothing is kept while this thread waits

    def items(self) -> Iterator[Any]:
        number = 0
        while True:
            with self.changed:
                while number not in self.ready:
                    self.changed.wait()
                item, error, more = self.ready.pop(number)
            self.room.release()
            if error is not None:
                raise error
            if not more:
                return
            yield item
            del item
            number += 1

    def stop(self) -> None:
        """Nothing more is taken; who waits for room, or for a turn, leaves."""
        self.over = True
        self.room.release()

    def _put(self, *entry: Any) -> None:
        number, *rest = entry
        with self.changed:
            self.ready[number] = tuple(rest)
            self.changed.notify_all()
