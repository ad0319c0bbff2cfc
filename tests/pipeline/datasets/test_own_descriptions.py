"""A YAML file that describes a dataset of one's own: what its groups and folders may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.artifacts import graph
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.index import read_index
from pipeline.datasets.layouts import LayoutResult, read_layout
from pipeline.datasets.roots import prepare_root, registered_root
from pipeline.datasets.sources import REVISION, index_step
from pipeline.terminal.errors import ReidpipeError
from tests.pipeline.datasets.test_fingerprints import image


def described(folder: Path, rule: str, *, source: str = "", more: str = "") -> str:
    """The description of a dataset whose images all lie below ``train``."""
    path = folder / "mine.yaml"
    path.write_text(
        "\n".join(
            [
                "id: mine", "title: Mine", "year: 2026", "kind: reid", "policy: manual",
                "licence: mine", "citation: [mine]", "notice: mine",
                "layouts:",
                "  - name: mine",
                "    requires: [train]",
                f"    rule: '{rule}'",
                f"    sources: [{{split: train, folder: train{source}}}]",
                more,
            ]
        )
    )  # fmt: skip
    return str(path)


def read(folder: Path, *names: str, **description: str) -> LayoutResult:
    for number, name in enumerate(names):
        image(folder / "data" / "train" / name, number)
    return read_layout(folder / "data", load_manifest(described(folder, **description)))


TRACKS = ("1_12", "11_2", "7_12", "71_2")


@pytest.mark.parametrize(
    ("names", "description"),
    [
        ([f"{track}/a.jpg" for track in TRACKS],
         {"rule": r"^.*\.jpg$", "source": ", pid_from: folder"}),
        ([f"{track}-a.jpg" for track in TRACKS], {"rule": r"^(?P<pid>\d+_\d+)-"}),
    ],
)  # fmt: skip
def test_tracks_of_two_sequences_stay_two_people(
    tmp_path: Path, names: list[str], description: dict[str, str]
):
    rows = read(tmp_path, *names, **description).rows
    assert sorted(row.extra["identity"] for row in rows) == sorted(TRACKS)
    assert {row.pid for row in rows} == {0, 1, 2, 3}


def test_numbers_stay_numbers_and_junk_junk(tmp_path: Path):
    found = read(
        tmp_path, "0007_c1.jpg", "-1_c1.jpg", "12_c2.jpg",
        rule=r"^(?P<pid>-?\d+)_c(?P<camid>\d)", more="junk: {pids: [-1]}",
    )  # fmt: skip
    assert sorted((row.pid, row.camid) for row in found.rows) == [(7, 1), (12, 2)]
    assert found.dropped == {"junk identity -1": 1}


@pytest.mark.parametrize(
    ("names", "identity"),
    [(("1-12.jpg", "11-2.jpg"), "112"), (("A-12.jpg", "A1-2.jpg"), "A12")],
)
def test_groups_that_join_to_one_identity_are_told(
    tmp_path: Path, names: tuple[str, str], identity: str
):
    rule = r"^(?P<site>\w+)-(?P<pid>\d+)\."
    told = f"one identity, {identity}, of {names[0]} and {names[1]} by id_key"
    with pytest.raises(ReidpipeError, match=told) as caught:
        read(tmp_path, *names, rule=rule, more="id_key: '{site}{pid}'")
    assert str(caught.value).endswith("type id_key: '{site}_{pid}'")
    found = read(tmp_path, *names, rule=rule, more="id_key: '{site}_{pid}'")
    assert len({row.pid for row in found.rows}) == 2


def test_an_identity_may_be_written_in_two_ways(tmp_path: Path):
    names = ("01-002.jpg", "1-002.jpg", "1-3.jpg")  # with zeros before it or without
    rule, key = r"^(?P<site>\d+)-(?P<pid>\d+)\.", "id_key: '{site}{pid}'"
    assert {row.pid for row in read(tmp_path, *names, rule=rule, more=key).rows} == {1002, 13}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (r"^(?P<pid>\d+)_(?P<camid>[A-Z])", "found camera A in 1_A_front.jpg; expected a number"),
        (r"^(?P<pid>\d+)_[A-Z]_(?P<view>\w+)\.", "found view 'front' in 1_A_front.jpg"),
        (r"^(?P<pid>\d+)_[A-Z]_(?P<frame>\w+)\.", "found frame 'front' in 1_A_front.jpg"),
    ],
)
def test_a_group_that_is_no_number_is_told(tmp_path: Path, rule: str, message: str):
    with pytest.raises(ReidpipeError, match=message) as caught:
        read(tmp_path, "1_A_front.jpg", rule=rule)
    assert "\n" not in str(caught.value)


def test_letters_of_cameras_have_numbers_in_the_map(tmp_path: Path):
    found = read(
        tmp_path, "1_A.jpg", "1_B.jpg",
        rule=r"^(?P<pid>\d+)_(?P<camid>[A-Z])", more="camera_map: {A: 0, B: 1}",
    )  # fmt: skip
    assert [row.camid for row in found.rows] == [0, 1]


WRONG = {
    "source": [
        ("folder: ../..", "found '../..'; expected a path below the root"),
        ("folder: /", "found '/'; expected a path below the root"),
        ("folder: nope", "found no nope in .*, where the images of 'train' are"),
        ("list: nope.txt", "found no nope.txt in .*, where the images of 'train' are"),
        ("images: ['{path.__class__}']", "expected {path} alone in braces"),
        ("labels: '{nope}.png'", "expected {stem} alone in braces"),
        ("depth: 0", "greater than or equal to 1"),
    ],
    "more": [
        ("id_key: '{nope}'", "found {nope} in id_key; expected groups of a rule .camid, pid."),
        ("id_key: '{pid.__class__}'", "expected names of groups alone in braces"),
        ("columns: {weather: '{sky}'}", "found {sky} in columns"),
        ("input_size: [0, 128]", "greater than or equal to 1"),
        ("protocols: [{name: a}, {name: a}]", "found protocols a, a; expected each name once"),
        ("names_file: ../names.txt", "found '../names.txt'; expected a path below the root"),
    ],
}


@pytest.mark.parametrize(
    ("place", "written", "message"),
    [(place, *case) for place, cases in WRONG.items() for case in cases],
)
def test_what_a_description_may_not_say(tmp_path: Path, place: str, written: str, message: str):
    text = f", {written}" if place == "source" else written
    if written.startswith("folder"):  # beside the one that is there
        text = f"}}, {{split: train, {written}"
    rule = r"^(?P<pid>\d+)_c(?P<camid>\d)"
    with pytest.raises(ReidpipeError, match=message.replace("{", r"\{")) as caught:
        read(tmp_path, "1_c1.jpg", rule=rule, **{place: text})
    assert "\n" not in str(caught.value)


def test_two_files_of_one_id_do_not_take_each_others_images(tmp_path: Path):
    rule, workspace, names = r"^(?P<pid>\d+)", tmp_path / "workspace", []
    for folder in ("one", "two"):
        image(tmp_path / folder / "data" / "train" / "1.jpg", len(names))
        names.append(described(tmp_path / folder, rule, more="columns: {}\n" * len(names)))
    prepare_root(names[0], workspace, root=tmp_path / "one" / "data")
    for root in (tmp_path / "two" / "data", None):
        with pytest.raises(ReidpipeError, match="found id 'mine' in .*two.*, under which .*one"):
            prepare_root(names[1], workspace, root=root)
    assert registered_root(workspace, names[0]) == tmp_path / "one" / "data"
    Path(names[0]).write_text(Path(names[1]).read_text())  # a copy of the same description
    assert registered_root(workspace, names[1]) == tmp_path / "one" / "data"
    Path(names[0]).write_text("moved")
    Path(names[0]).unlink()
    prepare_root(names[1], workspace, root=tmp_path / "two" / "data")
    assert registered_root(workspace, names[1]) == tmp_path / "two" / "data"


@pytest.mark.parametrize("name", ["m:c.yaml", "M.YAML", "d:x.Yml"])
def test_files_of_any_name_are_descriptions(tmp_path: Path, name: str):
    path = Path(described(tmp_path, r"^(?P<pid>\d+)")).rename(tmp_path / name)
    assert load_manifest(str(path)).id == "mine"


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("top_k: 10", "found top_k 10 and average_precision full in protocol p"),
        ("average_precision: found-in-top-k", "found no top_k and average_precision found-in-top"),
    ],
)
def test_an_average_over_the_first_ranks_says_both(tmp_path: Path, written: str, found: str):
    with pytest.raises(ReidpipeError, match=f"{found}.*; expected top_k with found") as caught:
        read(tmp_path, "1.jpg", rule=r"^(?P<pid>\d+)", more=f"protocols: [{{name: p, {written}}}]")
    assert "\n" not in str(caught.value)


def test_endings_are_found_in_either_case(tmp_path: Path):
    found = read(tmp_path, "1.jpg", "2.JPG", rule=r"^(?P<pid>\d+)", more="suffixes: [.JPG]")
    assert len(found.rows) == 2


def test_what_earlier_versions_read_rightly_keeps_what_was_made_of_it(tmp_path: Path):
    workspace, root = Workspace(tmp_path / "workspace"), tmp_path / "data"
    for number, track in enumerate(("3", "12")):
        image(root / "train" / track / "a.jpg", number)
    name = described(tmp_path, r"^.*\.jpg$", source=", pid_from: folder")
    prepare_root(name, workspace.root, root=root)
    now = index_step(workspace, name)
    params = {key: value for key, value in now.params.items() if key != REVISION}
    assert params != now.params
    before = Step("index", params, weights=now.weights)  # as earlier versions asked for it
    graph.run(workspace, [before])
    assert index_step(workspace, name).key == before.key
    assert [row.pid for row in read_index(workspace.folder(before)).rows] == [12, 3]
