"""From packed pixels and label maps to batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.labels.sets import IGNORE
from pipeline.terminal.errors import ReidpipeError
from reid_train.data.augmentation import Augmentation
from reid_train.data.dataset import ReidBatches, TrainingSet
from reid_train.data.sampler import IdentitySampler, ShuffledSampler
from tests.reid_train.people import LEFT_LEG, RIGHT_LEG, people


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    return people(tmp_path_factory.mktemp("people"))


STRONG = Augmentation(flip=0.5, pad=4, brightness=0.2, erase=0.5)


def batches_of(crowd, augmentation=STRONG, seed=0, **options):
    images, rows, maps = crowd
    data = TrainingSet(images, rows, maps=maps, **options)
    sampler = IdentitySampler(data.labels, ids=4, images_per_id=2, seed=seed)
    return ReidBatches(data, sampler, augmentation, seed=seed)


def test_labels_are_numbered_in_the_order_of_identities(crowd):
    images, rows, _ = crowd
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    data = TrainingSet(images, shuffled)
    assert data.pids == [10, 20, 30, 40, 50, 60]
    assert [data.pids[label] for label in data.labels] == [row.pid for row in shuffled]
    assert np.array_equal(data.read(np.arange(3))[1], images.pixels[images.row(shuffled[1].key)])


def test_batches_have_what_they_promise(crowd):
    batch = next(batches_of(crowd).epoch(0, 0, 1))
    described = {key: (value.dtype, tuple(value.shape)) for key, value in batch.items()}
    pixels = int(batch["erased"][:, 2:].prod(1).sum())
    assert described.pop("filling") == (torch.float32, (pixels, 3)) and pixels > 0
    assert described == {
        "images": (torch.uint8, (8, 3, 32, 16)),
        "labels": (torch.int64, (8,)),
        "erased": (torch.int64, (8, 4)),
        "camids": (torch.int64, (8,)),
        "cameras": (torch.int64, (8,)),
        "positions": (torch.int64, (8,)),
        "factors": (torch.float32, (8, 3)),
        "label_maps": (torch.uint8, (8, 32, 16)),
        "confidence": (torch.float32, (8, 32, 16)),
    }


def test_cameras_are_left_out_when_some_are_unknown(crowd):
    images, rows, _ = crowd
    data = TrainingSet(images, [replace(rows[0], camid=None), *rows[1:]])
    sampler = ShuffledSampler(len(data), batch=4, seed=0)
    assert "camids" not in next(ReidBatches(data, sampler, Augmentation(), seed=0).epoch(0, 0, 1))


def test_epochs_repeat_exactly_and_differ_from_each_other(crowd):
    def epoch(number):
        return list(batches_of(crowd).epoch(number, 0, 1))

    for first, second in zip(epoch(1), epoch(1), strict=True):
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(epoch(0)[0]["images"], epoch(1)[0]["images"])


def test_two_processes_see_the_batches_of_one(crowd):
    source = batches_of(crowd)
    for whole, first, second in zip(
        source.epoch(0, 0, 1), source.epoch(0, 0, 2), source.epoch(0, 1, 2), strict=True
    ):
        for key in ("images", "labels", "positions", "factors", "label_maps", "confidence",
                    "erased", "filling"):  # fmt: skip
            assert torch.equal(whole[key], torch.cat([first[key], second[key]])), key


def test_maps_stay_on_their_people(crowd):
    """Red legs are right legs, blue ones left legs, before and after mirroring."""
    source = batches_of(crowd, Augmentation(flip=0.5, pad=4))
    mirrored = 0
    for batch in source.epoch(0, 0, 1):
        images, maps = batch["images"].permute(0, 2, 3, 1).int(), batch["label_maps"]
        redder = images[..., 0] > images[..., 2]
        for image in range(len(maps)):
            right = redder[image][maps[image] == RIGHT_LEG]
            left = redder[image][maps[image] == LEFT_LEG]
            sides = {right.float().mean().item(), left.float().mean().item()}
            assert sides == {0.0, 1.0}
            # A mirrored image shows the red leg on the other side, and it is a left leg there.
            mirrored += int(right.float().mean() == 0.0)
    assert 0 < mirrored < 24


def test_confidence_survives_the_round_trip_to_bytes(crowd):
    source = batches_of(crowd, Augmentation())
    batch = next(source.epoch(0, 0, 1))
    found = batch["confidence"].unique().tolist()
    assert found == pytest.approx([6 / 15, 12 / 15])
    assert (batch["label_maps"] != IGNORE).all()


def test_label_maps_are_reduced_by_the_nearest_pixel(tmp_path, crowd):
    _, rows, maps = crowd
    small, _, _ = people(tmp_path, size=(16, 8))
    data = TrainingSet(small, rows, maps=maps)
    labels, _ = data.read_maps(np.array([3]))
    assert np.array_equal(labels[0], maps[rows[3].key][0][1::2, 1::2])


def test_mirrored_copies_double_the_set(crowd):
    images, rows, maps = crowd
    data = TrainingSet(images, rows, maps=maps, flipped_copies=True)
    count = len(rows)
    assert len(data) == 2 * count and np.array_equal(data.labels[:count], data.labels[count:])
    sampler = ShuffledSampler(len(data), batch=6, seed=0)
    source = ReidBatches(data, sampler, Augmentation(), seed=0)
    seen = {}
    for batch in source.epoch(0, 0, 1):
        for position, image, label in zip(
            batch["positions"].tolist(), batch["images"], batch["label_maps"], strict=True
        ):
            seen[position] = (image, label.numpy())
    assert sorted(seen) == list(range(2 * count))
    for position in range(count):
        (image, label), (copy, other) = seen[position], seen[position + count]
        assert torch.equal(image.flip(-1), copy)
        assert np.array_equal(maps.label_set.mirrored(label), other)


def test_images_without_identity_have_no_label_where_none_is_needed(crowd):
    images, rows, _ = crowd
    bare = [replace(rows[0], pid=None, camid=None), *rows[1:]]
    data = TrainingSet(images, bare, labelled=False, flipped_copies=True)
    whole = TrainingSet(images, rows, flipped_copies=True)
    assert data.pids == whole.pids and data.camids is None
    half = len(rows)
    for found, expected in ((data.labels, whole.labels), (data.cameras, whole.cameras)):
        assert found[0] == found[half] == -1 and expected[0] != -1
        assert (found[1:half] == expected[1:half]).all() and len(found) == 2 * half
    with pytest.raises(ReidpipeError, match="no training image"):
        TrainingSet(images, [], labelled=False)


def test_errors_name_the_image_and_the_cure(tmp_path, crowd):
    images, rows, maps = crowd
    with pytest.raises(ReidpipeError, match="no training image.*prepare"):
        TrainingSet(images, [])
    with pytest.raises(ReidpipeError, match=r"'003\.png' without identity"):
        TrainingSet(images, [*rows[:3], replace(rows[3], pid=None)])
    with pytest.raises(ReidpipeError, match=r"no label map of 'new\.png' \(1 of 31.*parse"):
        TrainingSet(
            replace(images, keys=[*images.keys, "new.png"]),
            [*rows, replace(rows[0], key="new.png", path="new.png")],
            maps=maps,
        )


@pytest.mark.parametrize("options", [{"threads": 3}, {"planar": True}])
def test_batches_do_not_depend_on_who_makes_them_and_where_they_lie(crowd, options):
    plain = batches_of(crowd, flipped_copies=True)
    other = ReidBatches(plain.data, plain.sampler, STRONG, seed=0, **options)
    # Of an epoch that is gone on with, the first ones are thrown away.
    for first, second in zip(plain.epoch(2, 0, 1), other.epoch(2, 0, 1), strict=True):
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert second["images"].is_contiguous() == ("planar" in options)


def test_a_batch_that_is_kept_stays_as_it_was(crowd):
    """Memory of batches is used again, but not under who looks at them."""
    source = batches_of(crowd)
    kept = list(source.epoch(0, 0, 1))
    copies = [{name: value.clone() for name, value in batch.items()} for batch in kept]
    for epoch in (1, 2):
        list(source.epoch(epoch, 0, 1))
    for batch, copy in zip(kept, copies, strict=True):
        assert all(torch.equal(batch[name], copy[name]) for name in copy)
