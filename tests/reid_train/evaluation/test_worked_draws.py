"""Protocols whose galleries are drawn, worked out by hand for every gallery that can be drawn.

Greys, distances and comments as in ``test_worked_protocols``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.datasets.index import Index
from pipeline.datasets.manifest import Protocol
from pipeline.datasets.protocols import apply_protocol
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.protocols import find_protocol
from tests.reid_train.evaluation.greys import brief, by_hand, figures, indexed, tree

P = pytest.MonkeyPatch
# What the stored seeds draw; other numbers would be other protocols.
DRAWN = [(2, 4), (1, 4), (2, 3), (2, 3), (2, 4), (2, 4), (1, 4), (2, 4), (2, 3), (1, 4)]
FIRST_OF_TWO = [True, True, True, False, False, True, False, False, False, True]


def drawn(source: Index, protocol: str) -> Iterator[tuple[str, ...]]:
    """Names (without folder and ending) of each trial's gallery, in table order."""
    chosen: Protocol = find_protocol(source.dataset, protocol)
    for trial in range(chosen.trials):
        _, gallery = apply_protocol(source.rows, chosen, trial=trial)
        yield tuple(row.path.rpartition("/")[2].partition(".")[0] for row in gallery)


def test_vehicleid_averages_its_ten_stored_trials(tmp_path: Path, monkeypatch: P):
    greys = {"0000001": 10, "0000002": 40, "0000003": 20, "0000004": 60, "0000009": 0}
    lists = {
        "train_test_split/train_list.txt": "0000009 9\n",
        "train_test_split/test_list_800.txt": "0000001 5\n0000002 5\n0000003 7\n0000004 7\n",
    }
    root = tree(
        tmp_path / "VehicleID_V1.0", {f"image/{n}.jpg": grey for n, grey in greys.items()}, lists
    )
    folder, source = indexed(tmp_path, root, "vehicleid:800")
    # The ten draws of the seeds 0 to 9, as the index keeps them: one image of 5 (1 or 2), of 7.
    galleries = [tuple(sorted(map(int, names))) for names in drawn(source, "standard")]
    assert galleries == DRAWN
    # Gallery 1, 3: query 2: 3(20) 1(30)*, query 4: 3(40)* 1(50): AP 1/2 and 1.
    # Gallery 1, 4: query 2: 4(20) 1(30)*, query 3: 1(10) 4(40)*: 1/2 and 1/2.
    # Gallery 2, 3: query 1: 3(10) 2(30)*, query 4: 2(20) 3(40)*: 1/2 and 1/2.
    # Gallery 2, 4: query 1: 2(30)* 4(50), query 3: 2(20) 4(40)*: 1 and 1/2.
    AP: dict[tuple[int, ...], float] = {(1, 3): 3 / 4, (1, 4): 1 / 2, (2, 3): 1 / 2, (2, 4): 3 / 4}
    first: dict[tuple[int, ...], float] = {(1, 3): 1 / 2, (1, 4): 0, (2, 3): 0, (2, 4): 1 / 2}
    mAP, rank1 = (sum(table[g] for g in galleries) / 10 for table in (AP, first))
    # With two in the gallery, AP and INP of a single match are the same.
    expected = by_hand((2, 2), 2, mAP=mAP, mINP=mAP, cmc=(rank1, 1, 1))
    metrics = figures(monkeypatch, folder, "standard")
    assert brief(metrics) == expected and metrics["trials"] == 10


PRCC = {
    "rgb/train/001/A_cropped_rgb001.jpg": 0,
    "rgb/train/001/C_cropped_rgb002.jpg": 1,
    "rgb/val/001/B_cropped_rgb003.jpg": 2,
    "rgb/test/A/010/cropped_rgb01.jpg": 100,
    "rgb/test/A/010/cropped_rgb02.jpg": 150,
    "rgb/test/A/011/cropped_rgb03.jpg": 120,
    "rgb/test/B/010/cropped_rgb04.jpg": 105,
    "rgb/test/C/010/cropped_rgb05.jpg": 140,
    "rgb/test/C/011/cropped_rgb06.jpg": 118,
}


