"""Jaccard distances and DBSCAN on the sparse graph beside the usual dense matrices, as ratios.

    python -m benchmarks.clustering                  # MSMT17 size, dense at 4000: 3 minutes
    python -m benchmarks.clustering --dense 32621    # both at MSMT17 size: 9 GiB, 10 minutes
    python -m benchmarks.clustering --images 4000 --peers ~/peers    # beside cluster-contrast

The dense method, written from the description of the published ones (SpCL, ClusterContrast), finds
neighbours some rows at a time and then holds two N x N matrices, 4 GB each at 32,621 images. The
ratio is taken at ``--dense`` images, both in one process and in turn; ours alone is then timed at
``--images``, if that is more. ``--peers``: a folder with their checkout ``cluster-contrast-reid``
(faiss-cpu is needed), which then takes the place of the dense method. Seconds are CPU seconds, so
set OMP_NUM_THREADS=1 for the cost of one core; memory is what numpy holds at most beside the
features.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evaluation import (
    dense_jaccard,
    encode,
    measure,
    peak,
    people,
    squared_distances,
)
from benchmarks.peers import package_function
from benchmarks.row import Row
from reid_train.evaluation import jaccard_graph
from reid_train.evaluation.distances import Distances
from reid_train.hooks.cluster import agreement, dbscan

ROWS = 512  # of a distance matrix that is never held whole


def main() -> None:
    parser = argparse.ArgumentParser(description="our clustering beside the usual one")
    parser.add_argument("--images", type=int, default=32_621)
    parser.add_argument("--dense", type=int, default=4000, help="images of the comparison")
    parser.add_argument("--dims", type=int, default=768)
    parser.add_argument("--noise", type=float, default=1.5, help="greater is harder")
    parser.add_argument("--eps", type=float, default=0.6)
    parser.add_argument("--peers", type=Path)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    few = people(rng, (options.dense, 1), options.dims, options.noise)[0]
    found: dict[str, np.ndarray] = {}

    def run(name: str, method: Callable[..., np.ndarray], features: np.ndarray) -> None:
        found[name] = method(features, options.eps)

    tasks: dict[str, Callable[[], Any]] = {
        "dense": lambda: run("dense", usual_clusters(options.peers), few.features),
        "ours": lambda: run("ours", sparse_clusters, few.features),
    }
    print(f"{options.dense} images, {options.dims} dims, noise {options.noise}")
    sparse_clusters(few.features[:100], options.eps)  # imports
    seconds = measure(tasks, 1)
    same = float((found["dense"] == found["ours"]).mean())
    print(f"dense / ours = {seconds['dense'] / seconds['ours']:.2f} in time; {same:.2%} of the "
          f"labels equal; clusters {agreement(found['ours'], few.pids)}")  # fmt: skip
    peaks = [peak(task) for task in tasks.values()]
    print(f"memory: dense {peaks[0]:.0f} MiB, ours {peaks[1]:.0f} MiB")

    if options.dense >= options.images:
        return
    many = people(rng, (options.images, 1), options.dims, options.noise)[0]
    size = 2 * 4 * options.images**2 / 2**30
    print(f"{options.images} images; two dense matrices would take {size:.1f} GiB")
    whole = {"ours": lambda: run("whole", sparse_clusters, many.features)}
    seconds = measure({**whole, "matrix product alone": lambda: product(many.features)}, 1)
    print(f"ours / matrix product alone = "
          f"{seconds['ours'] / seconds['matrix product alone']:.2f} in time; "
          f"clusters {agreement(found['whole'], many.pids)}")  # fmt: skip
    print(f"memory: ours {peak(whole['ours']):.0f} MiB")


def usual_clusters(peers: Path | None) -> Callable[[np.ndarray, float], np.ndarray]:
    """Features and eps -> labels by dense matrices: other people's where they are given."""
    if peers is None:
        return dense_clusters
    from sklearn.cluster import DBSCAN
    from torch import from_numpy

    folder = peers / "cluster-contrast-reid/clustercontrast"
    distances = package_function(folder, "utils.faiss_rerank", "compute_jaccard_distance")

    def clusters(features: np.ndarray, eps: float) -> np.ndarray:
        # Option 3 is faiss on the CPU.
        jaccard = distances(from_numpy(features), 30, 6, print_flag=False, search_option=3)
        return DBSCAN(eps=eps, min_samples=4, metric="precomputed").fit(jaccard).labels_

    return clusters


def rows(peers: Path | None = None) -> Iterable[Row]:
    features = people(np.random.default_rng(0), (4000, 1), 768, 1.5)[0].features
    usual = usual_clusters(peers)
    tasks: dict[str, Callable[[], Any]] = {
        "ours": lambda: sparse_clusters(features, 0.6),
        "usual": lambda: usual(features, 0.6),
        "product": lambda: product(features),
        "each pair once": lambda: distances_once(features),
    }
    tasks["ours"]()  # imports
    seconds = measure(tasks, 3)
    same = (tasks["usual"]() == tasks["ours"]()).mean()
    against = f"faster than {'cluster-contrast' if peers else 'dense'}, {same:.2%} of labels equal"
    ours = seconds["ours"]
    limit = (
        f"distances of each pair, once: {ours / seconds['each pair once']:.2f}x of their time is "
        f"taken, {ours / seconds['product']:.2f}x of the product's"
    )
    work = "Jaccard 30/6 and DBSCAN, 4,000 images x 768"
    yield Row(work, seconds["usual"] / ours, "x", against, "8x", limit, peak(tasks["ours"]))


def distances_once(features: np.ndarray) -> None:
    for _ in Distances(features, features, normalise=False, memory_mib=512).upper():
        pass


def sparse_clusters(features: np.ndarray, eps: float) -> np.ndarray:
    return dbscan(jaccard_graph(features, k1=30, k2=6, within=eps), eps=eps, min_samples=4)


def dense_clusters(features: np.ndarray, eps: float, k1: int = 30, k2: int = 6) -> np.ndarray:
    from sklearn.cluster import DBSCAN

    order = np.concatenate(
        [
            nearest(squared_distances(features[start : start + ROWS], features), k1)
            for start in range(0, len(features), ROWS)
        ]
    )

    def distances(image: int, others: np.ndarray) -> np.ndarray:
        return squared_distances(features[image : image + 1], features[others])[0]

    encoding = encode(distances, order, k1 - 1, round(k1 / 2), k2)
    jaccard = dense_jaccard(encoding, len(features))
    del encoding
    np.maximum(jaccard, 0, out=jaccard)  # no third matrix
    return DBSCAN(eps=eps, min_samples=4, metric="precomputed").fit(jaccard).labels_


def nearest(dist: np.ndarray, k: int) -> np.ndarray:
    """The ``k`` nearest of each row, nearest first."""
    found = np.argpartition(dist, k, axis=1)[:, :k]
    rows = np.arange(len(dist))[:, None]
    return found[rows, np.argsort(dist[rows, found], axis=1)]


def product(features: np.ndarray) -> float:
    """All inner products, a few rows at a time; keeps nothing."""
    largest = -math.inf
    for start in range(0, len(features), ROWS):
        largest = max(largest, float((features[start : start + ROWS] @ features.T)[0, 0]))
    return largest


if __name__ == "__main__":
    main()
