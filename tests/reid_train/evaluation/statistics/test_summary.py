"""What the evaluation worker says of how sure its figures are."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from reid_train.evaluation.metrics import RetrievalMetrics
from reid_train.evaluation.statistics.differences import Contender, differences, lines
from reid_train.evaluation.statistics.stored import MEASURES, StoredStatistics
from reid_train.evaluation.statistics.summary import Scored, confusions, people_sums
from reid_train.evaluation.statistics.telling import interval_line, warning
from reid_train.evaluation.stored_ranking import StoredRanking
from reid_train.evaluation.work import evaluate


@pytest.fixture(scope="module")
def evaluated(prepared):
    job = prepared.job("statistics", rerank={"k1": 6, "k2": 3, "lam": 0.3})
    return job, evaluate(job)


def test_an_evaluation_has_all_of_it(evaluated):
    job, metrics = evaluated
    found = StoredStatistics.read(job.folder)
    assert found.intervals and found.chance and found.resampling and found.cmc and found.cmc.low
    assert found.camera_pairs
    assert metrics["intervals"] == found.intervals and set(found.intervals) == set(MEASURES)
    assert metrics["chance"] == found.chance and 0.2 < found.chance["mAP"] < 0.3
    for name, (low, high) in metrics["intervals"].items():
        figure = metrics.get(name, metrics["cmc"].get(name.removeprefix("Rank-")))
        assert low <= figure <= high
    assert found.resampling.people == 5 and found.cmc.rank == list(range(1, 51))
    assert found.cmc.low[4] == metrics["intervals"]["Rank-5"][0]
    assert [(pair.query, pair.gallery, pair.queries) for pair in found.camera_pairs] == [
        (0, 1, 5), (0, 2, 5),
    ]  # fmt: skip
    ranking = StoredRanking.read(job.folder / "ranking.npz")
    assert ranking.pids is not None and ranking.first is not None and ranking.inp is not None
    assert ranking.pids.tolist() == [0, 1, 2, 3, 4]
    assert (ranking.first >= 0).all() and np.nanmean(ranking.inp) == metrics["mINP"]
    line = interval_line(job.folder, metrics)
    assert line.startswith("95 % over 5 people: mAP ") and "mINP" in line
    assert interval_line(job.folder, metrics["rerank"]).startswith("95 % over 5 people: mAP ")


def test_equal_keys_equal_bytes(prepared, evaluated):
    job = prepared.job("again", rerank={"k1": 6, "k2": 3, "lam": 0.3})
    evaluate(job)
    for name in ("statistics.json", "metrics.json", "threshold.json"):
        assert (job.folder / name).read_bytes() == (evaluated[0].folder / name).read_bytes()


def test_what_cannot_be_computed_says_why(make_prepared):
    def draw(row):
        _, camera, shot = row.path.removesuffix(".png").split("_")
        number = 2 * int(camera[1:]) + int(shot)
        trials = " ".join(str(trial) for trial in range(10) if trial % 6 == number)
        return dataclasses.replace(
            row, camid=None, split="gallery", extra={"gallery_trials": trials}
        )

    job = make_prepared(draw, "vehicleid").job("trials", exclude="none")
    metrics = evaluate(job)
    found = StoredStatistics.read(job.folder)
    assert found.camera_pairs is None and found.confusions is None
    assert found.intervals_over_queries is None
    assert {"camera_pairs", "confusions", "intervals_over_queries"} <= set(found.why)
    assert found.intervals is not None and found.cmc is not None
    assert found.cmc.value[0] == pytest.approx(metrics["cmc"]["1"], abs=1e-6)
    runs = [Contender(name, {0: job.folder}) for name in "ab"]
    assert "several trials" in lines(differences(runs))[0]

    alone = make_prepared(lambda row: dataclasses.replace(row, pid=7, camid=None)).job(
        "alone", exclude="none"
    )
    assert evaluate(alone)["intervals"] is None
    assert "single person" in interval_line(alone.folder, {"intervals": None})


def outcome(ap: list[float], first: list[int]) -> RetrievalMetrics:
    values = np.array(ap)
    return RetrievalMetrics(
        np.ones(50), values.mean(), 1.0, values, np.ones(len(ap), bool), values, np.array(first)
    )


def test_several_trials_count_alike():
    """Of trials with 2 and 3 queries the figure is the mean of means."""
    trials = [
        Scored(outcome([1, 0], [0, 1]), np.array([1, 2]), 0.1),
        Scored(outcome([1, 1, 1], [0, 0, 0]), np.array([1, 1, 2]), 0.1),
    ]
    assert people_sums(trials, ("mAP", "Rank-1")).ratio == pytest.approx([0.75, 0.75])


def test_confusions_by_hand():
    metrics = outcome([0.5] * 5, [1, 0, 2, 1, 1])
    trial = Scored(metrics, np.array([1, 1, 1, 2, 3]), 0.1)
    found = confusions(trial, np.array([4, 1, 4, 1, -1]))
    assert [(c.pid, c.taken_for, c.queries) for c in found] == [(1, 4, 2), (2, 1, 1)]


def test_the_warning_is_of_an_interval_that_reaches_chance():
    metrics = {"mAP": 0.02, "intervals": {"mAP": [0.009, 0.03]}, "chance": {"mAP": 0.01}}
    line = warning(metrics, "mine")
    assert line is not None and "mAP 2.0 [0.9, 3.0] of mine" in line and "\n" not in line
    assert warning({**metrics, "intervals": {"mAP": [0.011, 0.03]}}, "mine") is None
    assert warning({**metrics, "intervals": None}, "mine") is None
    assert warning({**metrics, "intervals": None, "mAP": 0.01}, "mine") is not None
    assert warning({"mAP": 0.0}, "of an older version") is None


def pretended(folder, ap: np.ndarray, pids: np.ndarray, **others):
    """An evaluation's folder whose queries have these average precisions."""
    folder.mkdir()
    about = {
        **{"exclude": "none", "inputs": {"index": "i"}, "trials": 1},
        **{"image_size": [256, 128], "flip": False, "precision": "fp32"},
        **others,
    }
    metrics = {
        **{"dataset": "d", "protocol": "p", "mAP": float(ap.mean()), "mINP": 0.0, "cmc": {}},
        **{"exclude": "none", "queries": len(ap), "valid_queries": len(ap), "gallery": 1},
    }
    for name, value in (("protocol", about), ("metrics", metrics)):
        (folder / f"{name}.json").write_text(json.dumps(value))
    keys = np.array([f"q{place}" for place in range(len(ap))])
    nothing = np.zeros((len(ap), 1))
    np.savez(
        folder / "ranking.npz", query_keys=keys, gallery_keys=keys,
        indices=nothing.astype(np.int32),
        similarities=nothing, correct=nothing > 0, junk=nothing > 0, ap=ap,
        valid=np.ones(len(ap), bool), inp=ap, first=np.where(ap > 0.5, 0, 1), pids=pids,
    )  # fmt: skip
    return folder


