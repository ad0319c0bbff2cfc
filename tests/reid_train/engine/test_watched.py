"""What ``watch`` sees of trainings that run, have stopped or ended."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.artifacts.atomic import write_json
from pipeline.artifacts.store import MARK, Workspace
from pipeline.terminal.errors import DamagedFile, ReidpipeError
from reid_train.engine.chart import chart
from reid_train.engine.log import LOG
from reid_train.engine.watched import Watch

RUN = "pi-vl-tiny-mannequins-s0-aaaaaa"
MARKED = {"params": {}, "inputs": {}, "summary": {}, "started": "", "seconds": 0, "files": {}}


def start(*runs: str, name: str = "image", epochs: int = 4) -> dict:
    return {
        "event": "start",
        "runs": runs,
        "stages": [{"name": name, "epochs": epochs, "steps": 2}],
    }


def step(epoch: int, number: int, loss: float = 1.0, stage: str = "image") -> dict:
    return {"event": "step", "stage": stage, "epoch": epoch, "step": number, "lr": 0.1,
            "loss": loss, "id": loss - 0.5, "dense": 0.5, "gradient": 1.0}  # fmt: skip


def epoch(number: int, loss: float, stage: str = "image", epochs: int = 4) -> dict:
    return {"event": "epoch", "stage": stage, "epoch": number, "epochs": epochs, "lr": 0.1,
            "loss": loss, "id": loss - 0.5, "dense": 0.5, "gradient": 1.0, "images_per_s": 80.0,
            "seconds": 30.0}  # fmt: skip


class Place:
    """A workspace with logs in it."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root)

    def folder(self, key: str, kind: str = "model") -> Path:
        folder = self.workspace.root / "artifacts" / kind / (key * 20)[:20]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def write(self, key: str, *entries: dict, kind: str = "model", text: str = "") -> Path:
        folder = self.folder(key, kind)
        with (folder / LOG).open("a") as file:
            file.write("".join(json.dumps(entry) + "\n" for entry in entries) + text)
        return folder

    def held(self, key: str, kind: str = "model") -> FileLock:
        folder = self.folder(key, kind)
        return FileLock(folder.with_name(f"{folder.name}.lock"))

    def finish(self, key: str, kind: str = "model") -> None:
        write_json(self.folder(key, kind) / MARK, MARKED)

    def seen(self, reference: str | None = None) -> Watch:
        watch = Watch(self.workspace, reference)
        watch.look()
        return watch


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_falling_line():
    assert chart([(1, 4.0), (2, 2.0), (3, 0.0)], end=3, width=8, height=3) == [
        "4 |*.",
        "  |  *",
        "0 |   .*",
        "  +-----",
        "   1   3",
    ]


def test_a_curve_under_way_takes_its_part_of_the_width():
    lines = chart([(1, 2.0), (2, 1.0)], end=5, width=12, height=2)
    assert lines == ["2 |*.", "1 |  *", "  +---------", "   1       5"]


def test_many_points_share_columns():
    lines = chart([(n, float(n % 2)) for n in range(1, 1001)], end=1000, width=40, height=5)
    assert max(map(len, lines)) <= 40 and len(lines) == 7


def test_one_point_and_equal_points_are_drawn():
    for points in ([(1.0, 2.0)], [(1.0, 2.0), (2.0, 2.0)]):
        assert any("*" in line for line in chart(points, end=1, width=20, height=4))


def test_what_is_being_made_is_running(place: Place):
    place.write("a", start(RUN), step(0, 0), step(0, 1), epoch(0, 3.0), step(1, 0, 2.0))
    place.write("b", start("other-s0-bbbbbb"), epoch(0, 9.0))
    place.finish("b")
    with place.held("a"):
        watch = place.seen()
    assert watch.running and [t.artifact.key[0] for t in watch.shown.values()] == ["a"]
    text = watch.picture(100, 24)
    assert text[0] == f"model aaaaaaaa for {RUN}: running"
    # One and a half epochs of four in 30 s each.
    assert text[1] == "image: epoch 2/4, step 1/2, loss 2.000, lr 1.0e-01, 80 images/s, 1:15 left"
    assert text[2] == "  id 1.500, dense 0.500"
    assert any("*" in line for line in text) and not any("\x1b" in line for line in text)


def test_one_that_was_killed_is_stopped(place: Place):
    place.write("a", start(RUN), epoch(0, 3.0), text='{"event": "st')
    watch = place.seen()
    assert not watch.running
    text = watch.picture(80, 24)
    assert text[0].startswith("nothing trains now")
    assert text[1].endswith(": stopped") and "left" not in text[2]


def test_without_a_training_under_way_the_newest_is_shown(place: Place):
    place.write("a", start(RUN), epoch(0, 3.0))
    newest = place.write("b", start(RUN.replace("aaaaaa", "bbbbbb")), epoch(0, 3.0))
    os.utime(newest / LOG, (2e9, 2e9))
    assert [t.artifact.key[0] for t in place.seen().shown.values()] == ["b"]


def test_what_is_made_without_a_curve_is_named(place: Place):
    place.folder("c", "images")
    with place.held("c", "images"):
        watch = place.seen()
        assert watch.running
        assert watch.picture(80, 24) == ["making images cccccccc: no curve"]


