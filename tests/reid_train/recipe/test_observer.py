"""Validation while training and kept epochs: what they leave, and that they change nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipeline.artifacts.epochs import kept, place, validated
from pipeline.artifacts.steps import Job
from pipeline.artifacts.validation import Keep, Validation
from pipeline.datasets.index import Index, write_index
from reid_train.engine import loop
from reid_train.engine.checkpoint import read_state_dict
from reid_train.evaluation.work import evaluate
from reid_train.recipe import observer, work
from reid_train.recipe.loading import load_recipe
from tests.reid_train.people import people

RECIPE = {
    "stages.0.epochs": "4",
    "stages.0.data.ids": "4",
    "stages.0.data.images_per_id": "2",
    "input.size": "[64, 32]",
}
PARAMS = {"protocol": "standard", "exclude": "same-camera", "flip": False}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of a training index and of one to look at, over the same pixels."""
    folder, looked = tmp_path_factory.mktemp("inputs"), tmp_path_factory.mktemp("looked")
    _, rows, _ = people(folder, size=(64, 32))
    write_index(folder, Index("crowd", folder, rows))
    splits = ("query", "gallery", "gallery", "gallery", "gallery")
    tested = [replace(row, split=splits[n % 5], digest="") for n, row in enumerate(rows)]
    write_index(looked, Index("others", folder, tested))
    return folder, looked


def job_of(folders, folder, *, every=None, keep=None, **overrides):
    inputs, looked = folders
    folder.mkdir(exist_ok=True)
    recipe = load_recipe("baseline-tiny", {**RECIPE, **overrides}).plain()
    params = {"recipe": json.loads(json.dumps(recipe)), "seed": 0, "pretrained": "none"}
    sources = {"index": inputs, "images": inputs}
    validation = None if every is None else Validation(every, looked, inputs, PARAMS)
    return Job(
        folder, params, sources, folder.parent, device="cpu", validation=validation,
        keep=keep or Keep(),
    )  # fmt: skip


