"""``reidpipe search``: many queries, people known and unknown, thresholds, what is written."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from reid_train import open_gallery
from tests.cli.conftest import Console

RUN = "baseline-tiny"


def person(path: Path) -> str:
    return path.name.split("_")[0]


@pytest.fixture
def own(people: Path, tmp_path: Path) -> Path:
    """A folder per person, with a file that is no image."""
    for path in sorted((people / "images" / "gallery").iterdir()):
        place = tmp_path / "own" / f"p{person(path)}" / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    (tmp_path / "own" / "notes.txt").write_text("x")
    return tmp_path / "own"


@pytest.fixture
def asked(people: Path, tmp_path: Path) -> Path:
    """Three queries in folders of their people."""
    for path in sorted((people / "images" / "query").iterdir())[:3]:
        place = tmp_path / "asked" / f"p{person(path)}" / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return tmp_path / "asked"


def test_from_folders_to_a_sheet(trained: Console, own: Path, asked: Path, tmp_path: Path):
    told = trained("embed", RUN, own, "--out", tmp_path / "g").stdout
    assert "not read, no images by their suffix: 1 .txt (notes.txt)" in told
    assert "identities: 6 people on 24 of 24 images" in told
    gallery = open_gallery(tmp_path / "g")
    assert gallery.pids is not None and gallery.about is not None
    names = [gallery.about.called(int(pid)) for pid in gallery.pids]
    assert names == [name.split("/")[0] for name in gallery.names]

    words = ("search", RUN, asked, tmp_path / "g", "--top", "5", "--out", tmp_path / "found")
    found = trained.json(*words)
    assert len(found["queries"]) == 3 and len(found["matches"]) == 15
    for match in found["matches"]:
        right = Path(match["query"]).parent.name == match["person"]
        assert match["verdict"] == ("right" if right else "wrong")
        assert match["person"] == match["name"].split("/")[0]
    assert [m["rank"] for m in found["matches"]] == [1, 2, 3, 4, 5] * 3
    assert json.loads((tmp_path / "found" / "matches.json").read_text()) == found
    with (tmp_path / "found" / "matches.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [match["name"] for match in found["matches"]]
    assert {row["verdict"] for row in rows} <= {"right", "wrong"}
    with Image.open(tmp_path / "found" / "sheet.png") as image:
        assert image.width > 5 * 112 and image.height > 3 * 224
    text = trained(*words).stdout
    assert "rank 1 is right for" in text and "of 3 queries whose person is known" in text
    assert "of 240 pairs of different people pass it (wanted: 1 %)" in text


def test_thresholds(trained: Console, own: Path, asked: Path, tmp_path: Path):
    trained("embed", RUN, own, "--out", tmp_path / "g")
    words = ("search", RUN, asked, tmp_path / "g", "--top", "24", "--pages", "0")
    every = trained.json(*words)
    loose, strict = (trained.json(*words, "--fpr", rate) for rate in ("0.3", "0.01"))
    assert strict["threshold"] == every["threshold"] > loose["threshold"]
    for found in (loose, strict):
        about = found["threshold_about"]
        assert about["fpr"] <= about["wanted_fpr"] and about["interval"] and about["people"] == 6
        passing = [m for m in every["matches"] if m["similarity"] >= found["threshold"]]
        assert [m["name"] for m in found["matches"]] == [m["name"] for m in passing]
    third = sorted((m["similarity"] for m in every["matches"]), reverse=True)[2]
    own_line = trained.json(*words, "--min-similarity", str(third - 1e-6))
    assert len(own_line["matches"]) == 3
    text = trained(*words, "--min-similarity", "2").stdout
    assert text.count(": no match") == 3 and "as given" in text
    assert "are too few to tell 1 % from none; it takes 300" in trained(*words).stdout
    assert "one of them" in trained.mistake(*words, "--min-similarity", "0", "--fpr", "0.1")
    for typed, found in (("nan", "nan"), ("inf", "inf"), ("-inf", "-inf"), ("1e999", "inf")):
        line = trained.mistake(*words, "--min-similarity", typed)
        assert line.startswith(f"Error: found --min-similarity {found}; expected a finite number")
    for typed in ("1", "nan", "inf"):
        assert f"found --fpr {typed}" in trained.mistake(*words, "--fpr", typed)
    trained("cache", "rm", "evaluation")
    # The gallery keeps its calibration; images have none.
    assert trained.json(*words, "--fpr", "0.3")["threshold"] == loose["threshold"]
    line = trained.mistake("search", RUN, asked, own, "--fpr", "0.3")
    assert "found no calibrated threshold" in line and "type reidpipe eval" in line


def test_no_image_that_is_searched_is_written_over(trained: Console, own: Path, tmp_path: Path):
    query, other = (folder / f"{folder.name}.png" for folder in sorted(own.glob("p*"))[:2])
    for path in (query, other):
        Image.open(next(path.parent.glob("*.jpg"))).save(path)
    before = query.read_bytes()
    trained("embed", RUN, own, "--out", tmp_path / "g")
    for gallery, out in ((own, query), (own, other), (tmp_path / "g", other)):
        line = trained.mistake("search", RUN, query, gallery, "--out", out)
        assert f"found --out {out}, an image that is searched" in line
    assert query.read_bytes() == before


def test_the_own_file_is_no_match(trained: Console, own: Path, tmp_path: Path):
    trained("embed", RUN, own, "--out", tmp_path / "g")
    query = sorted(own.rglob("*.*"))[4]
    copy = tmp_path / f"copy{query.suffix}"
    shutil.copy(query, copy)
    for place in (tmp_path / "g", own):
        for asked in (query, copy):
            words = ("search", RUN, asked, place, "--top", "23", "--pages", "0")
            assert trained.json(*words)["matches"][0]["image"] == str(query)
            told = trained(*words, "--exclude-self", "--min-similarity", "-1").stdout
            assert "may pass" not in told  # 23 are all there are beside it
            found = trained.json(*words, "--exclude-self")["matches"]
            assert len(found) == 23 and str(query) not in [m["image"] for m in found]
    # Who is on a file that is in the gallery is known.
    first = trained.json("search", RUN, query, tmp_path / "g")["matches"][0]
    assert first["verdict"] == "right"


def test_a_table_and_a_dataset(trained: Console, people: Path, own: Path, tmp_path: Path):
    files = sorted(own.rglob("*_*.*"))
    lines = [
        f"{file.relative_to(tmp_path)},{int(person(file))},{n % 2}" for n, file in enumerate(files)
    ]
    (tmp_path / "own.csv").write_text("\n".join(["path,pid,camid", *lines]))
    trained("embed", RUN, tmp_path / "own.csv", "--out", tmp_path / "g")
    gallery = open_gallery(tmp_path / "g")
    assert gallery.pids is not None and gallery.camids is not None
    assert gallery.pids.tolist() == [int(person(Path(name))) for name in gallery.names]
    assert gallery.camids.tolist() == [0, 1] * 12
    more = ("--top", "2", "--pages", "0")
    found = trained.json("search", RUN, tmp_path / "own.csv", tmp_path / "g", *more)
    assert len(found["queries"]) == 24
    firsts = [match for match in found["matches"] if match["rank"] == 1]
    assert all(match["verdict"] == "right" and match["same_camera"] for match in firsts)
    told = trained("embed", RUN, "folder", "--out", tmp_path / "d").stdout
    assert "folder: gallery images, 24 of 60" in told and "6 people on 24 of 24" in told
    assert len(trained.json("search", RUN, "folder", tmp_path / "d", *more)["queries"]) == 12
    line = trained.mistake("embed", RUN, "folder", "--split", "val")
    assert "found no split val in folder; expected gallery or query or train" in line


def test_people_come_later_and_without_computing(trained: Console, own: Path, tmp_path: Path):
    words = ("embed", RUN, own, "--out", tmp_path / "g")
    assert "identities: none known" in trained(*words, "--no-identities").stdout
    assert open_gallery(tmp_path / "g").pids is None
    found = trained.json(*words)
    assert found["computed"] == 0 and found["people"] == 6
    gallery = open_gallery(tmp_path / "g")
    assert gallery.pids is not None and len(set(gallery.pids.tolist())) == 6
    # They go as they came.
    told = trained(*words, "--no-identities").stdout
    assert "the features of all 24 images exist" in told and "identities: none known" in told
    assert open_gallery(tmp_path / "g").pids is None
    assert "6 people on 24 of 24 images" in trained(*words).stdout
    # A folder that has lost its order: the gallery keeps what it said, and that is told.
    shutil.copy(sorted(own.rglob("*_*.*"))[0], own / "loose.png")
    assert "6 people on 24 of 25 images" in trained(*words).stdout
    (own / "loose.png").unlink()
    # Images of nobody known beside them.
    plain = tmp_path / "plain"
    plain.mkdir()
    shutil.copy(sorted(own.rglob("*_*.*"))[0], plain / "a.png")
    trained("embed", RUN, plain, "--out", tmp_path / "g")
    gallery = open_gallery(tmp_path / "g")
    assert gallery.pids is not None and gallery.pids[-1] is None and len(gallery) == 26


def test_search_mistakes(trained: Console, own: Path, asked: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    query = next(asked.rglob("*_*.*"))
    for words, part in (
        ((query, tmp_path / "empty"), "found no image below"),
        ((tmp_path / "empty", own), "found no image below"),
        ((query, text, own), f"no image at {text}"),
        ((query, tmp_path / "no.jpg", own), "found no file"),
        ((query, own, "--top", "0"), "--top"),
        ((query, own, "--out", tmp_path / "a.jpg"), "ends in .png, .csv or .json"),
        ((query,), "Missing argument"),
    ):
        assert part in trained.mistake("search", RUN, *words), words
    found = trained("search", RUN, query, own, "--top", "100", "--json")
    assert len(json.loads(found.stdout)["matches"]) == 24
    assert "the gallery has 24 images: --top 100 is all of them" in found.stderr
    # A folder's damaged query is told, the others are searched.
    shutil.copy(text, asked / "text.jpg")
    assert len(trained.json("search", RUN, asked, own)["queries"]) == 3


def test_pages_of_many_queries(trained: Console, own: Path, tmp_path: Path):
    out = tmp_path / "sheet.png"
    words = ("search", RUN, own, own, "--top", "3", "--out", out)
    found = trained.json(*words)
    assert found["written"] == [str(out), *(str(tmp_path / f"sheet-{n}.png") for n in (2, 3, 4))]
    assert f"wrote {out} and 3 more\n" in trained(*words).stdout
    out.with_stem("sheet-2").unlink()
    told = trained(*words, "--pages", "1").stdout
    assert "pictures of 6 of 24 queries" in told and not out.with_stem("sheet-2").exists()


def test_score_says_what_it_rests_on(trained: Console, own: Path):
    first, second = sorted(own.rglob("*_*.*"))[:2]
    text = trained("score", RUN, first, second).stdout
    assert "pairs of different people pass it (wanted: 1 %)" in text and "over 6 people" in text
    about = trained.json("score", RUN, first, second)["threshold_about"]
    assert about["pairs"]["different"] > 0 and about["exclude"] == "same-camera"
