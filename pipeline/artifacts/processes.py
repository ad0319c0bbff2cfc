"""One way to spread work over processes: dask, local or on a cluster."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, SupportsIndex

from pipeline.terminal.errors import ReidpipeError

_WATCH_SECONDS = 0.5
_CONNECT_SECONDS = 10
# Chunks of a worker that are under way: it never waits for its next, and no more are held.
IN_FLIGHT = 4


def spread(
    function: Callable[[list[Any]], list[Any]],
    items: Sequence[Any],
    *,
    workers: int,
    scheduler: str | None = None,
    chunk: int = 32,
    worthwhile: int = 1,
    progress: str | None = None,
) -> list[Any]:
    """Results of ``function`` for all ``items``, in their order.

    ``function`` is importable by name (or a ``functools.partial`` of such a one); it gets up to
    ``chunk`` items as a list and returns as many results. With ``scheduler`` (a dask address such
    as ``tcp://host:8786``) it runs on that cluster, else in ``workers`` local processes, or in
    this process when ``workers`` <= 1. No process is started for fewer than ``worthwhile`` items,
    where starting would cost more than it saves. Local processes are started fresh and end when
    this process dies, however it dies. ``progress`` labels a bar on stderr, on a terminal only.

    An exception of ``function`` propagates with its own type and a note that names the item.
    """
    how: dict[str, Any] = {"chunk": chunk, "worthwhile": worthwhile, "progress": progress}
    return list(spread_streamed(function, items, workers=workers, scheduler=scheduler, **how))


def spread_streamed(
    function: Callable[[list[Any]], list[Any]],
    items: Sequence[Any],
    *,
    workers: int,
    scheduler: str | None = None,
    chunk: int = 32,
    worthwhile: int = 1,
    progress: str | None = None,
) -> Generator[Any]:
    """``spread``, a result at a time. At most ``IN_FLIGHT`` chunks of a worker are sliced from
    ``items``, on their way or waiting to be taken, however many items there are: ``items`` may make
    a slice when it is asked for one.
    """
    chunks = (
        _Chunk(function, tuple(items[start : start + chunk]), start)
        for start in range(0, len(items), chunk)
    )
    workers = min(workers, math.ceil(len(items) / chunk), len(items) // worthwhile)
    with _Bar(progress, len(items)) as bar:
        if not len(items):
            parts: Iterable[list[Any]] = ()
        elif scheduler is not None:
            parts = _on_cluster(chunks, scheduler)
        elif workers <= 1:
            parts = (part() for part in chunks)
        else:
            parts = _in_processes(chunks, workers)
        for part in parts:
            yield from bar.count(part)


def _in_turn(
    submit: Callable[[_Chunk], Any], chunks: Iterable[_Chunk], at_once: Callable[[], int]
) -> Iterator[list[Any]]:
    """Results of chunks in their order. submit: starts one and gives its future. at_once: how many
    may be under way, asked anew for each, since workers of a cluster come and go.
    """
    waiting: deque[Any] = deque()
    try:
        for task in chunks:
            waiting.append(submit(task))
            while len(waiting) >= at_once():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def spread_pinned(
    functions: Sequence[Callable[[list[Any]], list[Any]]],
    items: Sequence[Any],
    *,
    chunk: int = 32,
    progress: str | None = None,
) -> list[Any]:
    """Results for all ``items``, in their order, from one local process per function.

    ``functions`` do the same, each with something of its own, such as a GPU: a process keeps its
    function and takes the next chunk whenever it is free, so a slow one holds nobody up. Otherwise
    as ``spread``: fresh processes, which end with this one; a failure propagates with a note.
    """
    starts = deque(range(0, len(items), chunk))
    done: dict[int, list[Any]] = {}
    with (
        _Bar(progress, len(items)) as bar,
        ThreadPoolExecutor(len(functions), "pinned") as threads,
    ):

        def drive(function: Callable[[list[Any]], list[Any]]) -> None:
            with _fresh_processes(1) as pool:
                try:
                    while (start := _taken(starts)) is not None:
                        task = _Chunk(function, tuple(items[start : start + chunk]), start)
                        done[start] = bar.count(pool.submit(task).result())
                except BrokenProcessPool as error:
                    starts.clear()
                    raise ReidpipeError(
                        "found a worker process killed from outside (often: not enough memory); "
                        "expected it to finish; type the command again: what is stored is kept"
                    ) from error
                except BaseException:
                    starts.clear()  # the others stop after the chunk they are at
                    raise

        busy = functions[: len(starts)]
        for driving in [threads.submit(drive, function) for function in busy]:
            driving.result()
    return [result for start in sorted(done) for result in done[start]]


def _taken(starts: deque[int]) -> int | None:
    """The next of them, None when another thread took the last."""
    try:
        return starts.popleft()
    except IndexError:
        return None


class _Watched(list[Any]):
    """A list that remembers the item last taken, so that a failure can be blamed on it."""

    current: Any = None
    taken = False

    def __iter__(self) -> Iterator[Any]:
        for item in super().__iter__():
            self.current, self.taken = item, True
            yield item

    def __getitem__(self, place: SupportsIndex | slice) -> Any:
        item = super().__getitem__(place)
        if not isinstance(place, slice):
            self.current, self.taken = item, True
        return item


@dataclass(frozen=True)
class _Chunk:
    """One task. Being opaque to dask, items that look like graph keys or tasks stay items."""

    function: Callable[[list[Any]], list[Any]]
    items: tuple[Any, ...]
    start: int

    def __call__(self) -> list[Any]:
        watched = _Watched(self.items)
        try:
            results = list(self.function(watched))
        except Exception as error:
            last = self.start + len(self.items) - 1
            what = f"item {watched.current!r}" if watched.taken else f"items {self.start} to {last}"
            error.add_note(f"while working on {what[:500]}")
            raise
        if len(results) != len(self.items):
            raise RuntimeError(
                f"{self.function} returned {len(results)} results for {len(self.items)} items"
            )
        return results


class _Bar:
    """Progress on stderr; nothing at all without a label or away from a terminal."""

    def __init__(self, label: str | None, total: int) -> None:
        self._bar = None
        if label is not None and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=label, file=sys.stderr)

    def count(self, part: list[Any]) -> list[Any]:
        if self._bar is not None:
            self._bar.update(len(part))
        return part

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _in_processes(chunks: Iterable[_Chunk], workers: int) -> Iterator[list[Any]]:
    with _fresh_processes(workers) as pool:
        try:
            yield from _in_turn(pool.submit, chunks, lambda: IN_FLIGHT * workers)
        except BrokenProcessPool as error:
            raise ReidpipeError(
                f"found a worker process killed from outside (often: not enough memory for "
                f"{workers} workers); expected it to finish; type reidpipe prepare "
                "(or parse) DATASET --workers 1 first"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _fresh_processes(count: int) -> ProcessPoolExecutor:
    # Spawned, not forked: a fork of a process with threads (torch, HDF5) can deadlock.
    return ProcessPoolExecutor(
        count,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_end_with,
        initargs=(os.getpid(),),
    )


def _on_cluster(chunks: Iterable[_Chunk], scheduler: str) -> Iterator[list[Any]]:
    from distributed import Client
    from distributed.protocol.serialize import serialize_bytes

    try:
        client = Client(scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ReidpipeError(
            f"found no dask scheduler at {scheduler}; expected a running one, such as "
            "tcp://127.0.0.1:8786; type `dask scheduler` there, or use `--workers N`"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=60)
        except TimeoutError as error:
            raise ReidpipeError(
                f"found no worker at the dask scheduler {scheduler}; expected at least one; "
                f"type `dask worker {scheduler}` on the machines that shall work"
            ) from error
        first = _ours_first()

        def at_once() -> int:
            threads: Any = client.nthreads()
            return IN_FLIGHT * max(1, sum(threads.values()))

        yield from _in_turn(
            lambda task: client.submit(first, serialize_bytes(task), pure=False), chunks, at_once
        )


def _ours_first() -> Callable[[bytes], list[Any]]:
    """What a cluster's worker calls with a task as bytes. A function in a function travels as its
    code, so it runs before the worker has looked for any module of ours: where it was started may
    lie another ``pipeline``.
    """

    def work(task: bytes) -> list[Any]:
        import importlib.util
        import sys
        from pathlib import Path

        from distributed.protocol.serialize import deserialize_bytes

        # The command's package, as reid_train.__main__ has it; nothing of it is imported.
        found = importlib.util.find_spec("reid_train")
        if found is not None and found.origin is not None:
            folder = str(Path(found.origin).parent.parent)
            if sys.path[0] != folder:
                sys.path.insert(0, folder)
        return deserialize_bytes(task)()

    return work


def _end_with(parent: int) -> None:
    """Make this worker exit soon after ``parent`` (a process id) is gone, and on Ctrl-C at once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def watch() -> None:
        # A killed parent cannot tell its workers: they notice being handed to another parent.
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
