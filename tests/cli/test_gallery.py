"""``reidpipe embed`` extends a gallery, ``reidpipe search`` takes it in place of its images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts.runs import list_runs
from pipeline.artifacts.store import Workspace
from reid_train import open_gallery
from tests.cli.conftest import TRAIN, Console

RUN = "baseline-tiny"


@pytest.fixture
def photos(people: Path, tmp_path: Path) -> Path:
    """Six photographs of one's own, one of them deeper."""
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    for number, path in enumerate(sorted((people / "images" / "gallery").iterdir())[:6]):
        shutil.copy(path, folder / ("deeper" if number == 5 else "") / f"{number}{path.suffix}")
    return folder


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the images that went through the network, call by call."""
    from reid_train.evaluation import image_files

    calls: list[list[str]] = []
    embed_files = image_files.embed_files

    def counted(model, paths: Sequence[Path], **options):
        calls.append([path.name for path in paths])
        return embed_files(model, paths, **options)

    monkeypatch.setattr(image_files, "embed_files", counted)
    return calls


def other(people: Path, number: int) -> bytes:
    return sorted((people / "images" / "query").iterdir())[number].read_bytes()


def test_embed_writes_a_gallery(trained: Console, photos: Path, tmp_path: Path):
    found = trained.json("embed", RUN, photos, "--out", tmp_path / "g")
    assert (found["images"], found["computed"], found["folder"]) == (6, 6, str(tmp_path / "g"))
    gallery = open_gallery(tmp_path / "g")
    assert gallery.features.shape == (6, found["dimension"])
    assert gallery.names[-1].startswith("deeper/5.") and gallery.pids is None
    (run,) = list_runs(Workspace(trained.root))
    stored = json.loads((tmp_path / "g" / "gallery.json").read_text())
    assert stored["model_key"] == run.model.key and stored["versions"]["torch"]
    assert (stored["flip"], stored["normalise"]) == (False, True)
    evaluated = json.loads((Path(trained.json("eval")["folder"]) / "threshold.json").read_text())
    point = next(point for point in evaluated["points"] if point["wanted_fpr"] == 0.01)
    assert stored["threshold"] == {
        "similarity": evaluated["threshold"], "wanted_fpr": 0.01,
        "fpr": point["fpr"], "tpr": point["tpr"],
    }  # fmt: skip


def test_what_is_there_is_not_computed_again(
    trained: Console, people: Path, photos: Path, tmp_path: Path, computed: list[list[str]]
):
    words = ("embed", RUN, photos, "--out", tmp_path / "g")
    trained(*words)
    before = open_gallery(tmp_path / "g")
    first = before.features.copy()
    written = (tmp_path / "g" / "features.npy").stat().st_mtime_ns
    assert "nothing to do: the features of all 6 images exist" in trained(*words).stdout
    assert (tmp_path / "g" / "features.npy").stat().st_mtime_ns == written

    changed = next(photos.glob("2.*"))
    changed.write_bytes(other(people, 0))
    (photos / "deeper" / "new.png").write_bytes(other(people, 1))
    text = trained(*words).stdout
    assert "computed 2 images" in text and "7 images," in text
    assert computed == [
        [*(path.name for path in sorted(photos.glob("?.*"))), Path(before.names[5]).name],
        [changed.name, "new.png"],
    ]
    after = open_gallery(tmp_path / "g")
    assert after.names == [*before.names, "deeper/new.png"]
    same = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(after.features[same], first[same])
    assert (after.features[2] != first[2]).any()
    # The same as if all had been computed at once.
    trained("embed", RUN, photos, "--out", tmp_path / "whole")
    whole = open_gallery(tmp_path / "whole")
    order = [whole.names.index(name) for name in after.names]
    np.testing.assert_allclose(after.features, whole.features[order], atol=1e-5)


def test_images_that_are_gone_or_damaged(
    trained: Console, people: Path, photos: Path, tmp_path: Path
):
    words = ("embed", RUN, photos, "--out", tmp_path / "g")
    trained(*words)
    gone, cut = next(photos.glob("0.*")), next(photos.glob("1.*"))
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:200])
    found = trained.json(*words)
    assert list(found["damaged"]) == [str(cut)] and found["computed"] == 0
    names = open_gallery(tmp_path / "g").names
    # Features of an image that has left its folder stay; of one that is another now they do not.
    assert gone.name in names and cut.name not in names and found["images"] == len(names) == 5
    # The picture shows a card for what is gone.
    query = next(photos.glob("2.*"))
    out = tmp_path / "found.png"
    rows = trained.json("search", RUN, query, tmp_path / "g", "--out", out)["matches"]
    assert str(gone) in [row["image"] for row in rows] and out.is_file()
    for path in photos.rglob("*.*"):
        path.write_bytes(b"no image")
    # Nothing but damage is told as such, and what needs no file is kept.
    assert trained.json(*words)["images"] == 1
    assert "nothing to do: the features of the" in trained(*words).stdout


def test_search_on_a_gallery_is_search_on_its_images(
    trained: Console, photos: Path, tmp_path: Path, computed: list[list[str]]
):
    query = next(photos.glob("3.*"))
    trained("embed", RUN, photos, "--out", tmp_path / "g")
    words = ("search", RUN, query)
    whole = trained.json(*words, photos, "--out", tmp_path / "a.png", "--top", "4")
    computed.clear()
    stored = trained.json(*words, tmp_path / "g", "--out", tmp_path / "b.png", "--top", "4")
    assert computed == [[query.name]]
    assert {**whole, "picture": 0} == {**stored, "picture": 0} and len(stored["matches"]) == 4
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_search_uses_the_threshold_of_the_gallery(trained: Console, photos: Path, tmp_path: Path):
    query = next(photos.glob("3.*"))
    words = ("search", RUN, query, tmp_path / "g")
    trained("embed", RUN, photos, "--out", tmp_path / "g")
    kept = trained.json(*words)["threshold"]
    trained("cache", "rm", "evaluation")
    assert trained.json(*words)["threshold"] == kept is not None
    assert "no threshold yet" in trained("search", RUN, query, photos).stdout
    # One made before any evaluation has none; then the newest evaluation tells.
    trained("embed", RUN, photos, "--out", tmp_path / "early")
    words = ("search", RUN, query, tmp_path / "early")
    early = open_gallery(tmp_path / "early").about
    assert early is not None and early.threshold is None
    assert trained.json(*words)["threshold"] is None
    trained("eval")
    assert trained.json(*words)["threshold"] == kept
    trained("embed", RUN, photos, "--out", tmp_path / "early")
    later = open_gallery(tmp_path / "early").about
    assert later is not None and later.threshold is not None
    assert later.threshold.similarity == kept


def test_galleries_of_other_features_are_refused(trained: Console, photos: Path, tmp_path: Path):
    query, folder = next(photos.glob("3.*")), tmp_path / "g"
    trained("embed", RUN, photos, "--out", folder)
    first = trained.json("search", RUN, query, folder)["run"]
    for words in (("embed", first, photos, "--out", folder), ("search", first, query, folder)):
        line = trained.mistake(*words, "--flip")
        assert "without the mirrored images'" in line and "--flip" in line.rpartition("expected")[2]
    train = ("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu")
    second = trained.json(*train, "--seed", "1")["run"]
    for words in (("embed", second, photos, "--out", folder), ("search", second, query, folder)):
        line = trained.mistake(*words)
        assert f"found features by run '{first}' in {folder}" in line
        assert f"type reidpipe embed {second} DIR" in line
    trained("embed", first, photos, "--out", tmp_path / "flipped", "--flip")
    line = trained.mistake("embed", first, photos, "--out", tmp_path / "flipped")
    assert "found features with the mirrored images'" in line and "type --flip" in line
    # A search asks for what the gallery has.
    found = trained.json("search", first, query, tmp_path / "flipped")["matches"][0]
    assert found["image"] == str(query) and found["similarity"] == pytest.approx(1, abs=1e-5)


def test_two_folders_in_one_gallery(trained: Console, people: Path, photos: Path, tmp_path: Path):
    more = tmp_path / "elsewhere" / "photos"
    more.mkdir(parents=True)
    (more / "z.png").write_bytes(other(people, 0))
    words = ("embed", RUN, photos, "--out", tmp_path / "g")
    trained(*words)
    assert trained.json("embed", RUN, more, "--out", tmp_path / "g")["images"] == 7
    rows = trained.json("search", RUN, more / "z.png", tmp_path / "g")["matches"]
    assert rows[0]["image"] == str(more / "z.png")
    name = next(photos.glob("0.*")).name
    (more / name).write_bytes(other(people, 1))
    line = trained.mistake("embed", RUN, more, "--out", tmp_path / "g")
    assert f"found another image {name} in {photos}" in line
    # Where nobody said which gallery, folders that are called the same are kept apart.
    trained("embed", RUN, photos)
    assert f"found the features of {photos}" in trained.mistake("embed", RUN, more)


def test_a_gallery_that_nobody_named_has_what_was_named_alone(
    trained: Console, people: Path, photos: Path
):
    first, second = (path.name for path in sorted(photos.glob("?.*"))[:2])
    (photos / "one.csv").write_text(f"path\n{first}\n")
    (photos / "two.csv").write_text(f"path\n{first}\n{second}\n")
    expected = {
        ("folder", "--split", "query"): ("folder-query", 12),
        ("folder", "--split", "gallery"): ("folder-gallery", 24),
        (photos / "one.csv",): ("photos-one.csv", 1),
        (photos / "two.csv",): ("photos-two.csv", 2),
        (photos / second,): (f"photos-{second}", 1),
        (photos,): ("photos", 6),
    }
    for words, (called, images) in expected.items():
        found = trained.json("embed", RUN, *words)
        assert Path(found["folder"]) == trained.root / "embeddings" / f"{found['run']}-{called}"
        assert found["images"] == found["computed"] == images
        assert trained.json("embed", RUN, *words)["computed"] == 0

    # A table that names less than it did: what it left out is there still.
    (photos / "two.csv").write_text(f"path\n{second}\n")
    line = trained.mistake("embed", RUN, photos / "two.csv")
    folder = trained.root / "embeddings" / f"{found['run']}-photos-two.csv"
    assert f"found the features of 1 images more in {folder}, such as {first}" in line
    assert line.endswith(f"type --out {folder} to add to them, or another --out")
    assert trained.json("embed", RUN, photos / "two.csv", "--out", folder)["images"] == 2
    (photos / first).unlink()
    assert trained.json("embed", RUN, photos / "two.csv")["images"] == 2


def test_options_that_would_do_nothing_are_told(trained: Console, photos: Path, tmp_path: Path):
    names = sorted(path.name for path in photos.glob("?.*"))
    (photos / "all.csv").write_text("\n".join(["path", *names, ""]))
    rule = ("--rule", r"(?P<pid>\d+)\..*")
    for words, told in (
        ((photos, "--split", "query"), "found --split query for"),
        ((photos / "all.csv", *rule), "found --rule for"),
        (("folder", *rule), "found --rule for folder"),
        ((photos, *rule, "--no-identities"), "beside --no-identities"),
    ):
        line = trained.mistake("embed", RUN, *words, "--out", tmp_path / "g")
        assert told in line and line.endswith(" out")
    trained("embed", RUN, photos, *rule, "--out", tmp_path / "g")
    search = ("search", RUN, photos / "all.csv", tmp_path / "g", "--out", tmp_path / "a.csv")
    assert "found --rule, and tables" in trained.mistake(*search, *rule)
    trained(*search)
    trained("search", RUN, photos / names[0], *search[3:], *rule)


def test_a_damaged_gallery_is_one_line(trained: Console, photos: Path, tmp_path: Path):
    trained("embed", RUN, photos, "--out", tmp_path / "g")
    (tmp_path / "g" / "gallery.json").write_text("{}")
    for words in (
        ("embed", RUN, photos, "--out", tmp_path / "g"),
        ("search", RUN, next(photos.glob("3.*")), tmp_path / "g"),
    ):
        line = trained.mistake(*words)
        assert "gallery.json damaged" in line and "type reidpipe embed again" in line
