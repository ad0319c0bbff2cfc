"""One way to spread work over processes: dask, local or on a cluster."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex

from pipeline.artifacts import torchrun
from pipeline.artifacts.running import SILENT, Counter, Running
from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from distributed import Client

    from pipeline.artifacts.executors.cluster import Cluster

_WATCH_SECONDS = 0.5
# Chunks of a worker that are under way: it never waits for its next, and no more are held.
IN_FLIGHT = 4


def spread(
    function: Callable[[list[Any]], list[Any]],
    items: Sequence[Any],
    *,
    workers: int,
    scheduler: str | Cluster | None = None,
    gpu: bool = False,
    chunk: int = 32,
    worthwhile: int = 1,
    running: Running = SILENT,
    unit: str = "images",
) -> list[Any]:
    """Results of ``function`` for all ``items``, in their order.

    ``function`` is importable by name (or a ``functools.partial`` of such a one); it gets up to
    ``chunk`` items as a list and returns as many results. With ``scheduler`` (a dask address such
    as ``tcp://host:8786``, a scheduler file or a ``Cluster``) it runs on that cluster, and on the
    one whose worker calls this, where one does; ``gpu``: each chunk takes a GPU of those that
    workers announce. Else it runs in ``workers`` local processes, or in this process when
    ``workers`` <= 1. No process is started for fewer than ``worthwhile`` items,
    where starting would cost more than it saves. Local processes are started fresh and end when
    this process dies, however it dies. ``running`` is told how many items, called ``unit``, are
    done.

    An exception of ``function`` propagates with its own type and a note that names the item.
    """
    streamed = spread_streamed(
        function,
        items,
        workers=workers,
        scheduler=scheduler,
        gpu=gpu,
        chunk=chunk,
        worthwhile=worthwhile,
        running=running,
        unit=unit,
    )
    return list(streamed)


def spread_streamed(
    function: Callable[[list[Any]], list[Any]],
    items: Sequence[Any],
    *,
    workers: int,
    scheduler: str | Cluster | None = None,
    gpu: bool = False,
    chunk: int = 32,
    worthwhile: int = 1,
    running: Running = SILENT,
    unit: str = "images",
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
    bar = Counter(running, len(items), unit)
    if not len(items):
        parts: Iterable[list[Any]] = ()
    elif scheduler is not None:
        parts = _on_cluster(chunks, scheduler, gpu)
    elif workers <= 1:
        parts = (part() for part in chunks)
    else:
        parts = _in_processes(chunks, workers)
    for part in parts:
        yield from bar.count(part)


def _in_turn(
    submit: Callable[[_Chunk], Any],
    chunks: Iterable[_Chunk],
    at_once: Callable[[], int],
    give_up: Callable[[list[Any]], None],
) -> Iterator[list[Any]]:
    """Results of chunks in their order. submit: starts one and gives its future. at_once: how many
    may be under way, asked anew for each, since workers of a cluster come and go. give_up: is given
    the futures that nobody waits for any more.
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
        if waiting:
            give_up(list(waiting))


def spread_pinned(
    functions: Sequence[Callable[[list[Any]], list[Any]]],
    items: Sequence[Any],
    *,
    chunk: int = 32,
    running: Running = SILENT,
    unit: str = "images",
) -> list[Any]:
    """Results for all ``items``, in their order, from one local process per function.

    ``functions`` do the same, each with something of its own, such as a GPU: a process keeps its
    function and takes the next chunk whenever it is free, so a slow one holds nobody up. Otherwise
    as ``spread``: fresh processes, which end with this one; a failure propagates with a note.
    """
    starts = deque(range(0, len(items), chunk))
    done: dict[int, list[Any]] = {}
    bar = Counter(running, len(items), unit)
    with ThreadPoolExecutor(len(functions), "pinned") as threads:

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


def _in_processes(chunks: Iterable[_Chunk], workers: int) -> Iterator[list[Any]]:
    with _fresh_processes(workers) as pool:
        try:
            # What is left of them the pool gives up when it is shut down.
            yield from _in_turn(pool.submit, chunks, lambda: IN_FLIGHT * workers, lambda _: None)
        except (KeyboardInterrupt, GeneratorExit):
            _end_workers()
            raise
        except BrokenProcessPool as error:
            raise ReidpipeError(
                f"found a worker process killed from outside (often: not enough memory for "
                f"{workers} workers); expected it to finish; type reidpipe prepare "
                "(or parse) DATASET --workers 1 first"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _end_workers() -> None:
    """Of a command that is stopped: Ctrl-C reaches its processes too, but other signals only it."""
    for worker in multiprocessing.active_children():
        worker.terminate()


def _fresh_processes(count: int) -> ProcessPoolExecutor:
    # Spawned, not forked: a fork of a process with threads (torch, HDF5) can deadlock.
    return ProcessPoolExecutor(
        count,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_end_with,
        initargs=(os.getpid(),),
    )


def _on_cluster(
    chunks: Iterable[_Chunk], scheduler: str | Cluster, gpu: bool
) -> Iterator[list[Any]]:
    from distributed.protocol.serialize import serialize_bytes
    from distributed.scheduler import KilledWorker

    from pipeline.artifacts.executors.fitness import ours_first
    from pipeline.artifacts.executors.needs import GPU, announced
    from pipeline.artifacts.executors.threads import current

    first = ours_first()

    # As this step's own: a worker may have been given others, or none yet.
    threads = current()

    def work(task: bytes) -> list[Any]:
        first()
        from distributed.protocol.serialize import deserialize_bytes

        from pipeline.artifacts.executors.threads import computing_with

        if threads is None:
            return deserialize_bytes(task)()
        with computing_with(threads):
            return deserialize_bytes(task)()

    with _client_for(scheduler) as client:
        resources = {GPU: 1} if gpu and announced(client) else None
        # A step at work goes before steps that have not begun.
        placing: dict[str, Any] = {"pure": False, "priority": 10, "resources": resources}

        def submit(task: _Chunk) -> Any:
            return client.submit(work, serialize_bytes(task), **placing)

        def at_once() -> int:
            threads: Any = client.nthreads()
            return IN_FLIGHT * max(1, sum(threads.values()))

        def give_up(futures: list[Any]) -> None:
            client.cancel([future for future in futures if not future.done()], force=True)

        try:
            yield from _in_turn(submit, chunks, at_once, give_up)
        except KilledWorker as error:
            raise ReidpipeError(
                f"found {len(error.args) and error.allowed_failures + 1} workers of {scheduler} "
                "that died at the same piece of work (often: not enough memory); expected them to "
                "finish; start them with more memory, then type the command again: what is stored "
                "is kept"
            ) from error


@contextlib.contextmanager
def _client_for(scheduler: str | Cluster) -> Iterator[Client]:
    """A client for chunks. A step that is itself a task of a worker hands them to that worker's own
    cluster and leaves its place to them, so that even one worker with one thread gets on.
    """
    from distributed import get_client, get_worker, secede

    from pipeline.artifacts.executors.cluster import Cluster, connect

    with contextlib.suppress(ValueError):  # no worker's process
        get_worker()
        client = get_client()
        with contextlib.suppress(
            KeyError, AttributeError
        ):  # it has left, or is a thread of its own
            secede()
        yield client
        return
    with connect(scheduler if isinstance(scheduler, Cluster) else Cluster(scheduler)) as client:
        yield client


def _end_with(parent: int) -> None:
    """Make this worker exit soon after ``parent`` (a process id) is gone, and on Ctrl-C at once; it
    is none of torchrun's.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torchrun.leave()

    def watch() -> None:
        # A killed parent cannot tell its workers: they notice being handed to another parent.
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
