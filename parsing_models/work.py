"""The step "maps": a label map of every image of an index, resumable, here or on a cluster."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from parsing_models.bodies import MEANING, NO_PERSON, as_bits, findings
from parsing_models.outcomes import FAILED, Outcomes, outcome
from parsing_models.parsers.catalogue import weights_file
from parsing_models.parsers.device_checks import OneClassGuard, check_device, check_precision
from pipeline import plugins
from pipeline.artifacts.processes import spread_pinned, spread_streamed
from pipeline.artifacts.running import Counter
from pipeline.datasets.index import ImageRow, read_index
from pipeline.images.decoding import Decoding, decoding_of
from pipeline.images.originals import DamagedImage, Original
from pipeline.images.pixels import decode
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.missing import Missing
from pipeline.labels.shards import NOTES, SHARD_IMAGES, number_of, shards
from pipeline.labels.writing import MapWriter, Stored
from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from parsing_models.parsers.interface import LabelMaps, Parser
    from pipeline.artifacts.steps import Job

log = logging.getLogger(__name__)

Placed = tuple[int, ImageRow]  # with the number of the shard of its map
GRID = (256, 128)
BATCH = 32
AHEAD = 3
# Of the first images with another device or precision: enough pixels to tell, little time.
CHECKED = 4
# Chunks of a GPU among several: small enough to even out, large enough to keep its queue full.
CHUNKS_PER_DEVICE = 8


@dataclass(frozen=True)
class Work:
    """All that a process needs to make maps; hashable, picklable, without a tensor in it.

    numbered: the first number of shards for images that come later than the others of their own
    shard; those before it hold none of them. command: another for each command, so that what a
    worker of a cluster remembers of a folder is never used for the next.
    """

    folder: Path
    root: Path
    model: str
    weights: Path | None
    options: str  # JSON
    flip: bool
    scales: tuple[float, ...]
    batch: int
    device: str
    threads: int
    decoding: Decoding
    precision: str = "fp32"
    plugins: tuple[str, ...] = ()
    numbered: int = 0
    command: str = ""


def parse(job: Job) -> dict[str, Any]:
    """Worker of the step "maps": one map of 256 x 128 per row of the index, by key.

    params: ``model``; optional ``options``, ``flip``, ``scales``, ``batch``, ``precision``,
    ``decoding``. files: optional ``weights``. Maps of an earlier, interrupted execution are kept.
    With ``job.scheduler`` the work is spread over that dask cluster (folders on a shared file
    system); where the device names no number and there are several GPUs, a process for each; else
    this process does it.

    Returns the summary: ``images`` stored, ``made`` now, ``seconds``, ``images_per_s``; names of
    images of whose maps ``parsing_models.bodies.findings`` says something, by finding, and of those
    that ``failed`` (file damaged or changed since ``prepare``), which have no map;
    ``same_as_fp32``, the share of equal labels on the first images, with another precision, and
    ``computed_in``, the precision of a CPU that has no units for the one asked for.
    Raises ``ReidpipeError`` when no image at all can be read, when a GPU labels images otherwise
    than the CPU, or gives them all one class.
    """
    index = read_index(job.inputs["index"])
    outcomes, made = Outcomes(), [number_of(shard) for shard in shards(job.folder)]
    done = LabelMapReader(job.folder) if made else ()
    if isinstance(done, LabelMapReader):
        outcomes.add_stored(done)
    rows = Missing(index.rows, done, made, SHARD_IMAGES)
    del done
    work = _work(job, index.root, max([rows.shards, *(number + 1 for number in made)]))
    kept, started = outcomes.stored, time.monotonic()
    for (_, row), told in zip(rows, _made(work, rows, job), strict=True):
        outcomes.add(row.key, told)
    _stored.cache_clear()  # the keys of a million images are of no more use here
    seconds = time.monotonic() - started
    failed, stored = outcomes.failed, outcomes.stored
    if failed:
        first = next(iter(failed.values()))
        if not stored:
            raise ReidpipeError(f"none of {len(failed)} images could be parsed; the first: {first}")
        log.warning("%d images have no label map; the first: %s", len(failed), first)
    summary = {
        "images": stored,
        "made": stored - kept,
        "seconds": round(seconds, 3),
        "images_per_s": round(len(rows) / seconds, 2) if rows else 0.0,
        **{finding: sorted(keys) for finding, keys in outcomes.named.items()},
        "failed": sorted(failed),
    }
    if work.precision != "fp32":
        told = LabelMapReader(job.folder).attributes
        summary["same_as_fp32"] = told["same_as_fp32"]
        if told["precision"] != work.precision:
            summary["computed_in"] = told["precision"]
    if len(summary[NO_PERSON]) > 0.5 * stored:
        log.warning(
            "no person was found in %d of %d images: are they upright crops of one person each, "
            "and does device '%s' compute correctly?",
            *(len(summary[NO_PERSON]), stored, job.device),
        )
    return summary


def _work(job: Job, root: Path, numbered: int) -> Work:
    params = job.params
    given = job.files.get("weights")
    weights = weights_file(params["model"], given, workspace=job.workspace)
    return Work(
        folder=job.folder,
        root=root,
        model=params["model"],
        weights=weights.resolve() if weights else None,
        options=json.dumps(params.get("options") or {}, sort_keys=True),
        flip=bool(params.get("flip", False)),
        scales=tuple(float(scale) for scale in params.get("scales") or (1.0,)),
        batch=int(params.get("batch") or BATCH),
        device=job.device,
        # A dask worker is one of many: it keeps to one thread.
        threads=1 if job.scheduler is not None else job.workers,
        decoding=decoding_of(params),
        precision=params.get("precision", "fp32"),
        plugins=tuple(plugin.reference for plugin in plugins.given()),
        numbered=numbered,
        command=uuid4().hex,
    )


def _made(work: Work, rows: Missing, job: Job) -> Iterable[str]:
    if not rows:
        return []
    if job.scheduler is not None:
        # A chunk is a shard: whatever a worker finished is stored, whichever worker dies.
        return spread_streamed(
            partial(make_maps, work),
            rows,
            workers=1,
            scheduler=job.scheduler,
            gpu=job.device != "cpu",
            chunk=SHARD_IMAGES,
            running=job.running,
        )
    devices = _devices(job.device)
    if len(devices) > 1:
        each = math.ceil(len(rows) / (CHUNKS_PER_DEVICE * len(devices) * SHARD_IMAGES))
        return spread_pinned(
            [partial(make_maps, replace(work, device=device)) for device in devices],
            rows,
            chunk=SHARD_IMAGES * each,
            running=job.running,
        )
    count = Counter(job.running, len(rows))
    return make_maps(work, rows, count.add)


def _devices(name: str) -> list[str]:
    """The devices to use for what a user typed: all GPUs where the name fits several."""
    from reid_train.engine.runtime import list_devices, on_cpu

    if ":" in name or on_cpu(name):
        return [name]
    # "cuda:1 (its model)" -> "cuda:1"; without a GPU the name is for the runtime to judge.
    return [text.split()[0] for text in list_devices()[1:]] or [name]


def make_maps(
    work: Work, rows: Sequence[Placed], advance: Callable[[int], Any] | None = None
) -> list[str]:
    """Make and store the maps of ``rows``, each in its shard; what became of each: ``fine``,
    findings joined by commas or ``failed: reason``.

    Decoding, computing and writing overlap: PIL, torch and HDF5 leave the interpreter free. On a
    CPU, ``work.threads`` batches are computed side by side, each by one thread: unlike threads
    inside torch this loses nothing on a busy machine, and maps do not depend on the number. A GPU
    has two batches under way, each in a stream of its own: one is copied while one is computed.
    """
    from parsing_models.parsers.interface import Parser
    from reid_train.engine.runtime import on_cpu, own_stream

    plugins.ensure(work.plugins)  # a worker of a cluster has nobody's environment
    parser = _parser(work.model, work.weights, work.options, work.device, work.precision)
    if work.scales != (1.0,) and isinstance(parser, Parser):
        parser.check(work.model, work.scales)  # nobody has tried these
    attributes = {
        **parser.attributes(flip=work.flip, scales=work.scales),
        "grid": list(GRID),
        NOTES: MEANING,
    }
    cpu = on_cpu(parser.device)
    side_by_side = work.threads if cpu else 2
    guard = OneClassGuard(parser.label_set, parser.device, work.folder)
    outcomes: list[str] = []
    checked = False
    with (
        _one_thread_each(),
        MapWriter(
            work.folder,
            parser.label_set,
            attributes,
            GRID,
            stored=_stored(work.folder, work.numbered, work.command),
        ) as writer,
        # They decode, and pack maps.
        ThreadPoolExecutor(2 if cpu else max(2, min(8, work.threads)), "files") as files,
        ThreadPoolExecutor(
            side_by_side, "compute", initializer=own_stream, initargs=(parser.device,)
        ) as computing,
    ):
        waiting: deque[tuple[Sequence[Placed], list[Any], Future[LabelMaps]]] = deque()

        def store_first() -> None:
            part, images, maps = waiting.popleft()
            outcomes.extend(_store(writer, guard, part, images, maps.result(), files))
            if advance is not None:
                advance(len(part))

        for part, images in _decoded(work, rows, files):
            read = [image for image in images if isinstance(image, np.ndarray)]
            if read and not checked:
                writer.attributes |= _checked(work, parser, read[:CHECKED])
                checked = True
            job = partial(parser.parse, read, GRID, flip=work.flip, scales=work.scales)
            waiting.append((part, images, computing.submit(job)))
            if len(waiting) > side_by_side + 1:
                store_first()
        while waiting:
            store_first()
        guard.check()
    return outcomes


@lru_cache(maxsize=1)
def _stored(folder: Path, numbered: int, command: str) -> Stored:
    """What this process knows of the folder, chunk after chunk: a shard is read once."""
    del command
    return Stored(folder, numbered)


@lru_cache(maxsize=1)
def _parser(model: str, weights: Path | None, options: str, device: str, precision: str) -> Parser:
    from parsing_models import load_parser
    from parsing_models.parsers.interface import in_precision
    from reid_train.engine.runtime import Runtime

    device = str(Runtime.create(device).device)
    return in_precision(
        load_parser(model, weights, device=device, **json.loads(options)), precision
    )


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """torch computes with one thread inside; training in this process gets back what it had."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# Parsers that this process has compared with the CPU, on their device: a chunk of a cluster's or of
# one of several GPUs is a few seconds' work, and loading the parser once more takes longer.
_compared: set[tuple[str, Path | None, str, str]] = set()


