"""The generated dataset: images, exact label maps, splits and tables."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.artifacts.steps import Job
from pipeline.datasets.index import read_index
from pipeline.mannequins import checked, draw, identity, plan, render, sample
from pipeline.mannequins.shape import (
    DRESS,
    FACE,
    LEFT_ARM,
    LEFT_LEG,
    LEFT_SHOE,
    PANTS,
    RIGHT_ARM,
    RIGHT_LEG,
    RIGHT_SHOE,
    UPPER,
)
from pipeline.terminal.errors import ReidpipeError

SMALL = {"identities": {"train": 5, "test": 4}, "cameras": 2, "images": 2, "size": [128, 64]}


def job(folder: Path, workers: int = 1, **params: object) -> Job:
    folder.mkdir(parents=True, exist_ok=True)
    return Job(folder, {**SMALL, **params}, {}, folder, workers=workers)


def people(count: int, **wanted: str) -> list[int]:
    """The first ``count`` pids of world 0 whose attributes are the wanted ones."""
    found: list[int] = []
    pid = 0
    while len(found) < count:
        pid += 1
        who = identity(0, pid)
        if all(getattr(who, name) == value for name, value in wanted.items()):
            found.append(pid)
    return found


def middle(label: np.ndarray, value: int) -> float:
    """Mean column of a class."""
    return float(np.nonzero(label == value)[1].mean())


def test_an_image_is_a_pure_function_of_its_four_numbers() -> None:
    alone = draw(3, 17, 2, 1)
    for camera in range(4):
        draw(3, 17, camera, 0)
    again = draw(3, 17, 2, 1)
    assert np.array_equal(alone.image, again.image)
    assert np.array_equal(alone.label, again.label)
    assert alone.caption == again.caption
    others = [draw(4, 17, 2, 1), draw(3, 18, 2, 1), draw(3, 17, 3, 1), draw(3, 17, 2, 2)]
    assert all(not np.array_equal(alone.image, other.image) for other in others)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    pid=st.integers(1, 10**6),
    camera=st.integers(0, 50),
    index=st.integers(0, 20),
    size=st.sampled_from([(256, 128), (128, 64), (128, 48), (97, 41)]),
)
def test_any_image_has_the_size_asked_for_and_labels_of_lip(
    seed: int, pid: int, camera: int, index: int, size: tuple[int, int]
) -> None:
    figure = draw(seed, pid, camera, index, size)
    assert figure.image.shape == (*size, 3) and figure.image.dtype == np.uint8
    assert figure.label.shape == size and figure.label.dtype == np.uint8
    assert figure.label.max() <= 19
    assert 0 <= figure.view < 8


def test_all_twenty_classes_appear_in_a_modest_sample() -> None:
    _, labels = sample(0, 120, (128, 64))
    assert sorted(np.unique(labels).tolist()) == list(range(20))


def test_a_sample_is_the_same_however_it_is_cut() -> None:
    images, labels = sample(9, 6, (64, 32))
    for first, n in ((0, 2), (2, 3), (5, 1)):
        part_images, part_labels = sample(9, n, (64, 32), first=first)
        assert np.array_equal(part_images, images[first : first + n])
        assert np.array_equal(part_labels, labels[first : first + n])


@pytest.mark.parametrize("pair", [(LEFT_ARM, RIGHT_ARM), (LEFT_LEG, RIGHT_LEG)])
def test_left_is_the_persons_own_left(pair: tuple[int, int]) -> None:
    left, right = pair
    for pid in people(8, upper_type="t-shirt", lower_type="shorts", coat="none", gloves="none"):
        front = draw(0, pid, 0, 0, view=0, effects=False).label
        back = draw(0, pid, 0, 0, view=4, effects=False).label
        assert middle(front, left) > middle(front, right), f"pid {pid} from the front"
        assert middle(back, left) < middle(back, right), f"pid {pid} from behind"


def test_feet_too_are_the_persons_own() -> None:
    gaps = {0: [], 4: []}
    for pid in range(1, 40):
        for view, found in gaps.items():
            label = draw(0, pid, 0, 0, view=view, effects=False).label
            if (label == LEFT_SHOE).any() and (label == RIGHT_SHOE).any():
                found.append(middle(label, LEFT_SHOE) - middle(label, RIGHT_SHOE))
    assert len(gaps[0]) > 20 and len(gaps[4]) > 20
    # Walking feet may cross the middle line now and then; never as a rule.
    assert np.mean(np.array(gaps[0]) > 0) > 0.9
    assert np.mean(np.array(gaps[4]) < 0) > 0.9


def test_the_near_arm_hides_the_far_one() -> None:
    pids = people(10, upper_type="t-shirt", coat="none", gloves="none", bag="none")
    for view, near, far in ((2, RIGHT_ARM, LEFT_ARM), (6, LEFT_ARM, RIGHT_ARM)):
        labels = [draw(0, pid, 0, 0, view=view, effects=False).label for pid in pids]
        assert sum((label == near).sum() for label in labels) > 2 * sum(
            (label == far).sum() for label in labels
        )


def test_faces_are_seen_from_the_front_only() -> None:
    for pid in range(1, 30):
        assert not (draw(0, pid, 0, 0, view=4, effects=False).label == FACE).any()
    clear = [draw(0, pid, 0, 0, view=0, effects=False) for pid in range(1, 30)]
    assert np.median([(figure.label == FACE).sum() for figure in clear]) > 250
    sideways = [draw(0, pid, 0, 0, view=2, effects=False) for pid in range(1, 30)]
    assert 60 < np.median([(figure.label == FACE).sum() for figure in sideways]) < 250


def test_a_person_facing_right_has_the_face_right_of_the_hair() -> None:
    for pid in people(6, hair_style="short", hat="none", sunglasses="none"):
        right = draw(0, pid, 0, 0, view=2, effects=False).label
        left = draw(0, pid, 0, 0, view=6, effects=False).label
        assert middle(right, FACE) > middle(right, 2)
        assert middle(left, FACE) < middle(left, 2)


@pytest.mark.parametrize(
    ("label", "part", "wanted"),
    [
        (UPPER, "upper", {"upper_type": "sweater", "upper_pattern": "plain", "coat": "none"}),
        (DRESS, "upper", {"upper_type": "dress", "upper_pattern": "plain", "coat": "none"}),
        (PANTS, "lower", {"lower_type": "trousers"}),
        (LEFT_SHOE, "shoes", {"shoes_type": "shoes"}),
        (7, "coat", {"coat": "jacket", "coat_open": "closed"}),
    ],
)
def test_pixels_of_a_class_have_the_colour_of_its_garment(
    label: int, part: str, wanted: dict[str, str]
) -> None:
    for pid in people(4, **wanted):
        for view in range(8):
            figure = draw(0, pid, 0, 0, view=view, effects=False)
            inside = figure.label == label
            if inside.sum() > 30:
                colour = np.median(figure.image[inside], axis=0)
                assert colour.tolist() == list(identity(0, pid).colour(part))


def test_label_and_image_agree_about_the_outline() -> None:
    for pid in people(5, bag="none"):
        figure = draw(0, pid, 0, 0, view=1, effects=False)
        person = figure.label > 0
        grown = np.pad(person, 1)
        around = np.stack(
            [grown[dy : dy + 256, dx : dx + 128] for dy in range(3) for dx in range(3)]
        )
        outside, inside = ~around.any(axis=0), around.all(axis=0)
        grey = (figure.image == 127).all(axis=2)
        assert grey[outside].all()
        assert not grey[inside].any()


def test_a_person_fills_the_crop_and_stands_upright() -> None:
    heights = []
    for pid in range(1, 60):
        rows = np.nonzero((draw(0, pid, 0, 0, effects=False).label > 0).any(axis=1))[0]
        heights.append((rows[-1] - rows[0] + 1) / 256)
    assert 0.85 < np.median(heights) <= 1
    assert min(heights) > 0.75


def test_rendered_files_are_those_of_the_index(tmp_path: Path) -> None:
    summary = render(job(tmp_path))
    index = read_index(tmp_path)
    assert index.root == tmp_path.resolve() and index.dataset == "mannequins"
    assert (summary["images"], summary["identities"], summary["twins"]) == (36, 9, 2)
    assert [row["subset"] for row in summary["counts"]] == ["train", "query", "gallery"]
    assert summary["unmatched_queries"] == []
    assert len(index.rows) == 36
    for row in index.rows:
        image = Image.open(tmp_path / row.path)
        label = Image.open(tmp_path / row.extra["label_path"])
        assert image.size == label.size == (row.width, row.height) == (64, 128)
        assert label.format == "PNG" and label.mode == "L"
        assert row.pid is not None and row.camid is not None and row.frame is not None
        figure = draw(0, row.pid, row.camid, row.frame, (128, 64))
        assert np.array_equal(np.asarray(label), figure.label)
        assert row.view == figure.view and row.extra["caption"] == figure.caption
        # The label is exact; the image is JPEG and may differ by a few levels.
        assert np.abs(np.asarray(image).astype(int) - figure.image).mean() < 3


def test_splits_are_disjoint_and_twins_stay_together(tmp_path: Path) -> None:
    render(job(tmp_path))
    index = read_index(tmp_path)
    query, gallery = index.split("query"), index.split("gallery")
    assert not {row.key for row in query} & {row.key for row in gallery}
    assert not {row.digest for row in query} & {row.digest for row in gallery}
    assert index.pids("query") == index.pids("gallery")
    assert not set(index.pids("train")) & set(index.pids("query"))
    assert len(query) == 4 * 2 and len(gallery) == 4 * 2 * (2 - 1)
    for split in ("train", "query"):
        pids = set(index.pids(split))
        for pid in pids:
            assert identity(0, pid).twin_of in pids | {None}


def test_test_people_can_be_seen_by_cameras_of_their_own(tmp_path: Path) -> None:
    shared = plan(checked(SMALL), tmp_path)
    apart = plan(checked({**SMALL, "disjoint_cameras": True}), tmp_path)
    assert {entry.camera for entry in shared} == {0, 1}
    assert {entry.camera for entry in apart if entry.split == "train"} == {0, 1}
    assert {entry.camera for entry in apart if entry.split != "train"} == {2, 3}


def test_identities_csv_has_a_column_per_attribute(tmp_path: Path) -> None:
    render(job(tmp_path))
    with (tmp_path / "identities.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:2] == ["pid", "caption"]
    assert {"upper_colour", "lower_colour", "shoes_colour", "hat", "bag", "twin_of"} <= set(rows[0])
    assert [int(row["pid"]) for row in rows] == [1, 2, 3, 4, 5, 9, 10, 11, 12]
    for row in rows:
        who = identity(0, int(row["pid"]))
        assert row["caption"] == who.caption and row["shoes_colour"] == who.shoes_colour


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for workers, folder in enumerate(folders, start=1):
        render(job(folder, workers=workers, images=3))
    files = [sorted(p for p in folder.rglob("*") if p.is_file()) for folder in folders]
    assert [p.relative_to(folders[0]) for p in files[0]] == [
        p.relative_to(folders[1]) for p in files[1]
    ]
    for first, second in zip(*files, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"imagse": 3}, "did you mean 'images'"),
        ({"images": 1}, "found 4 cameras and 1 images"),
        ({"identities": {"train": 4}}, 'type {"train": 64, "test": 32}'),
        ({"cameras": 0}, "found 0 cameras"),
        ({"size": [256]}, "found size [256]"),
    ],
)
def test_impossible_parameters_are_refused_in_one_line(
    params: dict[str, object], words: str
) -> None:
    with pytest.raises(ReidpipeError) as caught:
        checked(params)
    assert words in str(caught.value) and "\n" not in str(caught.value)