def test_it_follows_from_stage_to_stage(place: Place):
    place.write("c", start(RUN, name="part-prompts"), kind="prompts")
    lock = place.held("c", "prompts")
    watch = Watch(place.workspace, "pi-vl-tiny")
    with lock:
        place.write("c", epoch(0, 5.0, stage="part-prompts"), kind="prompts")
        watch.look()
        assert list(watch.shown) == ["c" * 20] and watch.running
    place.finish("c", "prompts")
    place.write("a", start(RUN))
    with place.held("a"):
        place.write("a", epoch(0, 3.0))
        watch.look()
        assert list(watch.shown) == ["c" * 20, "a" * 20] and watch.running
        place.write("a", epoch(1, 2.0))
        watch.look()
    titles = [line for line in watch.picture(80, 40) if "epoch" in line and "by" not in line]
    assert titles[0].startswith("part-prompts: epoch 1/4") and "epoch 2/4" in titles[1]
    place.finish("a")
    watch.look()
    assert not watch.running
    assert [t.state for t in watch.shown.values()] == ["finished", "finished"]


def test_a_log_that_a_resumed_run_cut_is_read_anew(place: Place):
    folder = place.write("a", start(RUN), epoch(0, 3.0), epoch(1, 2.0), epoch(2, 1.0))
    watch = place.seen("aaaa")
    assert len(next(iter(watch.shown.values())).stages["image"].ended) == 3
    kept = [json.dumps(entry) + "\n" for entry in (start(RUN), epoch(0, 3.0))]
    (folder / LOG).write_text("".join(kept))
    with place.held("a"):
        watch.look()
    assert [e["loss"] for e in next(iter(watch.shown.values())).stages["image"].ended] == [3.0]


def test_a_log_that_was_cut_and_has_grown_since_is_read_anew(place: Place):
    folder = place.write("a", start(RUN), epoch(0, 3.0), epoch(1, 2.0))
    watch = place.seen("aaaa")
    entries = (start(RUN), epoch(0, 3.0), epoch(1, 2.123456789), epoch(2, 1.5))
    (folder / LOG).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    with place.held("a"):
        watch.look()
    ended = next(iter(watch.shown.values())).stages["image"].ended
    assert [entry["loss"] for entry in ended] == [3.0, 2.123456789, 1.5]


def test_validations_are_a_curve_of_their_own(place: Place):
    validation = {"event": "validation", "stage": "image", "dataset": "d:other",
                  "protocol": "standard", "Rank-1": 0.9, "seconds": 1.0}  # fmt: skip
    place.write(
        "a", start(RUN), epoch(0, 3.0), {**validation, "epoch": 0, "mAP": 0.25},
        epoch(1, 2.0), {**validation, "epoch": 1, "mAP": 0.5},
    )  # fmt: skip
    watch = place.seen()
    text = watch.picture(80, 40)
    line = next(n for n, line in enumerate(text) if "validation mAP on d:other" in line)
    assert "(protocol standard)" in text[line] and text[line + 1].startswith("50 |")
    plain = next(iter(watch.shown.values())).plain()
    assert [v["mAP"] for v in plain["stages"][0]["validation"]] == [0.25, 0.5]
    assert [e["epoch"] for e in plain["stages"][0]["curve"]] == [1, 2]
    assert plain["runs"] == [RUN] and plain["state"] == "stopped"


def test_a_picture_keeps_to_the_terminal(place: Place):
    place.write("a", start(RUN), *(epoch(n, 1 / (n + 1)) for n in range(4)))
    text = place.seen().picture(30, 12)
    assert max(map(len, text)) <= 30 and len(text) <= 14


def test_a_shared_stage_is_found_by_any_run_of_its_command(place: Place):
    other = "clip-reid-tiny-mannequins-s0-bbbbbb"
    place.write("c", start(RUN, other), epoch(0, 3.0), kind="prompts")
    place.write("a", start(RUN, other), epoch(0, 3.0))
    assert list(place.seen("clip-reid-tiny").shown) == ["c" * 20]  # and not the other's model
    with place.held("a"):
        assert list(place.seen("clip-reid-tiny").shown) == ["a" * 20]  # what it waits for


def test_mistakes(place: Place):
    with pytest.raises(ReidpipeError, match="found nothing that trains.*type reidpipe train"):
        place.seen()
    folder = place.write("a", start(RUN), epoch(0, 3.0))
    with pytest.raises(ReidpipeError, match="found no training 'pi-vl-tini'.*type reidpipe watch"):
        place.seen("pi-vl-tini")
    (folder / LOG).write_text("nonsense\n")
    with pytest.raises(DamagedFile, match="line 1"):
        place.seen()


def test_a_log_of_an_older_version_is_drawn(place: Place):
    """Without a first line, rates and the number of epochs."""
    old = {"event": "epoch", "stage": "image", "epoch": 0, "loss": 2.0, "images_per_s": 5.0,
           "seconds": 1.0}  # fmt: skip
    place.write("a", old, {**old, "epoch": 1, "loss": 1.0})
    place.finish("a")
    text = place.seen().picture(80, 24)
    assert text[1] == "model aaaaaaaa: finished"
    assert text[2] == "image: epoch 2/?, loss 1.000, 5 images/s"