def _checked(work: Work, parser: Parser, images: list[np.ndarray]) -> dict[str, float]:
    """Compare the first maps with the CPU's, once per process, and with fp32's, where these are
    others; what the cache records about it."""
    from parsing_models import load_parser
    from parsing_models.parsers.interface import in_precision
    from reid_train.engine.runtime import on_cpu

    full = in_precision(parser, "fp32")
    here = (work.model, work.weights, work.options, str(parser.device))
    if not on_cpu(parser.device) and here not in _compared:
        reference = load_parser(work.model, work.weights, **json.loads(work.options))
        check_device(full, reference, images, GRID)
        _compared.add(here)
    if work.precision == "fp32":
        return {}
    if parser.precision == "fp32":  # of a CPU without units for another
        return {"same_as_fp32": 1.0}
    return {"same_as_fp32": check_precision(parser, full, images, GRID)}


def _decoded(
    work: Work, rows: Sequence[Placed], pool: ThreadPoolExecutor
) -> Iterator[tuple[Sequence[Placed], list[np.ndarray | DamagedImage]]]:
    """Batches of rows with their images, a few batches decoded ahead."""
    waiting: deque[tuple[Sequence[Placed], list[Future[np.ndarray | DamagedImage]]]] = deque()
    for start in range(0, len(rows) + AHEAD * work.batch, work.batch):
        if later := rows[start : start + work.batch]:
            reading = [pool.submit(_read, work.root, row, work.decoding) for _, row in later]
            waiting.append((later, reading))
        if start >= (AHEAD - 1) * work.batch and waiting:
            part, reading = waiting.popleft()
            yield part, [future.result() for future in reading]


