"""What the recipe without labels draws, against the published sampler's rule written out: every
cluster once a pass; one image of it, and fifteen that other cameras took.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from reid_train.data.sampler import identity_batches
from reid_train.recipe.loading import load_recipe

IDS, SHOTS, PASSES = 16, 16, 300


def clusters() -> tuple[np.ndarray, np.ndarray]:
    """Labels and cameras of 37 clusters as DBSCAN leaves them: few large, many small, some of one
    camera, one whose other cameras have fifteen images exactly; outliers are -1.
    """
    rng = np.random.default_rng(0)
    sizes = np.concatenate([rng.integers(4, 12, 20), rng.integers(20, 70, 14), [9, 30, 25]])
    labels = np.repeat(np.arange(len(sizes)), sizes)
    cameras = rng.choice(6, len(labels), p=[0.4, 0.2, 0.15, 0.1, 0.1, 0.05])
    cameras[labels == 34] = 2
    cameras[labels == 35] = 4
    cameras[np.flatnonzero(labels == 36)] = [0] * 10 + [1] * 15
    order = rng.permutation(len(labels) + 50)
    labels = np.concatenate([labels, np.full(50, -1)])[order]
    return labels, np.concatenate([cameras, rng.integers(0, 6, 50)])[order]


def published(labels: np.ndarray, cameras: np.ndarray) -> Iterator[np.ndarray]:
    """A pass: positions (clusters, 16) in the order they are drawn. Whole batches of 16 clusters of
    it are trained on, the rest is dropped, and a new pass begins.
    """
    rng = np.random.default_rng(7)
    members = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    while True:
        rows = []
        for label in rng.permutation(len(members)):
            first = rng.choice(members[label])
            others = members[label][cameras[members[label]] != cameras[first]]
            if not len(others):
                others = members[label][members[label] != first]
            rest = rng.choice(others, SHOTS - 1, replace=len(others) < SHOTS)
            rows.append([first, *rest])
        yield np.array(rows)[: len(rows) // IDS * IDS]


def drawn(labels: np.ndarray, cameras: np.ndarray) -> Iterator[np.ndarray]:
    """The same of the shipped recipe."""
    data = load_recipe("pcl-clip-usl").image_stages[0].data.model_dump()
    options = {name: data[name] for name in ("ids", "images_per_id", "iterations", "draw")}
    assert options == {"ids": 16, "images_per_id": 16, "iterations": 200, "draw": "other-cameras"}
    sampler = identity_batches(labels, **options, cameras=cameras, seed=0)
    per_pass = (labels.max() + 1) // IDS
    assert 200 % per_pass == 0 and len(sampler) == 200
    epoch = 0
    while True:
        yield from sampler.epoch(epoch).reshape(-1, per_pass * IDS, SHOTS)
        epoch += 1


Source = Callable[[np.ndarray, np.ndarray], Iterator[np.ndarray]]


def seen(source: Source) -> dict[str, np.ndarray | float]:
    """Figures over ``PASSES``: how often a cluster, an image as the first, and an image among the
    fifteen come in a pass; share of the fifteen in the first one's camera, of clusters of several.
    """
    labels, cameras = clusters()
    several = [len(np.unique(cameras[labels == label])) > 1 for label in range(labels.max() + 1)]
    of_cluster, first, rest = (
        np.zeros(labels.max() + 1),
        np.zeros(len(labels)),
        np.zeros(len(labels)),
    )
    alike = total = 0
    for _, rows in zip(range(PASSES), source(labels, cameras), strict=False):
        assert rows.shape == (32, SHOTS)
        people = labels[rows]
        assert (people == people[:, :1]).all() and people.min() >= 0
        assert len(np.unique(people[:, 0])) == len(rows)
        of_cluster[people[:, 0]] += 1
        np.add.at(first, rows[:, 0], 1)
        np.add.at(rest, rows[:, 1:].ravel(), 1)
        chosen = rows[np.array(several)[people[:, 0]]]
        alike += int((cameras[chosen[:, 1:]] == cameras[chosen[:, :1]]).sum())
        total += chosen[:, 1:].size
    return {
        "cluster": of_cluster / PASSES,
        "first": first / PASSES,
        "rest": rest / PASSES,
        "alike": alike / total,
    }


def test_the_recipe_draws_as_published():
    theirs, ours = seen(published), seen(drawn)
    assert theirs["alike"] == ours["alike"] == 0.0
    # 32 of 37 clusters come in a pass, small and large alike; a share's deviation is 0.02.
    for figures in (theirs, ours):
        assert np.abs(figures["cluster"] - 32 / 37).max() < 0.09
    labels, _ = clusters()
    for name, spread in (("first", 1.0), ("rest", 15.0)):
        own, other = np.asarray(ours[name]), np.asarray(theirs[name])
        assert own[labels < 0].sum() == other[labels < 0].sum() == 0
        # Five deviations of the difference of two means of counts.
        limit = 5 * np.sqrt((own + other + 1 / PASSES) * min(spread, 4.0) / PASSES)
        assert (np.abs(own - other) < limit).all(), name
        assert own.sum() == pytest.approx(other.sum(), rel=1e-9)


def test_fifteen_others_come_once_each_where_the_published_sampler_repeats_some():
    """The one difference, which the recipe lists: it draws without repetition from sixteen on."""
    labels, cameras = clusters()
    distinct = {}
    for name, source in (("theirs", published), ("ours", drawn)):
        rows = [
            len(set(row[1:].tolist()))
            for _, batch in zip(range(60), source(labels, cameras), strict=False)
            for row in batch
            if labels[row[0]] == 36 and cameras[row[0]] == 0
        ]
        distinct[name] = np.mean(rows)
    assert distinct["ours"] == 15 and 9 < distinct["theirs"] < 11
    told = load_recipe("pcl-clip-usl").deviations
    assert any("fifteen images of other cameras" in line for line in told)
