"""Rules and protocols on the real COL780 validation images, with raw pixels as features."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pipeline.images.pixels import decode
from reid_train.evaluation import Embeddings, evaluate
from reid_train.evaluation.distances import Distances
from reid_train.evaluation.protocols import COURSE, score_protocol
from reid_train.evaluation.ranking import match_rule


@pytest.fixture(scope="module")
def sides(col780):
    def side(split):
        paths = sorted((col780 / "val" / split).glob("*/*.png"))
        features = np.stack([decode(path).ravel() for path in paths]).astype(np.float32)
        return Embeddings(
            features - features.mean(axis=1, keepdims=True),
            [int(path.parent.name) for path in paths],
            [int(path.name.split("_")[0]) for path in paths],
            [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths],
        )

    return side("query"), side("gallery")


def test_identical_images_are_hidden_by_two_of_the_rules(sides):
    query, gallery = sides
    hidden = {
        rule: [match_rule(query, gallery, rule).of(place)[1] for place in range(len(query))]
        for rule in ("same-image", "same-camera", "none")
    }
    assert (len(query), len(gallery)) == (28, 181)
    assert sorted(len(found) for found in hidden["same-image"]) == [0] * 11 + [1] * 17
    for image, camera in zip(hidden["same-image"], hidden["same-camera"], strict=True):
        assert set(image) <= set(camera)
    assert not any(len(found) for found in hidden["none"])


def test_protocols_disagree_as_the_identical_images_make_them(sides):
    query, gallery = sides
    standard = evaluate(query, gallery)
    assert standard.valid.all()
    matches = match_rule(query, gallery, "none")
    chunks = Distances(query.features, gallery.features, normalise=True, memory_mib=64).chunks()
    ids = {"q_pids": query.pids, "g_pids": gallery.pids, "matches": matches}
    course = score_protocol(chunks, **ids, protocol=COURSE)
    # 17 queries find themselves at rank 1.
    assert course.cmc[0] >= 17 / 28 > standard.cmc[0]
    assert course.mAP > standard.mAP
    unseen = evaluate(query, gallery, exclude="same-image")
    assert standard.mAP < evaluate(query, gallery, exclude="none").mAP
    assert unseen.mAP < evaluate(query, gallery, exclude="none").mAP
