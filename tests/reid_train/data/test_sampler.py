"""Batches: whole, deterministic, balanced, and equally shared."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.terminal.errors import ReidpipeError
from reid_train.data.sampler import (
    IdentitySampler,
    OtherCamerasSampler,
    RestartedSampler,
    ShuffledSampler,
    identity_batches,
)
from reid_train.engine.task import share

COUNTS = st.lists(st.integers(1, 13), min_size=2, max_size=12)


def labels_of(counts, seed=0):
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels)


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(1, 4), st.integers(1, 5), st.integers(0, 3))
def test_identity_batches(counts, ids, images_per_id, epoch):
    ids = min(ids, len(counts))
    labels = labels_of(counts)
    sampler = IdentitySampler(labels, ids=ids, images_per_id=images_per_id, seed=1)
    batches = sampler.epoch(epoch)
    assert batches.shape == (len(sampler), ids * images_per_id)
    uses = Counter()
    for batch in batches:
        grouped = labels[batch].reshape(ids, images_per_id)
        assert (grouped == grouped[:, :1]).all(), "images of one identity stand together"
        assert len(set(grouped[:, 0])) == ids, "identities of a batch differ"
        for group, identity in zip(batch.reshape(ids, -1), grouped[:, 0], strict=True):
            if counts[identity] >= images_per_id:
                assert len(set(group)) == images_per_id
            uses.update(group.tolist())
    for image, number in uses.items():
        if counts[labels[image]] >= images_per_id:
            assert number == 1, "an image is used once per epoch"
    assert (batches == sampler.epoch(epoch)).all()


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(1, 4), st.integers(1, 5))
def test_an_epoch_is_at_least_as_long_as_the_published_sampler_s(counts, ids, images_per_id):
    """CLIP-ReID: draw ids at random until fewer than ``ids`` identities have chunks left."""
    ids = min(ids, len(counts))
    sampler = IdentitySampler(labels_of(counts), ids=ids, images_per_id=images_per_id, seed=1)
    rng = np.random.default_rng(0)
    chunks = np.array([max(count // images_per_id, 1) for count in counts])
    published = 0
    while (chunks > 0).sum() >= ids:
        chunks[rng.choice(np.flatnonzero(chunks), ids, replace=False)] -= 1
        published += 1
    assert len(sampler) >= published > 0


def test_the_longest_epoch_by_hand():
    # chunks of two: 4, 1, 1 -> pairs of different identities: (0,1), (0,2) and no third
    sampler = IdentitySampler(labels_of([8, 2, 3]), ids=2, images_per_id=2, seed=0)
    assert len(sampler) == 2
    # 3, 3, 2, 2, 2 chunks, two per batch: all 12 can be used
    assert len(IdentitySampler(labels_of([6, 6, 4, 4, 4]), ids=2, images_per_id=2, seed=0)) == 6


def test_epochs_and_seeds_differ():
    labels = labels_of([8] * 8)
    one, other = (IdentitySampler(labels, ids=4, images_per_id=4, seed=seed) for seed in (0, 1))
    assert (one.epoch(0) != one.epoch(1)).any()
    assert (one.epoch(0) != other.epoch(0)).any()


def test_every_image_has_its_turn_over_the_epochs():
    labels = labels_of([5] * 4)  # one of five is left over in each epoch
    sampler = IdentitySampler(labels, ids=2, images_per_id=4, seed=0)
    seen = {int(i) for epoch in range(20) for i in sampler.epoch(epoch).ravel()}
    assert seen == set(range(20))


def test_an_identity_with_few_images_is_drawn_with_replacement():
    sampler = IdentitySampler([0, 1, 1, 1, 1], ids=2, images_per_id=4, seed=0)
    batch = sampler.epoch(0)[0].reshape(2, 4)
    assert any((row == 0).all() for row in batch)


def test_too_few_identities_or_images_say_what_to_type():
    with pytest.raises(ReidpipeError, match=r"found 3 identities.*stages\.0\.data\.ids=3"):
        IdentitySampler([0, 1, 2], ids=4, images_per_id=2, seed=0)
    with pytest.raises(ReidpipeError, match=r"found 9 training images.*data\.batch=9"):
        ShuffledSampler(9, batch=16, seed=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 100), st.integers(1, 20), st.integers(0, 3))
def test_shuffled_batches_are_whole_and_repeat_nothing(count, batch, epoch):
    batch = min(batch, count)
    sampler = ShuffledSampler(count, batch=batch, seed=0)
    batches = sampler.epoch(epoch)
    assert batches.shape == (count // batch, batch) and len(sampler) == count // batch
    assert len(set(batches.ravel())) == batches.size
    assert set(batches.ravel()) <= set(range(count))


def test_shares_partition_the_batch_by_identity():
    rows = [share(16, 4, rank, 2) for rank in range(2)]
    assert [(r.start, r.stop) for r in rows] == [(0, 8), (8, 16)]
    with pytest.raises(ReidpipeError, match="3 processes for batches of 4 identities"):
        share(16, 4, 0, 3)
    with pytest.raises(ReidpipeError, match="batches of 16 images"):
        share(16, 1, 0, 3)


def cameras_of(batch: np.ndarray, camids: np.ndarray) -> np.ndarray:
    """Camera of each image, a row per identity."""
    return camids[batch.reshape(-1, 16)]


def test_other_cameras_fill_a_batch_and_every_identity_comes_once_a_pass():
    rng = np.random.default_rng(0)
    labels = labels_of(list(rng.integers(4, 60, 100)))
    camids = rng.integers(0, 6, len(labels))
    sampler = OtherCamerasSampler(labels, camids, ids=16, images_per_id=16, seed=0)
    assert len(sampler) == 6 and sampler.batch == 256
    seen = np.zeros(100, int)
    for epoch in range(30):
        batches = sampler.epoch(epoch)
        people = labels[batches.reshape(-1, 16)]
        assert (people == people[:, :1]).all()
        assert len(np.unique(people[:, 0])) == 96
        seen[people[:, 0]] += 1
        cameras = cameras_of(batches, camids)
        for person, row in zip(people[:, 0], cameras, strict=True):
            if len(np.unique(camids[labels == person])) > 1:
                assert (row[1:] != row[0]).all()
    # Large ones and small ones alike: 30 passes, of which 4 of 100 miss each.
    assert seen.min() >= 24 and seen.max() <= 30


def test_images_of_other_cameras_repeat_only_where_there_are_too_few():
    labels = np.repeat([0, 1], [20, 4])
    camids = np.array([0] * 4 + [1] * 16 + [0, 0, 0, 1])
    sampler = OtherCamerasSampler(labels, camids, ids=2, images_per_id=16, seed=0)
    for epoch in range(20):
        for row in sampler.epoch(epoch).reshape(-1, 16):
            if labels[row[0]] == 0 and camids[row[0]] == 0:
                assert len(set(row)) == 16


def test_without_other_cameras_the_other_images_are_drawn():
    labels, camids = np.repeat([0, 1, 2], [3, 3, 1]), np.array([0, 0, 0, -1, -1, -1, 2])
    sampler = OtherCamerasSampler(labels, camids, ids=3, images_per_id=2, seed=0)
    for epoch in range(10):
        rows = sampler.epoch(epoch).reshape(3, 2)
        for row in rows:
            assert labels[row[0]] == labels[row[1]]
            assert (row[0] == row[1]) == (labels[row[0]] == 2)


def test_a_recipe_chooses_the_sampler_of_its_passes():
    labels, camids = labels_of([5] * 4), np.tile(np.arange(5), 4)
    given = {"ids": 2, "images_per_id": 3, "iterations": 5, "seed": 0, "cameras": camids}
    plain = identity_batches(labels, **given)
    other = identity_batches(labels, **given, draw="other-cameras")
    assert isinstance(plain, RestartedSampler) and isinstance(other, RestartedSampler)
    assert isinstance(plain.inner, IdentitySampler)
    assert isinstance(other.inner, OtherCamerasSampler)
    assert other.epoch(0).shape == plain.epoch(0).shape == (5, 6)
    assert (other.epoch(3) == other.epoch(3)).all()