def log_of(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    timed = ("seconds", "images_per_s")
    return [{k: v for k, v in line.items() if k not in timed} for line in lines]


def bytes_of(folder):
    names = ("model.safetensors", "heads.safetensors")
    metrics = json.loads((folder / "model.json").read_text())["metrics"]
    return [(folder / name).read_bytes() for name in names] + [metrics]


def test_looking_and_keeping_change_nothing_of_what_is_trained(tmp_path, folders):
    plain = work.model(job_of(folders, tmp_path / "plain"))
    keep = Keep(best=True, every=1)
    looked = work.model(job_of(folders, tmp_path / "looked", every=1, keep=keep))
    assert bytes_of(tmp_path / "plain") == bytes_of(tmp_path / "looked")
    assert looked.keys() == plain.keys() and looked["figures"] == plain["figures"]
    log = log_of(tmp_path / "looked")
    assert [line for line in log if line["event"] != "validation"] == log_of(tmp_path / "plain")
    found = [(line["epoch"], line["dataset"]) for line in log if line["event"] == "validation"]
    assert found == [(n, "others") for n in range(4)]
    assert kept(tmp_path / "looked") == [1, 2, 3]
    assert not (tmp_path / "plain" / "epochs").exists()
    assert not (tmp_path / "looked" / observer.DESK).exists()


def test_a_kept_epoch_is_the_model_of_a_training_that_ended_there(tmp_path, folders):
    options = {"stages.0.schedule": "{kind: constant}", "stages.0.ema": "0.8"}
    short = {**options, "stages.0.epochs": "2"}
    work.model(job_of(folders, tmp_path / "long", keep=Keep(every=2), **options))
    work.model(job_of(folders, tmp_path / "short", **short))
    assert bytes_of(place(tmp_path / "long", 2)) == bytes_of(tmp_path / "short")
    summary = json.loads((place(tmp_path / "long", 2) / "model.json").read_text())["training"]
    assert (summary["epochs"], summary["steps"]) == (2, 6)
    last = read_state_dict(tmp_path / "long" / "model.safetensors")
    other = read_state_dict(place(tmp_path / "long", 2) / "model.safetensors")
    assert any(not last[name].equal(other[name]) for name in last)


def test_its_figures_are_those_of_the_one_evaluator(tmp_path, folders):
    work.model(job_of(folders, tmp_path / "run", every=3, keep=Keep(every=3)))
    found = validated(tmp_path / "run")
    assert found is not None and [row["epoch"] for row in found["epochs"]] == [3, 4]
    assert (found["dataset"], found["exclude"], found["queries"]) == ("others", "same-camera", 6)
    assert found["seconds"] == pytest.approx(sum(row["seconds"] for row in found["epochs"]))
    models = (place(tmp_path / "run", 3), tmp_path / "run")
    for row, model in zip(found["epochs"], models, strict=True):
        folder = tmp_path / f"evaluation-{row['epoch']}"
        folder.mkdir()
        sources = {"model": model, "index": folders[1], "images": folders[0]}
        params = {**PARAMS, "rerank": None}
        metrics = evaluate(Job(folder, params, sources, tmp_path, device="cpu"))
        assert (row["mAP"], row["mINP"]) == (metrics["mAP"], metrics["mINP"])
        assert row["Rank-5"] == metrics["cmc"]["5"]


def test_the_best_is_the_first_of_the_highest_and_alone_is_kept(tmp_path, folders, monkeypatch):
    real, maps = observer.evaluate, iter([0.2, 0.5, 0.5, 0.4])
    monkeypatch.setattr(observer, "evaluate", lambda job: {**real(job), "mAP": next(maps)})
    work.model(job_of(folders, tmp_path / "run", every=1, keep=Keep(best=True)))
    found = validated(tmp_path / "run")
    assert found is not None and found["best"] == 2
    assert kept(tmp_path / "run") == [2]


class Killed(Exception):
    """In place of SIGKILL: nothing after it is executed."""


KEPT = Keep(best=True, every=3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, folders):
    """A training that nobody killed."""
    folder = tmp_path_factory.mktemp("whole")
    work.model(job_of(folders, folder, every=2, keep=KEPT))
    return folder


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_killed_run_validates_each_epoch_once(tmp_path, folders, whole, monkeypatch, moment):
    save, real = loop.save_state, observer.evaluate
    parts = job_of(folders, tmp_path / "parts", every=2, keep=KEPT)

    def stop_when_saved(path, state):
        save(path, state)
        if (state["epoch"], state["step"]) == ((2, 0) if moment == "before" else (3, 0)):
            raise Killed

    def stop_when_evaluated(job):
        (job.folder / "half").write_text("written")
        real(job)
        raise Killed

    with monkeypatch.context() as patch:
        if moment == "during":
            patch.setattr(observer, "evaluate", stop_when_evaluated)
        else:
            patch.setattr(loop, "save_state", stop_when_saved)
        with pytest.raises(Killed):
            work.model(parts)
    work.model(parts)
    assert bytes_of(tmp_path / "parts") == bytes_of(whole)
    assert log_of(tmp_path / "parts") == log_of(whole)
    assert kept(tmp_path / "parts") == kept(whole)
    rows = []
    for folder in (tmp_path / "parts", whole):
        found = validated(folder)
        assert found is not None
        rows.append([{k: v for k, v in row.items() if k != "seconds"} for row in found["epochs"]])
    assert rows[0] == rows[1]
    assert not (tmp_path / "parts" / observer.DESK).exists()


def test_a_wish_that_comes_too_late_is_told(tmp_path, folders, monkeypatch, caplog):
    save = loop.save_state

    def stop(path, state):
        save(path, state)
        if state["epoch"] == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", stop)
        with pytest.raises(Killed):
            work.model(job_of(folders, tmp_path / "run"))
    work.model(job_of(folders, tmp_path / "run", every=1, keep=Keep(every=1)))
    assert "--eval-every comes too late for epoch 1, 2" in caplog.text
    assert "--keep comes too late for epoch 1, 2" in caplog.text
    assert kept(tmp_path / "run") == [3]
