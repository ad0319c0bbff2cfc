"""Who is on an image: folders, names, tables; identities as numbers that last."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.datasets.index import ImageRow
from pipeline.terminal.errors import ReidpipeError
from reid_train.search.about import About
from reid_train.search.encoder import Making
from reid_train.search.extension import Extension, about_images
from reid_train.search.gallery import Gallery
from reid_train.search.people import Below, Images, Numbers, images_at, images_of_rows
from reid_train.search.threshold import Calibrated


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_folders_of_people(tmp_path: Path):
    images = images_at(tree(tmp_path, "anna/1.jpg", "anna/2.PNG", "bob/1.jpg", "notes.txt"))
    assert list(images.paths) == ["anna/1.jpg", "anna/2.PNG", "bob/1.jpg"]
    assert images.people == {"anna/1.jpg": "anna", "anna/2.PNG": "anna", "bob/1.jpg": "bob"}
    assert images.notes == ("not read, no images by their suffix: 1 .txt (notes.txt)",)
    assert images_at(tmp_path, known=False).people == {}


def test_images_without_order_have_no_people(tmp_path: Path):
    images = images_at(tree(tmp_path, "1.jpg", "deeper/2.jpg", "deeper/3.jpg"))
    assert len(images) == 3 and images.people == {}


def test_a_rule_on_names(tmp_path: Path):
    rule = r"(?P<pid>\d+)_c(?P<camid>\d+)"
    images = images_at(tree(tmp_path, "0007_c2_1.jpg", "8_c1.jpg", "other.jpg"), rule=rule)
    assert images.people == {"0007_c2_1.jpg": "7", "8_c1.jpg": "8"}
    assert images.cameras == {"0007_c2_1.jpg": "2", "8_c1.jpg": "1"}
    assert images.notes == ("1 images without an identity, such as other.jpg",)
    with pytest.raises(ReidpipeError, match="no group 'pid'"):
        images_at(tmp_path, rule="x")


def test_a_table(tmp_path: Path):
    tree(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "t.csv").write_text("path,pid,camid\nb.jpg,4,1\na.jpg,,\n")
    images = images_at(tmp_path / "t.csv")
    assert list(images.paths) == ["a.jpg", "b.jpg"]
    assert images.people == {"b.jpg": "4"} and images.cameras == {"b.jpg": "1"}


def test_cameras_are_called_as_their_folders(tmp_path: Path):
    """Each tree numbers its cameras from 0, so cam2 alone had the number of cam1 beside it."""
    tree(tmp_path, "g/cam1/0001/a.jpg", "g/cam2/0001/b.jpg", "q/cam2/0001/x.jpg")
    assert images_at(tmp_path / "g").cameras == {
        "cam1/0001/a.jpg": "cam1",
        "cam2/0001/b.jpg": "cam2",
    }
    assert images_at(tmp_path / "q").cameras == {"cam2/0001/x.jpg": "cam2"}
    (tmp_path / "t.csv").write_text("path,pid,camera\ng/cam1/0001/a.jpg,1,door\n")
    assert images_at(tmp_path / "t.csv").cameras == {"g/cam1/0001/a.jpg": "door"}


def test_a_prepared_dataset_has_numbers_of_cameras():
    rows = [ImageRow("a.jpg", "a.jpg", "query", 4, 1, None, "", None, 1, 1, "")]
    images = images_of_rows(Path("/p"), rows, split="query", dataset="d")
    assert images.people == {"a.jpg": "4"} and images.cameras == {"a.jpg": "1"}


def test_a_split_that_was_typed_is_there_or_refused():
    rows = [
        ImageRow(f"{split}.jpg", f"{split}.jpg", split, 4, 1, None, "", None, 1, 1, "")
        for split in ("train", "query")
    ]
    images = images_of_rows(Path("/p"), rows, split="gallery", dataset="d")
    assert len(images) == 2 and images.called == "d-all"
    with pytest.raises(ReidpipeError, match="found no split val in d; expected query or train;"):
        images_of_rows(Path("/p"), rows, split="val", dataset="d", or_all=False)


def test_one_file(tmp_path: Path):
    images = images_at(tree(tmp_path, "a/x.jpg") / "a" / "x.jpg")
    assert images.paths == {"x.jpg": tmp_path / "a" / "x.jpg"}


def test_numbers_last():
    numbers = Numbers([0, 1, 7], {"0": "anna"})
    numbers.add(["bob", "7", "0", "12", "anna"])
    # "0" is another than anna, who has that number.
    assert numbers.numbers["anna"] == 0 and numbers.numbers["7"] == 7
    assert (numbers.numbers["0"], numbers.numbers["12"], numbers.numbers["bob"]) == (8, 12, 13)
    assert len(set(numbers.numbers.values())) == len(numbers.numbers)
    named = {numbers.names.get(str(n), str(n)): n for n in numbers.numbers.values()}
    assert named == numbers.numbers


def test_names_that_write_one_number_are_one_person():
    """A folder of 0001 and 0002 is read as 1 and 2, one that holds bob too keeps the texts."""
    numbers = Numbers([1, 2, 3], {"1": "0001", "2": "0002", "3": "bob"})
    numbers.add(["1", "4"])
    assert (numbers.numbers["1"], numbers.numbers["4"]) == (1, 4)
    numbers.add(["0004", "0001"])
    assert (numbers.numbers["0004"], numbers.numbers["0001"]) == (4, 1)
    assert numbers.names == {"1": "0001", "2": "0002", "3": "bob"}


@pytest.mark.parametrize(
    ("known", "added", "number"),
    [
        ({"7": "007", "8": "7"}, ["07"], 9),  # two are known that it could be
        ({"7": "007"}, ["07", "7"], 8),  # two come together
        ({"7": "anna"}, ["7"], 8),  # the number is another's, no name of his
    ],
    ids=["known", "together", "another's"],
)
def test_names_that_write_one_number_stay_apart_where_two_do(
    known: dict[str, str], added: list[str], number: int
):
    numbers = Numbers(map(int, known), known)
    numbers.add(added)
    assert numbers.numbers[added[0]] == number
    assert len(set(numbers.numbers.values())) == len(numbers.numbers)


def said(
    names: list[str],
    people: dict[str, str],
    before: About | None,
    camera: str = "3",
    *,
    known: bool = True,
) -> About:
    paths = {name: Path("/p", name) for name in names}
    cameras = {names[0]: camera} if known else {}
    images = Images(Path("/p"), paths, people, cameras, known=known)
    old = None if before is None else Gallery(before.names, None, about=before)  # type: ignore
    there: list[str] = [] if before is None else before.names
    every = [*there, *(name for name in names if name not in there)]
    extension = Extension(images, old, names, {})
    how = Making("k", False, "cosine")
    return about_images(every, extension, how, Calibrated(), renewed=True)


def test_people_of_two_folders_in_one_gallery():
    first = said(["a", "b"], {"a": "anna", "b": "5"}, None)
    assert first.pids is not None and first.camids == [3, None]
    second = said(["c", "d", "e"], {"c": "anna", "d": "carl"}, first)
    assert second.pids is not None and second.pids[:2] == first.pids
    assert [second.called(pid) for pid in second.pids] == ["anna", "5", "anna", "carl", None]
    assert second.camids == [3, None, 3, None, None] and second.cameras == {}


def test_cameras_of_two_folders_in_one_gallery():
    about = None
    for name, camera in (("a", "cam2"), ("b", "door"), ("c", "cam2"), ("d", "0"), ("e", "7")):
        about = said([name], {}, about, camera)
    assert about is not None and about.camids == [0, 1, 0, 2, 7]
    assert about.cameras == {"0": "cam2", "1": "door", "2": "0"}
    assert [about.camera(camid) for camid in (0, 2, 7, None)] == ["cam2", "0", "7", None]


def test_who_is_not_to_be_known_is_forgotten():
    first = said(["a", "b", "c"], {"a": "anna", "b": "5", "c": "carl"}, None)
    assert (first.people_on(["a", "b", "c"]), first.people_on(["b", "x"])) == ((3, 3), (1, 1))
    # Today nobody is known: what was said stays.
    assert said(["a"], {}, first).pids == first.pids == [6, 5, 7]
    second = said(["a", "b"], {}, first, known=False)
    assert second.pids == [None, None, 7] and second.camids is None
    assert second.identities == {"7": "carl"} and second.people_on(["a", "b"]) == (0, 0)


def test_many_names_are_numbered_in_one_go():
    """As many people as the largest sets have: the highest number used to be looked for anew for
    each, 20,000 of them for a minute.
    """
    numbers = Numbers([3], {})
    numbers.used = Unasked(numbers.used)
    numbers.add(f"person {n:05}" for n in range(20_000))
    assert numbers.numbers["person 00000"] == 4 and numbers.numbers["person 19999"] == 20_003


class Unasked(set[int]):
    """A set that nobody goes through."""

    def __iter__(self):
        raise AssertionError("all numbers are looked at again")


def test_paths_are_made_when_they_are_asked_for(tmp_path: Path):
    paths = Below(tmp_path, ["b/x.jpg", "a.jpg", "b/x.jpg"])
    assert dict(paths) == {"b/x.jpg": tmp_path / "b" / "x.jpg", "a.jpg": tmp_path / "a.jpg"}
    assert [*paths] == ["b/x.jpg", "a.jpg"] and len(paths) == 2 and "c.jpg" not in paths
    with pytest.raises(KeyError):
        paths["c.jpg"]
