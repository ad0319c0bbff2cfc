"""One way to spread work over processes: dask, local or on a cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex

from pipeline.artifacts.running import SILENT, Counter, Running
from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from distributed import Client

    from pipeline.artifacts.executors.cluster import Cluster

_WATCH_SECONDS = 0.5


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
    chunks = [
        _Chunk(function, tuple(items[start : start + chunk]), start)
        for start in range(0, len(items), chunk)
    ]
    workers = min(workers, len(chunks), len(items) // worthwhile)
    bar = Counter(running, len(items), unit)
    if not chunks:
        parts = []
    elif scheduler is not None:
        parts = _on_cluster(chunks, scheduler, gpu, bar)
    elif workers <= 1:
        parts = [bar.count(part()) for part in chunks]
    else:
        parts = _in_processes(chunks, workers, bar)
    return [result for part in parts for result in part]


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


def _in_processes(chunks: list[_Chunk], workers: int, bar: Counter) -> list[list[Any]]:
    import dask.multiprocessing
    from dask.callbacks import Callback

    def finished(_key: Any, result: Any, *_: Any) -> None:
        bar.count(result)

    names = [("chunk", number) for number in range(len(chunks))]
    graph = {name: (task,) for name, task in zip(names, chunks, strict=True)}
    with _fresh_processes(workers) as pool:
        try:
            with Callback(posttask=finished):
                results: Any = dask.multiprocessing.get(
                    graph, names, pool=pool, chunksize=1, optimize_graph=False
                )
                return list(results)
        except KeyboardInterrupt:
            _end_workers()
            raise
        except BrokenProcessPool as error:
            raise ReidpipeError(
                f"found a worker process killed from outside (often: not enough memory for "
                f"{workers} workers); expected it to finish; type reidpipe prepare "
                "(or parse) DATASET --workers 1 first"
            ) from error
        except dask.multiprocessing.RemoteException as error:
            # dask's stand-in prints a worker's traceback as its message; hand on the original.
            original = error.exception
            original.add_note(f"in a worker process:\n{error.traceback}")
            raise original from None
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
    chunks: list[_Chunk], scheduler: str | Cluster, gpu: bool, bar: Counter
) -> list[list[Any]]:
    from distributed import as_completed
    from distributed.protocol.serialize import serialize_bytes
    from distributed.scheduler import KilledWorker

    from pipeline.artifacts.executors.fitness import ours_first
    from pipeline.artifacts.executors.needs import GPU, announced

    first = ours_first()

    def work(task: bytes) -> list[Any]:
        first()
        from distributed.protocol.serialize import deserialize_bytes

        return deserialize_bytes(task)()

    with _client_for(scheduler) as client:
        resources = {GPU: 1} if gpu and announced(client) else None
        # A step at work goes before steps that have not begun.
        placing: dict[str, Any] = {"pure": False, "priority": 10, "resources": resources}
        futures = [client.submit(work, serialize_bytes(task), **placing) for task in chunks]
        try:
            for future in as_completed(futures, loop=client.loop):
                bar.count(future.result())
            return [future.result() for future in futures]
        except KilledWorker as error:
            raise ReidpipeError(
                f"found {len(error.args) and error.allowed_failures + 1} workers of {scheduler} "
                "that died at the same piece of work (often: not enough memory); expected them to "
                "finish; start them with more memory, then type the command again: what is stored "
                "is kept"
            ) from error
        finally:
            client.cancel([future for future in futures if not future.done()], force=True)


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
    """Make this worker exit soon after ``parent`` (a process id) is gone, and on Ctrl-C at once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def watch() -> None:
        # A killed parent cannot tell its workers: they notice being handed to another parent.
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