@pytest.mark.parametrize("top", ["prcc/rgb", "prcc"])
def test_prcc(top: str, tmp_path: Path, monkeypatch: P):
    # The photographs may have been moved out of the folder rgb.
    greys = {f"{top}/{path.removeprefix('rgb/')}": grey for path, grey in PRCC.items()}
    folder, source = indexed(tmp_path, tree(tmp_path / "data", greys) / "prcc", "prcc")
    clothes = {(row.pid, row.camid, row.extra["clothes"]) for row in source.rows if row.pid == 1}
    assert clothes == {(1, 0, "1_1"), (1, 2, "1_2"), (1, 1, "1_1")}
    # Ten draws of ours: of 010 image 1 or 2, of 011 the one it has.
    galleries = list(drawn(source, "cross-clothes"))
    ones = [names == ("cropped_rgb01", "cropped_rgb03") for names in galleries]
    assert ones == FIRST_OF_TWO
    # Other clothes, gallery 1, 3: 05: 3(20) 1(40)*, 06: 3(2)*: 1/2 and 1. Gallery 2, 3: 05: 2(10)*,
    # 06: 3(2)*: 1 and 1. Same clothes, 04: gallery 1, 3: 1(5)*: 1; gallery 2, 3: 3(15) 2(45)*: 1/2.
    share = sum(ones) / 10
    other = share * 3 / 4 + (1 - share) * 1
    same = share * 1 + (1 - share) / 2
    metrics = figures(monkeypatch, folder, "cross-clothes")
    assert brief(metrics) == by_hand(
        (2, 2), 2, mAP=other, mINP=other, cmc=(share / 2 + 1 - share, 1, 1)
    )
    assert (metrics["trials"], metrics["shots"]) == (10, 1)
    assert metrics["drawn_by"] == "seeds 0 to 9 of reidpipe"
    assert brief(figures(monkeypatch, folder, "same-clothes")) == by_hand(
        (1, 1), 2, mAP=same, mINP=same, cmc=(share, 1, 1)
    )
    # All images of camera A. 05: 2(10)* 3(20) 1(40)*: AP 5/6, INP 2/3. 06: 3(2)*: 1. 04: 1(5)*
    # 3(15) 2(45)*: AP 5/6, INP 2/3.
    assert brief(figures(monkeypatch, folder, "cross-clothes-all")) == by_hand(
        (2, 2), 3, mAP=(5 / 6 + 1) / 2, mINP=(2 / 3 + 1) / 2, cmc=(1, 1, 1)
    )
    assert brief(figures(monkeypatch, folder, "same-clothes-all")) == by_hand(
        (1, 1), 3, mAP=5 / 6, mINP=2 / 3, cmc=(1, 1, 1)
    )


# Person 6 and 10 are tested, 1 trains, 2 validates, 3 is in no list.
SYSU = {
    "cam1/0001/0001.jpg": 0, "cam2/0001/0001.jpg": 0, "cam3/0001/0001.jpg": 0,
    "cam4/0001/0001.jpg": 0, "cam5/0002/0001.jpg": 0, "cam6/0003/0001.jpg": 0,
    "cam1/0006/0001.jpg": 100, "cam1/0006/0002.jpg": 150,
    "cam2/0006/0001.jpg": 111, "cam4/0006/0001.jpg": 200,
    "cam1/0010/0001.jpg": 104, "cam1/0010/0002.jpg": 106, "cam1/0010/0003.jpg": 107,
    "cam1/0010/0004.jpg": 108, "cam1/0010/0005.jpg": 109,
    "cam2/0010/0001.jpg": 121, "cam4/0010/0001.jpg": 180,
    "cam3/0006/0001.jpg": 112, "cam6/0006/0001.jpg": 105, "cam3/0010/0001.jpg": 122,
}  # fmt: skip
LISTS = {"exp/train_id.txt": "1\n", "exp/val_id.txt": "2", "exp/test_id.txt": "6,10\n"}


def official_draws(
    path: Path, *, trials: int = 10, edit: Mapping[tuple[int, int], Any] = {}
) -> None:
    """rand_perm_cam.mat: every second trial takes person 6's second image of camera 1."""
    from scipy.io import savemat

    cameras = np.empty((6, 1), object)
    for camera in range(6):
        people = np.empty((10, 1), object)
        for pid in range(1, 11):
            folder = f"cam{camera + 1}/{pid:04d}/"
            count = sum(name.startswith(folder) for name in SYSU)
            order = np.tile(np.arange(1, count + 1), (trials, 1))
            if (camera, pid) == (0, 6):
                order[1::2] = [2, 1]
            people[pid - 1, 0] = edit.get((camera, pid), order).astype(np.uint8)
        cameras[camera, 0] = people
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"rand_perm_cam": cameras})


