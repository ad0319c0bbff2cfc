"""Our evaluation beside the usual full-argsort evaluator, in one process, as ratios.

    python -m benchmarks.evaluation --scale 0.25         # a quarter of the queries, whole gallery
    python -m benchmarks.evaluation --scale 0.1 --dims 3072 --rerank
    python -m benchmarks.evaluation --statistics --scale 1 --dims 512    # what intervals cost
    python -m benchmarks.evaluation --rows --scale 1 [--peers FOLDER]    # beside other people's

Market-1501 size: 3368 queries, 15913 gallery images, 751 identities, 6 cameras; features are
identity centres + camera offsets + noise. ``--scale`` takes that share of the queries for the
evaluation and of all images for re-ranking. Seconds are CPU seconds of this process, so set
OMP_NUM_THREADS=1 for the cost of one core. The other evaluator is written from the description
of the published ones: squared distances as one matrix, one argsort of it all, a gather of the
matches, AP per query. ``--statistics`` takes what step "evaluation" does with distances, with and
without all that ``statistics.json`` needs, in turn. ``--rows`` are those of the table of
``python -m benchmarks``; with ``--peers`` beside other people's own evaluators
(``benchmarks/peers.py``).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import evaluators, from_features
from benchmarks.row import Row, line
from pipeline.artifacts import atomic
from reid_train.evaluation import Embeddings, evaluate, evaluate_distances, rerank_distances
from reid_train.evaluation.metrics import score
from reid_train.evaluation.protocols import STANDARD
from reid_train.evaluation.ranking import match_rule
from reid_train.evaluation.statistics.chance import chance_map
from reid_train.evaluation.statistics.summary import Scored, summarise
from reid_train.evaluation.watchers import Watchers, distances_between
from reid_train.models import COSINE

QUERIES, GALLERY, IDENTITIES, CAMERAS = 3368, 15913, 751, 6
TRAINED = 2.58  # noise at which 1280 features have mAP .86, as trained ones
GOALS = {"CLIP-ReID's": "30x", "torchreid's compiled": "20x", "fast-reid's compiled": "15x"}


def main() -> None:
    parser = argparse.ArgumentParser(description="our evaluation beside the usual one")
    parser.add_argument("--scale", type=float, default=0.25, help="share of the problem (0..1]")
    parser.add_argument("--dims", type=int, default=1280)
    parser.add_argument("--noise", type=float, default=2.5, help="greater is harder")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--gallery", type=int, default=GALLERY)
    parser.add_argument("--rerank", action="store_true", help="also k-reciprocal re-ranking")
    parser.add_argument("--statistics", action="store_true", help="with and without intervals")
    parser.add_argument("--rows", action="store_true", help="the rows of the table alone")
    parser.add_argument("--peers", type=Path, help="folder of other people's checkouts")
    options = parser.parse_args()
    if options.rows:
        for row in rows(options.peers, scale=options.scale, repeat=options.repeat):
            print(line(row))
        return
    queries = max(1, round(QUERIES * options.scale))
    rng = np.random.default_rng(0)
    query, gallery = people(rng, (queries, options.gallery), options.dims, options.noise)
    if options.statistics:
        compare_statistics(query, gallery, options)
        return
    ids = (query.pids, gallery.pids, query.camids, gallery.camids)
    print(f"{queries} queries x {len(gallery)} gallery, {options.dims} dims, noise {options.noise}")

    def usual() -> tuple[float, np.ndarray]:
        return argsort_evaluator(squared_distances(query.features, gallery.features), *ids)

    dist = squared_distances(query.features, gallery.features)
    tasks: dict[str, Callable[[], Any]] = {
        "matrix product alone": lambda: query.features @ gallery.features.T,
        "usual, from features": usual,
        "ours, from features": lambda: evaluate(query, gallery, normalise=False),
        "usual, distances given": lambda: argsort_evaluator(dist, *ids),
        "ours, distances given": lambda: evaluate_distances(dist, *ids),
    }
    seconds = measure(tasks, options.repeat)
    ours, (usual_map, usual_cmc) = evaluate(query, gallery, normalise=False), usual()
    print(f"mAP {ours.mAP:.6f}, differs by {abs(ours.mAP - usual_map):.1e}; "
          f"CMC differs by {np.abs(ours.cmc - usual_cmc).max():.1e}")  # fmt: skip
    for kind in ("from features", "distances given"):
        ratio = seconds[f"usual, {kind}"] / seconds[f"ours, {kind}"]
        print(f"{kind}: usual / ours = {ratio:.2f} in time")
    limit = seconds["ours, from features"] / seconds["matrix product alone"]
    print(f"ours / matrix product alone = {limit:.2f} in time")
    peaks = [peak(tasks[name]) for name in ("usual, from features", "ours, from features")]
    print(f"memory: usual {peaks[0]:.0f} MiB, ours {peaks[1]:.0f} MiB at a budget of 1024 MiB, "
          f"{peak(lambda: evaluate(query, gallery, memory_mib=64)):.0f} MiB at 64")  # fmt: skip
    if options.rerank:
        compare_reranking(rng, options)


def rows(peers: Path | None = None, *, scale: float = 0.25, repeat: int = 3) -> Iterator[Row]:
    """Evaluation given distances; ``eval`` from features beside one product, and beside an
    evaluator of the usual kind.
    """
    queries, size = max(1, round(QUERIES * scale)), f"{round(QUERIES * scale)} x {GALLERY}"
    query, gallery = people(np.random.default_rng(0), (queries, GALLERY), 1280, TRAINED)
    ids = (query.pids, gallery.pids, query.camids, gallery.camids)
    dist = squared_distances(query.features, gallery.features)
    others = {"the usual argsort": argsort_evaluator} | (evaluators(peers) if peers else {})
    tasks: dict[str, Callable[[], Any]] = {
        name: lambda other=other: other(dist, *ids) for name, other in others.items()
    }
    tasks |= {
        "ours": lambda: evaluate_distances(dist, *ids),
        "one reading": lambda: dist.max(axis=1),
    }
    seconds = measure(tasks, repeat, told=False)
    memory = peak(tasks["ours"])
    for name in others:
        limit = seconds[name] / seconds["one reading"]
        yield Row(
            f"evaluation of given distances, mAP .86, {size}",
            seconds[name] / seconds["ours"], "x", f"faster than {name}", GOALS.get(name, "30x"),
            f"reading them once: {limit:.0f}x", memory,
        )  # fmt: skip
    usual = from_features(peers) if peers else None
    tasks = {
        "theirs": (
            (lambda: usual(query.features, gallery.features, *ids))
            if usual is not None
            else lambda: argsort_evaluator(
                squared_distances(query.features, gallery.features), *ids
            )
        ),
        "product": lambda: query.features @ gallery.features.T,
        "eval": lambda: evaluated(query, gallery, intervals=False),
        "with intervals": lambda: evaluated(query, gallery, intervals=True),
    }
    seconds = measure(tasks, repeat, told=False)
    limit = seconds["theirs"] / seconds["product"]
    other = "CLIP-ReID's evaluator" if usual is not None else "the usual argsort"
    for task, goals in (("eval", ("1.3x", "6x")), ("with intervals", ("", "6x"))):
        what = f"{task.replace('eval', 'eval without intervals')}, from features, D 1280, {size}"
        memory = peak(tasks[task])
        yield Row(
            what, seconds[task] / seconds["product"], "x", "the time of one matrix product",
            goals[0], "the product: 1x", memory,
        )  # fmt: skip
        yield Row(
            what, seconds["theirs"] / seconds[task], "x", f"faster than {other}", goals[1],
            f"the product alone: {limit:.1f}x", memory,
        )  # fmt: skip


def evaluated(query: Embeddings, gallery: Embeddings, *, intervals: bool) -> None:
    """What step "evaluation" makes of features, written: ranking and threshold, and with
    ``intervals`` all of ``statistics.json``.
    """
    assert query.camids is not None and gallery.camids is not None
    matches = match_rule(query, gallery, "same-camera")
    cameras = (query.camids, gallery.camids) if intervals else None
    watchers = Watchers.of(query, gallery, "same-camera", COSINE, matches=matches, cameras=cameras)
    seen = watchers.watch(distances_between(query, gallery, COSINE).chunks())
    metrics = score(seen, len(query), matches, 50, orders=watchers.orders)
    names = [
        [f"{folder}/{n:06d}.jpg" for n in range(len(side))]
        for folder, side in (("query", query), ("bounding_box_test", gallery))
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        watchers.ranking.write(folder / "ranking.npz", *names, metrics=metrics)
        atomic.write_json(folder / "threshold.json", watchers.pairs.summary())
        if intervals:
            chance = chance_map(matches, metrics.valid, len(gallery), STANDARD)
            summarise([Scored(metrics, query.pids, chance)], watchers.found()).write(folder)


def people(
    rng: np.random.Generator, sizes: tuple[int, int], dims: int, noise: float
) -> tuple[Embeddings, Embeddings]:
    centres = rng.normal(size=(IDENTITIES, dims)).astype(np.float32)
    offsets = 0.4 * rng.normal(size=(CAMERAS, dims)).astype(np.float32)
    sides = []
    for size in sizes:
        pids, camids = rng.integers(0, IDENTITIES, size), rng.integers(0, CAMERAS, size)
        features = rng.standard_normal((size, dims), np.float32) * noise
        features += centres[pids] + offsets[camids]
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        sides.append(Embeddings(features, pids, camids))
    return sides[0], sides[1]


def squared_distances(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    dist = (query**2).sum(1)[:, None] + (gallery**2).sum(1)[None]
    dist -= 2 * (query @ gallery.T)
    return dist


def argsort_evaluator(dist, q_pids, g_pids, q_camids, g_camids, max_rank=50):
    """CMC and mAP the usual way."""
    order = np.argsort(dist, axis=1)
    matches = (g_pids[order] == q_pids[:, None]).astype(np.int32)
    cmcs, aps = [], []
    for q in range(len(dist)):
        hidden = (g_pids[order[q]] == q_pids[q]) & (g_camids[order[q]] == q_camids[q])
        found = matches[q][~hidden]
        if not found.any():
            continue
        cmc = found.cumsum()
        positives = cmc[-1]
        precision = cmc / np.arange(1.0, len(cmc) + 1)
        aps.append((precision * found).sum() / positives)
        cmcs.append(np.minimum(cmc[:max_rank], 1))
    return float(np.mean(aps)), np.mean(cmcs, axis=0)


def compare_statistics(query: Embeddings, gallery: Embeddings, options: argparse.Namespace) -> None:
    """What step "evaluation" does with features, with statistics and without."""
    print(f"{len(query)} queries x {len(gallery)} gallery, {options.dims} dims")

    def plain() -> float:
        return score_all(query, gallery, with_statistics=False)

    def sure() -> float:
        return score_all(query, gallery, with_statistics=True)

    tasks = {
        "without": plain,
        "with statistics": sure,
        "metrics alone": lambda: evaluate(query, gallery),
    }
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(options.repeat + 1):
        for name, task in tasks.items():
            started = time.process_time()
            task()
            if turn:  # the first imports
                times[name].append(time.process_time() - started)
    for name, values in times.items():
        print(f"  {name:24s} {statistics.median(values):9.3f} CPU s")
    pairs = zip(times["with statistics"], times["without"], strict=True)
    ratios = sorted(both / alone for both, alone in pairs)
    print(f"with / without = {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) in "
          f"time, mAP {plain():.3f}")  # fmt: skip
    peaks = [peak(task) for task in (plain, sure)]
    print(f"memory: without {peaks[0]:.0f} MiB, with {peaks[1]:.0f} MiB; budget 1024 MiB")


def score_all(query: Embeddings, gallery: Embeddings, *, with_statistics: bool) -> float:
    assert query.camids is not None and gallery.camids is not None
    matches = match_rule(query, gallery, "same-camera")
    cameras = (query.camids, gallery.camids) if with_statistics else None
    watchers = Watchers.of(query, gallery, "same-camera", COSINE, matches=matches, cameras=cameras)
    chunks = distances_between(query, gallery, COSINE).chunks()
    seen = watchers.watch(chunks)
    metrics = score(seen, len(query), matches, 50, orders=watchers.orders)
    watchers.pairs.summary()
    if with_statistics:
        chance = chance_map(matches, metrics.valid, len(gallery), STANDARD)
        summarise([Scored(metrics, query.pids, chance)], watchers.found()).plain()
    return float(metrics.mAP)


def compare_reranking(rng: np.random.Generator, options: argparse.Namespace) -> None:
    sizes = max(30, round(QUERIES * options.scale)), max(30, round(GALLERY * options.scale))
    query, gallery = people(rng, sizes, options.dims, options.noise)
    tasks: dict[str, Callable[[], Any]] = {
        "usual re-ranking": lambda: dense_rerank(query.features, gallery.features),
        "ours re-ranking": lambda: rerank_distances(query, gallery, normalise=False),
    }
    print(f"re-ranking {sizes[0]} x {sizes[1]}")
    seconds = measure(tasks, 1)
    ratio = seconds["usual re-ranking"] / seconds["ours re-ranking"]
    peaks = [peak(task) for task in tasks.values()]
    difference = np.abs(tasks["usual re-ranking"]() - tasks["ours re-ranking"]()).max()
    print(f"re-ranking: usual / ours = {ratio:.2f} in time, {peaks[0] / peaks[1]:.1f} in memory; "
          f"largest difference {difference:.1e}")  # fmt: skip


def dense_rerank(query, gallery, k1=20, k2=6, lam=0.3):
    """k-reciprocal re-ranking on full N x N matrices, as its authors describe it."""
    features = np.concatenate([query, gallery])
    dist = squared_distances(features, features)
    dist = (dist / dist.max(axis=0)).T
    order = np.argsort(dist)
    encoding = encode(lambda i, others: dist[i, others], order, k1, round(k1 / 2), k2)
    jaccard = dense_jaccard(encoding, len(query))
    return (jaccard * (1 - lam) + dist[: len(query)] * lam)[:, len(query) :]


def encode(
    distances: Callable[[int, np.ndarray], np.ndarray],
    order: np.ndarray,
    k1: int,
    half: int,
    k2: int,
) -> np.ndarray:
    """Rows N,N: each image's weights of its k-reciprocal neighbours, averaged over its nearest
    ``k2``. distances: of an image to some others. order: of the images by distance, N rows.
    """
    count = len(order)
    encoding = np.zeros((count, count), np.float32)
    for i in range(count):
        members = reciprocal(order, i, k1)
        grown = members
        for member in members:
            other = reciprocal(order, member, half)
            if len(np.intersect1d(other, members)) > 2 / 3 * len(other):
                grown = np.append(grown, other)
        grown = np.unique(grown)
        weight = np.exp(-distances(i, grown))
        encoding[i, grown] = weight / weight.sum()
    averaged = np.empty_like(encoding)
    for row, nearest in zip(averaged, order, strict=True):
        encoding[nearest[:k2]].mean(axis=0, out=row)
    return averaged


def reciprocal(order: np.ndarray, i: int, k: int) -> np.ndarray:
    forward = order[i, : k + 1]
    return forward[np.where(order[forward, : k + 1] == i)[0]]


def dense_jaccard(encoding: np.ndarray, rows: int) -> np.ndarray:
    """Jaccard distances of the first ``rows`` images to all, rows,N."""
    count = len(encoding)
    inverted = [np.flatnonzero(encoding[:, i]) for i in range(count)]
    jaccard = np.empty((rows, count), np.float32)
    for i in range(rows):
        shared = np.zeros(count, np.float32)
        for j in np.flatnonzero(encoding[i]):
            images = inverted[j]
            shared[images] += np.minimum(encoding[i, j], encoding[images, j])
        jaccard[i] = 1 - shared / (2 - shared)
    return jaccard


def measure(
    tasks: dict[str, Callable[[], Any]], repeat: int, *, told: bool = True
) -> dict[str, float]:
    """Median CPU seconds of each task; the tasks take turns, so that noise hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeat):
        for name, task in tasks.items():
            started = time.process_time()
            task()
            times[name].append(time.process_time() - started)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items() if told else ():
        print(f"  {name:24s} {value:9.3f} CPU s")
    return medians


def peak(task: Callable[[], Any]) -> float:
    """MiB that numpy allocated at most at one time during the task."""
    tracemalloc.start()
    task()
    size = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return size


if __name__ == "__main__":
    main()