def _read(root: Path, row: ImageRow, decoding: Decoding) -> np.ndarray | DamagedImage:
    path = root / row.path
    try:
        return decode(Original(path, row.digest), decoding=decoding)
    except DamagedImage as error:
        return error
    except OSError as error:
        return DamagedImage(f"found {path} unreadable ({error.strerror}); expected an image")


def _store(
    writer: MapWriter,
    guard: OneClassGuard,
    rows: Sequence[Placed],
    images: Sequence[np.ndarray | DamagedImage],
    maps: LabelMaps,
    files: ThreadPoolExecutor,
) -> list[str]:
    outcomes = []
    read = [
        row.key
        for (_, row), image in zip(rows, images, strict=True)
        if not isinstance(image, DamagedImage)
    ]
    ready = iter(
        [
            (
                label,
                files.submit(writer.pack, key, label, confidence),
                files.submit(findings, label),
            )
            for key, label, confidence in zip(read, maps.label, maps.confidence, strict=True)
        ]
    )
    for (number, row), image in zip(rows, images, strict=True):
        writer.begin(number)
        if isinstance(image, DamagedImage):
            outcomes.append(f"{FAILED}{image}")
            continue
        label, content, odd = next(ready)
        guard.add(label)
        if guard.images == SHARD_IMAGES:
            guard.check()  # before the writer's shard is full and on the disk
        height, width = image.shape[:2]
        # An index without digests still gets maps; what they were made from is then unknown.
        digest = row.digest or "00"
        found = odd.result()
        writer.add_packed(
            row.key,
            content.result(),
            source_size=(height, width),
            source_digest=digest,
            note=as_bits(found),
        )
        outcomes.append(outcome(found))
    return outcomes
