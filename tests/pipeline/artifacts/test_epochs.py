"""Kept epochs of a model: which there are, and what ``RUN@EPOCH`` means."""

from __future__ import annotations

import json

import pytest

from pipeline.artifacts import epochs
from pipeline.artifacts.atomic import write_json
from pipeline.artifacts.mark import MARK
from pipeline.artifacts.runs import Run, find_run, record_runs
from pipeline.artifacts.steps import Job, Step
from pipeline.artifacts.store import Execution, Workspace
from pipeline.artifacts.validation import LAST_ONLY, Keep, Validation
from pipeline.terminal.errors import DamagedFile, ReidpipeError

STAGES = [{"name": "warm", "epochs": 2}, {"name": "image", "epochs": 4}]
MODEL = Step(
    "model",
    {"recipe": {"name": "some", "stages": STAGES}, "seed": 3},
    {"index": Step("index", {"dataset": "crowd"})},
)


def write_model(folder, text):
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(text)
    write_json(folder / "model.json", {"training": {"loss": len(text)}})


def finish(workspace, step):
    mark = {"params": {}, "inputs": {}, "summary": {}, "started": "", "seconds": 0, "files": {}}
    write_json(workspace.folder(step) / MARK, mark)


def see(folder, numbers, best):
    rows = [{"epoch": number, "mAP": 0.5} for number in numbers]
    write_json(folder / epochs.VALIDATION, {"epochs": rows, "best": best})


@pytest.fixture
def workspace(tmp_path):
    """A run of 6 epochs of two stages, of which 2 and 4 were kept."""
    made = Workspace(tmp_path)
    folder = made.folder(MODEL)
    write_model(folder, "the last")
    write_model(epochs.place(folder, 2), "two")
    write_model(epochs.place(folder, 4), "four")
    (epochs.place(folder, 5)).mkdir()  # half written
    lines = [{"event": "start"}]
    for stage in STAGES:
        for number in range(stage["epochs"]):
            lines += [{"event": e, "epoch": number} for e in ("step", "epoch", "validation")]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    finish(made, MODEL)
    record_runs(made, [Run.of("some", "crowd", 3, MODEL)])
    return made


def test_a_kept_epoch_is_a_step_that_stands_on_its_model(workspace):
    found = find_run(workspace, "some@4")
    assert found.name == find_run(workspace, None).name + "@4"
    assert found.model.name == "epoch" and found.model.inputs["model"].key == MODEL.key
    assert found.model.inputs["index"].key == MODEL.inputs["index"].key
    assert found.model.params["recipe"] == MODEL.params["recipe"]
    assert find_run(workspace, f"{MODEL.key[:8]}@4").model.key == found.model.key
    assert find_run(workspace, "some@2").model.key != found.model.key


def test_the_last_epoch_is_the_run_itself(workspace):
    run = find_run(workspace, "some")
    assert find_run(workspace, "some@last") == run
    last = find_run(workspace, "some@6")
    assert (last.name, last.model.key) == (f"{run.name}@6", run.model.key)


def test_the_best_is_what_validation_says(workspace):
    with pytest.raises(ReidpipeError, match="found no validation of some-crowd-s3-.*--eval-every"):
        find_run(workspace, "some@best")
    see(workspace.folder(MODEL), [2, 4, 6], best=4)
    assert find_run(workspace, "some@best").name.endswith("@4")
    see(workspace.folder(MODEL), [2, 4, 6], best=6)
    assert find_run(workspace, "some@best").model.key == MODEL.key


@pytest.mark.parametrize(
    ("epoch", "told"),
    [
        (
            "3",
            r"no epoch 3 of some.*: 2, 4 and the last, 6; type reidpipe cache rm \w+, .*--keep 3",
        ),
        ("5", "no epoch 5"),
        ("7", r"no epoch 7 of some.*; type some-crowd-s3-\w+@2$"),
        ("0", "no epoch 0"),
        ("bset", "found 'bset' after the @ .* expected best, last or the number"),
        ("-1", "found '-1' after the @"),
        ("", "found '' after the @"),
    ],
)
def test_an_epoch_that_was_not_kept_says_which_were(workspace, epoch, told):
    with pytest.raises(ReidpipeError, match=told):
        find_run(workspace, f"some@{epoch}")


def test_a_name_with_an_at_is_a_name(workspace):
    other = Step("model", {"recipe": {"name": "a@4", "stages": []}, "seed": 1}, MODEL.inputs)
    record_runs(workspace, [Run.of("a@4", "crowd", 1, other)])
    assert find_run(workspace, "a@4").model.key == other.key


def test_an_epoch_is_taken_with_its_log_and_stands_alone(workspace, tmp_path):
    found = find_run(workspace, "some@4")
    folder = workspace.make(found.model, Execution())
    assert (folder / "model.safetensors").read_text() == "four"
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["event"] == "epoch"] == [0, 1, 0, 1]
    assert lines[-1]["event"] == "validation"
    for artifact in workspace.find("model"):
        workspace.remove(artifact)
    assert find_run(workspace, "some@4").model.key == found.model.key
    with pytest.raises(ReidpipeError, match="found no epoch 2"):
        find_run(workspace, "some@2")


def test_a_link_is_no_kept_epoch_and_no_file_of_one(workspace, tmp_path):
    secret = tmp_path / "secret"
    write_model(secret, "somebody else's")
    epochs.place(workspace.folder(MODEL), 3).symlink_to(secret)
    (epochs.place(workspace.folder(MODEL), 4) / "heads.safetensors").symlink_to(secret / "x")
    assert epochs.kept(workspace.folder(MODEL)) == [2, 4]
    job = Job(tmp_path / "out", {"epoch": 4}, {"model": workspace.folder(MODEL)}, tmp_path)
    job.folder.mkdir()
    epochs.take(job)
    assert not (job.folder / "heads.safetensors").exists()


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"epochs": [{"epoch": 1}], "best": 1},
        {"epochs": [{"epoch": 1, "mAP": 0.1}], "best": 2},
    ],
)
def test_a_damaged_validation_is_one_line(workspace, content):
    write_json(workspace.folder(MODEL) / epochs.VALIDATION, content)
    with pytest.raises(DamagedFile, match="validation.json"):
        find_run(workspace, "some@best")


def test_what_is_over_cannot_be_asked_for(workspace, tmp_path):
    def check(keep=LAST_ONLY, every=None):
        given = None if every is None else Validation(every, tmp_path, tmp_path, {})
        epochs.check_complete(workspace, MODEL, given, keep)

    check()
    check(Keep(every=2))
    check(Keep(every=6))
    with pytest.raises(ReidpipeError, match="no weights of epoch 3 of 6; .* cache rm"):
        check(Keep(every=3))
    with pytest.raises(ReidpipeError, match="no validation of epoch 2, 4, 6 of 6"):
        check(every=2)
    see(workspace.folder(MODEL), [3, 6], best=3)
    check(every=3)
    with pytest.raises(ReidpipeError, match="no weights of epoch 3 of 6"):
        check(Keep(best=True), every=3)
    see(workspace.folder(MODEL), [3, 6], best=6)
    check(Keep(best=True), every=3)
    for artifact in workspace.find("model"):
        workspace.remove(artifact)
    check(Keep(best=True, every=1), every=1)  # will be trained
