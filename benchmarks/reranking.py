"""k-reciprocal re-ranking beside the usual dense one and one matrix product of numpy, as ratios.

    python -m benchmarks.reranking                              # 4,000 images, 512 dims
    python -m benchmarks.reranking --images 19281 --dims 1280 --queries 3368 --alone
    python -m benchmarks.reranking --peers ~/peers              # beside torchreid and CLIP-ReID

``--peers``: a folder with their checkouts, ``deep-person-reid`` and ``CLIP-ReID``; without it the
dense method is ours, written from the paper. All in one process and in turn, in CPU seconds, so set
OMP_NUM_THREADS=1 for the cost of one core; memory is what numpy holds at most beside the features.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clustering import distances_once
from benchmarks.evaluation import dense_rerank, measure, peak, people, squared_distances
from benchmarks.peers import function
from benchmarks.row import Row
from reid_train.evaluation import Embeddings, rerank_distances


def main() -> None:
    parser = argparse.ArgumentParser(description="our re-ranking beside the usual one")
    parser.add_argument("--images", type=int, default=4000, help="queries and gallery")
    parser.add_argument("--queries", type=int, default=700)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--noise", type=float, default=1.5, help="greater is harder")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="ours beside the product only")
    parser.add_argument("--peers", type=Path)
    options = parser.parse_args()
    sizes = options.queries, options.images - options.queries
    query, gallery = people(np.random.default_rng(0), sizes, options.dims, options.noise)
    print(f"{sizes[0]} queries, {sizes[1]} gallery images, {options.dims} dims")
    tasks = works(query, gallery, {} if options.alone else methods(query, gallery, options.peers))
    seconds = measure(tasks, options.repeat)
    for name in tasks:
        if name != "ours":
            ratio = seconds[name] / seconds["ours"]
            print(f"{name} / ours = {ratio:.2f}; ours / it = {1 / ratio:.2f}")
    if not options.alone:
        ours = tasks["ours"]()
        for name, task in methods(query, gallery, options.peers).items():
            print(f"largest difference to {name}: {np.abs(task() - ours).max():.1e}")
    print(f"memory of ours: {peak(tasks['ours']):.0f} MiB")


def works(
    query: Embeddings, gallery: Embeddings, others: dict[str, Callable[[], Any]]
) -> dict[str, Callable[[], Any]]:
    features = np.concatenate([query.features, gallery.features])
    again = features.copy()  # of one array and itself numpy computes half and copies it

    return {
        "ours": lambda: rerank_distances(query, gallery, normalise=False),
        "product": lambda: features @ again.T,
        "distances, each pair once": lambda: distances_once(features),
        **others,
    }


def methods(
    query: Embeddings, gallery: Embeddings, peers: Path | None
) -> dict[str, Callable[[], np.ndarray]]:
    """Dense re-ranking from features, by name: other people's where there are some."""
    if peers is None:
        return {"dense": lambda: dense_rerank(query.features, gallery.features)}
    from torch import from_numpy

    torchreid = function(peers / "deep-person-reid/torchreid/utils/rerank.py", "re_ranking")
    clip_reid = function(peers / "CLIP-ReID/utils/reranking.py", "re_ranking")
    sides = query.features, gallery.features

    def of_distances() -> np.ndarray:
        # It squares what it is given.
        pairs = ((0, 1), (0, 0), (1, 1))
        squared = [squared_distances(sides[a], sides[b]) for a, b in pairs]
        return torchreid(*(np.sqrt(np.maximum(matrix, 0)) for matrix in squared), 20, 6, 0.3)

    return {
        "torchreid": of_distances,
        "CLIP-ReID": lambda: clip_reid(*map(from_numpy, sides), 20, 6, 0.3),
    }


def rows(peers: Path | None = None) -> Iterable[Row]:
    query, gallery = people(np.random.default_rng(0), (700, 3300), 512, 1.5)
    others = methods(query, gallery, peers)
    tasks = works(query, gallery, others)
    tasks["ours"]()  # imports
    seconds = measure(tasks, 3)
    memory, ours = peak(tasks["ours"]), seconds["ours"]
    once = seconds["distances, each pair once"]
    work = "re-ranking 20/6, 4,000 images x 512"
    limit = f"distances, each pair once: {ours / once:.2f}x of their time is taken"
    for name in others:
        yield Row(work, seconds[name] / ours, "x", f"faster than {name}", "12x", limit, memory)
    of_product = f"the time of numpy's product; distances alone {once / seconds['product']:.2f}x"
    yield Row(work, ours / seconds["product"], "x", of_product, "1.8x", limit, memory)


if __name__ == "__main__":
    main()