@pytest.fixture
def sysu(tmp_path: Path) -> Path:
    return tree(tmp_path / "SYSU-MM01", SYSU, LISTS)


@pytest.mark.parametrize("place", ["exp", "", "data_split"])
def test_sysu_by_the_official_draws(place: str, sysu: Path, tmp_path: Path, monkeypatch: P):
    official_draws(sysu / place / "rand_perm_cam.mat")
    folder, source = indexed(tmp_path, sysu, "sysu_mm01")
    assert {(row.camid, row.extra["modality"]) for row in source.rows} == {
        (0, "visible"), (1, "visible"), (2, "infrared"), (3, "visible"), (4, "visible"),
        (5, "infrared"),
    }  # fmt: skip
    assert {row.pid for row in source.split("train")} == {1, 2}
    # Images as person/camera. Cameras 2 and 3 are one place: of queries of camera 3, all images of
    # camera 2 are out, of whomever. CMC counts people: only 6 and 10 there are, so rank 2 at most.
    # Even trials, gallery 6/1 100, 6/2 111, 6/4 200, 10/1 104, 10/2 121, 10/4 180:
    #  6, camera 3, 112: 10/1(8) 6/1(12)* 10/4(68) 6/4(88)*: AP (1/2 + 2/4)/2, INP 2/4, rank 2
    #  6, camera 6, 105: 10/1(1) 6/1(5)* 6/2(6)* 10/2(16) 10/4(75) 6/4(95)*: AP 5/9, INP 3/6, rank 2
    #  10, camera 3, 122: 10/1(18)* 6/1(22) 10/4(58)* 6/4(78): AP 5/6, INP 2/3, rank 1
    # Odd trials, 6/1 is 150:
    #  112: 10/1(8) 6/1(38)* 10/4(68) 6/4(88)*: as before
    #  105: 10/1(1) 6/2(6)* 10/2(16) 6/1(45)* 10/4(75) 6/4(95)*: AP 1/2, INP 3/6
    #  122: 10/1(18)* 6/1(28) 10/4(58)* 6/4(78): as before
    even, odd = (1 / 2 + 5 / 9 + 5 / 6) / 3, (1 / 2 + 1 / 2 + 5 / 6) / 3
    metrics = figures(monkeypatch, folder, "all-single")
    assert brief(metrics) == by_hand(
        (3, 3), 6, mAP=(even + odd) / 2, mINP=(1 / 2 + 1 / 2 + 2 / 3) / 3, cmc=(1 / 3, 1, 1)
    )
    assert metrics["drawn_by"] == "rand_perm_cam.mat" and metrics["cmc_counts"] == "identities"
    assert (metrics["trials"], metrics["shots"], metrics["exclude"]) == (10, 1, "same-place")
    if place != "exp":
        return
    # Up to ten shots: all images, in all trials.
    #  112: 10/1 (3)(4)(5)(6)(8) 6/1(12)* 6/1(38)* 10/4(68) 6/4(88)*: AP (1/6 + 2/7 + 3/9)/3
    #  105: 10/1 (1)(1)(2)(3)(4) 6/1(5)* 6/2(6)* 10/2(16) 6/1(45)* 10/4(75) 6/4(95)*
    #  122: 10/1 (13)*(14)*(15)*(16)*(18)* 6/1(22) 6/1(28) 10/4(58)* 6/4(78): AP (5 + 6/8)/6
    # Five images before the first match, but of one person: still rank 2.
    AP = (
        (1 / 6 + 2 / 7 + 3 / 9) / 3,
        (1 / 6 + 2 / 7 + 3 / 9 + 4 / 11) / 4,
        (5 + 6 / 8) / 6,
    )
    assert brief(figures(monkeypatch, folder, "all-multi")) == by_hand(
        (3, 3), 11, mAP=sum(AP) / 3, mINP=(3 / 9 + 4 / 11 + 6 / 8) / 3, cmc=(1 / 3, 1, 1)
    )
    # Indoors, cameras 1 and 2. Even: 112: 10/1(8) 6/1(12)*: 1/2. 105: 10/1(1) 6/1(5)* 6/2(6)*
    # 10/2(16): AP 7/12, INP 2/3. 122: 10/1(18)* 6/1(22): 1. Odd: 112: 10/1(8) 6/1(38)*: 1/2. 105:
    # 10/1(1) 6/2(6)* 10/2(16) 6/1(45)*: AP 1/2, INP 2/4. 122: 1.
    even, odd = (1 / 2 + 7 / 12 + 1) / 3, (1 / 2 + 1 / 2 + 1) / 3
    last = ((1 / 2 + 2 / 3 + 1) + (1 / 2 + 1 / 2 + 1)) / 6
    assert brief(figures(monkeypatch, folder, "indoor-single")) == by_hand(
        (3, 3), 4, mAP=(even + odd) / 2, mINP=last, cmc=(1 / 3, 1, 1)
    )
    # 112: five of 10, 6/1(12)* 6/1(38)*: AP (1/6 + 2/7)/2, INP 2/7. 105: five of 10, 6/1(5)*
    # 6/2(6)* 10/2(16) 6/1(45)*: AP (1/6 + 2/7 + 3/9)/3, INP 3/9. 122: the five first: 1.
    AP = ((1 / 6 + 2 / 7) / 2, (1 / 6 + 2 / 7 + 3 / 9) / 3, 1)
    assert brief(figures(monkeypatch, folder, "indoor-multi")) == by_hand(
        (3, 3), 9, mAP=sum(AP) / 3, mINP=(2 / 7 + 1 / 3 + 1) / 3, cmc=(1 / 3, 1, 1)
    )


