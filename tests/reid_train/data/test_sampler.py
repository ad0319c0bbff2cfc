"""Batches: whole, deterministic, balanced, and equally shared."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.terminal.errors import ReidpipeError
from reid_train.data.sampler import IdentitySampler, ShuffledSampler
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