def test_differences_of_several(tmp_path):
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(40), 3)
    base = rng.uniform(0.2, 0.9, 120)
    runs = [
        Contender(name, {0: pretended(tmp_path / name, ap, pids)})
        for name, ap in (("low", base - 0.1), ("high", base + rng.normal(0, 0.01, 120)),
                         ("same", base))
    ]  # fmt: skip
    rows = differences(runs)
    assert len(rows) == 3 * 2
    found = {(row["better"], row["worse"]): row for row in rows if row["measure"] == "mAP"}
    assert found["high", "low"]["beyond_noise"] or found["same", "low"]["beyond_noise"]
    (close,) = (row for pair, row in found.items() if "low" not in pair)
    assert not close["beyond_noise"] and close["interval"][0] <= 0 <= close["interval"][1]
    assert close["comparisons"] == 3 and close["people"] == 40 and close["seeds"] == 1
    told = lines(rows)
    assert len(told) == 4 and "paired over 40 people" in told[0] and "Holm for 3" in told[0]
    assert "within noise" in told[1] and "  same over low: mAP +10.0 [" in "".join(told)

    elsewhere = Contender("other", {0: pretended(tmp_path / "x", base, pids, exclude="same")})
    assert differences([runs[0], elsewhere]) == []  # other rules: nothing to compare
    crowd = [*runs, *(Contender(f"r{n}", runs[0].folders) for n in range(3))]
    assert len(differences(crowd)) == 5 * 2  # each with the best


def test_older_evaluations_are_not_compared(tmp_path):
    pids, ap = np.arange(20), np.linspace(0.1, 0.9, 20)
    folders = [pretended(tmp_path / name, ap, pids) for name in "ab"]
    with np.load(folders[1] / "ranking.npz") as file:
        kept = {name: file[name] for name in file if name not in ("inp", "first", "pids")}
    np.savez(folders[1] / "ranking.npz", **kept)
    assert StoredRanking.read(folders[1] / "ranking.npz").pids is None
    (line, pair) = lines(differences([Contender(f.name, {0: f}) for f in folders]))
    assert line.startswith("not compared: evaluated by an older version") and pair == "  a over b"