def test_sysu_without_the_official_draws_says_whose_they_are(
    sysu: Path, tmp_path: Path, monkeypatch: P
):
    (sysu / "exp" / "test_id.txt").unlink()  # the archive has both kinds of files
    from scipy.io import savemat

    savemat(sysu / "exp" / "test_id.mat", {"id": np.array([[6, 10]], np.uint16)})
    folder, source = indexed(tmp_path, sysu, "sysu_mm01:strict")
    assert {row.pid for row in source.split("train")} == {1}
    assert {row.pid for row in source.split("val")} == {2}
    galleries = list(drawn(source, "all-single"))
    assert len(galleries) == 10 and {len(names) for names in galleries} == {6}
    # Person 6's image of camera 1 is once the first, once the second; the 112 and 122 of the test
    # above have the same AP with both, 105 has 5/9 or 1/2.
    protocol = find_protocol("sysu_mm01", "all-single")
    trials = [apply_protocol(source.rows, protocol, trial=t)[1] for t in range(10)]
    first = sum(rows[0].path == "cam1/0006/0001.jpg" for rows in trials)
    # Person 10 is drawn by one of its five images of camera 1, which moves no other image past one
    # of person 6 (104 to 109 lie between 100 and 111): for 105, it is before all matches; for 112
    # and 122 it is nearer than both images of 6 whichever it is.
    even, odd = (1 / 2 + 5 / 9 + 5 / 6) / 3, (1 / 2 + 1 / 2 + 5 / 6) / 3
    metrics = figures(monkeypatch, folder, "all-single")
    assert metrics["drawn_by"] == "seeds 0 to 9 of reidpipe"
    assert 0 < first < 10
    assert metrics["mAP"] == pytest.approx((first * even + (10 - first) * odd) / 10)


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        ({"trials": 9}, "found draws of 9x2 for identity 6 under camera 1; expected 10 draws"),
        (
            {"edit": {(1, 10): np.ones((10, 2))}},
            "found draws of 10x2 for identity 10 under camera 2; expected 10 draws of its 1 images",
        ),
        (
            {"edit": {(0, 6): np.ones((10, 2))}},
            "found no permutation of 1 to 2 for identity 6 under camera 1",
        ),
        (None, "found no readable MATLAB file"),
    ],
)
def test_draws_that_do_not_fit(draws: Any, message: str, sysu: Path, tmp_path: Path):
    path = sysu / "exp" / "rand_perm_cam.mat"
    if draws is None:
        path.write_text("an error page")
    else:
        official_draws(path, **draws)
    with pytest.raises(ReidpipeError, match=message) as caught:
        indexed(tmp_path, sysu, "sysu_mm01")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_id.txt", None, "found no exp/train_id.txt and no exp/train_id.mat"),
        ("test_id.txt", "6;10", "found '6;10'; expected numbers of identities"),
        ("val_id.txt", "", "found ''; expected numbers of identities"),
    ],
)
def test_lists_of_people_that_are_none(
    name: str, content: str | None, message: str, sysu: Path, tmp_path: Path
):
    (sysu / "exp" / name).unlink()
    if content is not None:
        (sysu / "exp" / name).write_text(content)
    with pytest.raises(ReidpipeError, match=message):
        indexed(tmp_path, sysu, "sysu_mm01")
