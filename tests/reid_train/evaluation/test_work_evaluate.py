"""The evaluation worker from packed images and a model to its files."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from pipeline.images.packed import PackedImages
from pipeline.terminal.errors import ReidpipeError
from reid_train import load_model
from reid_train.engine.runtime import Runtime
from reid_train.evaluation import Embeddings
from reid_train.evaluation import evaluate as score
from reid_train.evaluation.embeddings import embed, load_features
from reid_train.evaluation.stored_ranking import StoredRanking
from reid_train.evaluation.threshold import RATES
from reid_train.evaluation.work import evaluate

FIELDS = {
    "dataset", "protocol", "exclude", "queries", "valid_queries", "gallery", "mAP", "mINP", "cmc",
    "rerank", "distance", "recipe", "seed", "versions", "intervals", "chance",
}  # fmt: skip


def test_files_of_an_evaluation(prepared):
    job = prepared.job("standard", rerank={"k1": 6, "k2": 3, "lam": 0.3})
    summary = evaluate(job)
    metrics = json.loads((job.folder / "metrics.json").read_text())
    assert metrics == summary and set(metrics) == FIELDS
    assert (metrics["dataset"], metrics["protocol"], metrics["exclude"]) == (
        "little", "standard", "same-camera",
    )  # fmt: skip
    assert (metrics["queries"], metrics["valid_queries"], metrics["gallery"]) == (5, 5, 25)
    assert (metrics["recipe"], metrics["seed"]) == ("bignet", 3)
    assert metrics["versions"]["python"]
    assert set(metrics["cmc"]) == {"1", "5", "10"}
    assert set(metrics["rerank"]) == {"k1", "k2", "lam", "mAP", "mINP", "cmc", "intervals"}

    features, keys = load_features(job.folder)
    place = {key: row for row, key in enumerate(keys)}
    ranking = StoredRanking.read(job.folder / "ranking.npz")
    pids, camids = ({key: int(key.split("_")[part].strip("c")) for key in keys} for part in (0, 1))

    def side(names):
        rows = [place[name] for name in names]
        return Embeddings(features[rows], [pids[n] for n in names], [camids[n] for n in names])

    expected = score(side(ranking.query_keys), side(ranking.gallery_keys))
    assert metrics["mAP"] == pytest.approx(expected.mAP, abs=1e-12)
    np.testing.assert_array_equal(ranking.ap, expected.ap)
    # Of a query's person and camera the gallery has one more shot; four are of other cameras.
    assert ranking.indices.shape == (5, 25) and (ranking.junk.sum(1) == 1).all()
    assert (ranking.correct.sum(1) == 4).all() and not (ranking.correct & ranking.junk).any()
    assert (np.diff(ranking.similarities, axis=1) <= 0).all()

    threshold = json.loads((job.folder / "threshold.json").read_text())
    assert threshold["pairs"] == {"same": 20, "different": 100}
    assert sum(threshold["histogram"]["same"]) == 20
    assert [point["wanted_fpr"] for point in threshold["points"]] == list(RATES)
    for point in threshold["points"]:
        assert point["fpr"] <= point["wanted_fpr"]


def test_threshold_separates_what_it_says(prepared):
    job = prepared.job("threshold", exclude="none")
    evaluate(job)
    features, keys = load_features(job.folder)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    people = np.array([key.split("_")[0] for key in keys])
    query = np.array([key.endswith("c0_0.png") for key in keys])
    cosine = (unit[query] @ unit[~query].T).ravel()
    same = (people[query][:, None] == people[~query][None]).ravel()
    for point in json.loads((job.folder / "threshold.json").read_text())["points"]:
        # Similarities within rounding of a bin's edge may fall on either side of it.
        sure = np.abs(cosine - point["threshold"]) > 1e-6
        assert np.mean(cosine[~same] >= point["threshold"]) == pytest.approx(
            point["fpr"], abs=np.mean(~sure) + 1e-9
        )
        assert np.mean(cosine[same] >= point["threshold"]) == pytest.approx(
            point["tpr"], abs=np.mean(~sure) + 1e-9
        )


def test_course_protocol_has_the_same_shape(prepared):
    metrics = evaluate(prepared.job("course", protocol="course"))
    assert set(metrics) == FIELDS and metrics["exclude"] == "none"
    assert 0 <= metrics["mAP"] <= 1 and metrics["valid_queries"] == 5


def test_flip_adds_the_mirrored_feature(prepared):
    packed = PackedImages.open(prepared.images)
    model, runtime = load_model(prepared.model), Runtime.create("cpu")
    mirrored = np.ascontiguousarray(packed.pixels[:, :, ::-1])
    rows = [3, 0, 7, 3]
    plain, mirror = (
        embed(model, pixels, rows, runtime=runtime, batch=2) for pixels in (packed.pixels, mirrored)
    )
    both = embed(model, packed.pixels, rows, runtime=runtime, batch=3, flip=True)
    np.testing.assert_allclose(both, plain + mirror, atol=1e-5)
    np.testing.assert_allclose(plain[0], plain[3], atol=1e-6)


def test_unknown_cameras_name_the_cure_and_same_image_uses_the_bytes(make_prepared):
    little = make_prepared(lambda row: dataclasses.replace(row, camid=None))
    with pytest.raises(ReidpipeError, match="--exclude same-image or --exclude none"):
        evaluate(little.job("a"))
    assert evaluate(little.job("b", exclude="same-image"))["exclude"] == "same-image"


def test_queries_without_partners_are_told_in_one_line(make_prepared):
    lonely = make_prepared(
        lambda row: dataclasses.replace(row, pid=row.pid + 100) if row.split == "query" else row
    )
    with pytest.raises(ReidpipeError, match="no valid query") as caught:
        evaluate(lonely.job("a"))
    assert "\n" not in str(caught.value)
    assert evaluate(lonely.job("b", protocol="course"))["mAP"] == 0


def test_unknown_protocol(prepared):
    with pytest.raises(ReidpipeError, match="did you mean 'standard'"):
        evaluate(prepared.job("typo", protocol="standart"))


def test_trials_of_vehicleid_are_averaged(make_prepared):
    def draw(row):
        # Trial t takes image t of each identity (6 images each, in path order) as its gallery.
        _, camera, shot = row.path.removesuffix(".png").split("_")
        number = 2 * int(camera[1:]) + int(shot)
        trials = " ".join(str(trial) for trial in range(10) if trial % 6 == number)
        return dataclasses.replace(
            row, camid=None, split="gallery", extra={"gallery_trials": trials}
        )

    little = make_prepared(draw, "vehicleid")
    job = little.job("trials", exclude="none")
    metrics = evaluate(job)
    assert (metrics["exclude"], metrics["queries"], metrics["gallery"]) == ("none", 25, 5)
    features, keys = load_features(job.folder)
    pids = np.array([int(key.split("_")[0]) for key in keys])
    order = sorted(range(30), key=lambda place: keys[place])
    expected = []
    for trial in range(10):
        gallery = order[trial % 6 :: 6]
        query = [place for place in order if place not in gallery]
        sides = [Embeddings(features[rows], pids[rows]) for rows in (query, gallery)]
        expected.append(score(*sides, exclude="none"))
    assert metrics["mAP"] == pytest.approx(np.mean([trial.mAP for trial in expected]), abs=1e-9)
    first = np.mean([trial.cmc[0] for trial in expected])
    assert metrics["cmc"]["1"] == pytest.approx(first, abs=1e-9)
    assert json.loads((job.folder / "protocol.json").read_text())["trials"] == 10
