"""Protocols on small trees in the published schemes, every figure worked out by hand.

The feature of an image is its grey; a comment lists what a query sees, nearest first, as
``name(difference)``, with ``*`` behind the right matches.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.terminal.errors import ReidpipeError
from tests.reid_train.evaluation.greys import brief, by_hand, figures, indexed, tree

P = pytest.MonkeyPatch


def test_market(tmp_path: Path, monkeypatch: P):
    root = tree(
        tmp_path / "Market-1501-v15.09.15",
        {
            "bounding_box_train/0007_c1s1_000001_01.jpg": 0,
            "query/0001_c1s1_000001_00.jpg": 100,
            "query/0002_c2s1_000001_00.jpg": 50,
            "query/0003_c1s1_000001_00.jpg": 201,
            "bounding_box_test/0000_c1s1_000001_01.jpg": 105,  # a false alarm stays, as a negative
            "bounding_box_test/-1_c2s1_000001_01.jpg": 101,  # junk is not there at all
            "bounding_box_test/0001_c1s1_000002_01.jpg": 100,
            "bounding_box_test/0001_c2s1_000001_01.jpg": 110,
            "bounding_box_test/0001_c3s1_000001_01.jpg": 160,
            "bounding_box_test/0002_c2s1_000002_01.jpg": 51,
            "bounding_box_test/0002_c4s1_000001_01.jpg": 90,
            "bounding_box_test/0003_c1s1_000002_01.jpg": 200,
        },
    )
    folder, _ = indexed(tmp_path, root, "market1501")
    # 0001, camera 1: 0000(5) 0001_c2(10)* 0002_c4(10) 0002_c2(49) 0001_c3(60)* 0003(100). Equal
    # distances rank by their place. AP (1/2 + 2/5) / 2 = 9/20, last match at rank 5: INP 2/5.
    # 0002, camera 2: 0002_c4(40)* before all others: AP 1, INP 1.
    # 0003, camera 1: its only match is of its camera: not valid.
    assert brief(figures(monkeypatch, folder, "standard")) == by_hand(
        (3, 2), 7, mAP=(9 / 20 + 1) / 2, mINP=(2 / 5 + 1) / 2, cmc=(1 / 2, 1, 1)
    )
    # Without the rule: 0001: 0001_c1(0)* 0000 0001_c2* 0002_c4 0002_c2 0001_c3*: (1 + 2/3 + 3/6)/3;
    # 0002: 0002_c2(1)* 0002_c4(40)*: 1; 0003: 0003(1)*: 1.
    assert figures(monkeypatch, folder, "standard", "none")["mAP"] == pytest.approx(
        ((1 + 2 / 3 + 1 / 2) / 3 + 2) / 3
    )


VERI = {
    "image_train/0001_c001_00000001_0.jpg": 0,
    "image_query/0002_c001_00000001_0.jpg": 100,
    "image_query/0005_c002_00000001_0.jpg": 104,
    # track A
    "image_test/0002_c001_00000001_0.jpg": 100,
    "image_test/0002_c001_00000002_0.jpg": 101,
    # track B
    "image_test/0002_c002_00000001_0.jpg": 140,
    "image_test/0002_c002_00000002_0.jpg": 108,
    # track C
    "image_test/0002_c003_00000001_0.jpg": 130,
    # track D
    "image_test/0005_c002_00000001_0.jpg": 104,
    "image_test/0005_c002_00000002_0.jpg": 135,
    # track E
    "image_test/0005_c003_00000001_0.jpg": 145,
}
TRACKS = [
    ["0002_c001_00000001_0.jpg", "0002_c001_00000002_0.jpg"],
    ["0002_c002_00000001_0.jpg", "0002_c002_00000002_0.jpg"],
    ["0002_c003_00000001_0.jpg"],
    ["0005_c002_00000001_0.jpg", "0005_c002_00000002_0.jpg"],
    ["0005_c003_00000001_0.jpg"],
]


def track_lines(named: bool = False) -> str:
    """As in test_track.txt or, with a name in front of each track, test_track_VeRi.txt."""
    rows = [[f"{t[0].rpartition('_')[0]}_track"] * named + t for t in TRACKS]
    return "".join(f"{' '.join(row)} \n" for row in rows)


@pytest.mark.parametrize("name", ["test_track.txt", "test_track_VeRi.txt"])
def test_veri(name: str, tmp_path: Path, monkeypatch: P):
    root = tree(tmp_path / "VeRi", VERI, {name: track_lines(name != "test_track.txt")})
    folder, source = indexed(tmp_path, root, "veri776")
    assert {row.extra["track"] for row in source.split("gallery")} == {"1", "2", "3", "4", "5"}
    # Images. 0002, camera 1: D(4) B(8)* C(30)* D(35) B(40)* E(45): AP (1/2 + 2/3 + 3/5) / 3.
    # 0005, camera 2: A(3) A(4) B(4) C(26) B(36) E(41)*: AP 1/6.
    assert brief(figures(monkeypatch, folder, "standard")) == by_hand(
        (2, 2),
        8,
        mAP=((1 / 2 + 2 / 3 + 3 / 5) / 3 + 1 / 6) / 2,
        mINP=(3 / 5 + 1 / 6) / 2,
        cmc=(0, 1 / 2, 1),
    )
    # Tracks, each by its nearest image. 0002: D(4) B(8)* C(30)* E(45): AP (1/2 + 2/3) / 2 = 7/12.
    # 0005: A(3) B(4) C(26) E(41)*: AP 1/4. The tracks of the vehicle and camera itself are out.
    metrics = figures(monkeypatch, folder, "image-to-track")
    assert brief(metrics) == by_hand(
        (2, 2), 5, mAP=(7 / 12 + 1 / 4) / 2, mINP=(2 / 3 + 1 / 4) / 2, cmc=(0, 1, 1)
    )
    assert metrics["unit"] == "track"


def test_tracks_in_the_stored_ranking_are_shown_by_their_nearest_images(
    tmp_path: Path, monkeypatch: P
):
    from reid_train.evaluation.stored_ranking import StoredRanking

    root = tree(tmp_path / "VeRi", VERI, {"test_track.txt": track_lines()})
    folder, _ = indexed(tmp_path, root, "veri776")
    figures(monkeypatch, folder, "image-to-track")
    ranking = StoredRanking.read(tmp_path / "evaluation image-to-track same-camera" / "ranking.npz")
    shown = [key.removeprefix("image_test/") for key in ranking.gallery_keys[ranking.indices[0]]]
    assert shown == [
        "0002_c001_00000001_0.jpg",  # A, its first image, of the query's own camera
        "0005_c002_00000001_0.jpg",
        "0002_c002_00000002_0.jpg",  # B by its second image
        "0002_c003_00000001_0.jpg",
        "0005_c003_00000001_0.jpg",
    ]
    assert ranking.junk[0].tolist() == [True, False, False, False, False]
    assert ranking.correct[0].tolist() == [False, False, True, True, False]


def test_tracks_that_are_none(tmp_path: Path, monkeypatch: P):
    root = tree(tmp_path / "VeRi", VERI)
    folder, _ = indexed(tmp_path, root, "veri776")
    with pytest.raises(ReidpipeError, match="no gallery image under protocol 'image-to-track'"):
        figures(monkeypatch, folder, "image-to-track")
    (root / "test_track.txt").write_text(" ".join(TRACKS[0] + TRACKS[1]))
    with pytest.raises(ReidpipeError, match="line 1: found images of 2 identities or cameras"):
        indexed(tmp_path, root, "veri776")
    (root / "test_track.txt").write_text("0002_c001_00000001_0.jpg nobody.jpg")
    with pytest.raises(ReidpipeError, match="names 1 images that are not in the gallery: nobody"):
        indexed(tmp_path, root, "veri776")
    (root / "test_track.txt").write_text(track_lines())
    folder, _ = indexed(tmp_path, root, "veri776")
    with pytest.raises(ReidpipeError, match="found rule 'same-image' for tracks"):
        figures(monkeypatch, folder, "image-to-track", "same-image")


def test_cargo(tmp_path: Path, monkeypatch: P):
    root = tree(
        tmp_path / "CARGO",
        {
            "train/Cam1/Cam1_day_9_1.jpg": 0,
            "query/Cam1/Cam1_day_1_1.jpg": 100,
            "query/Cam6/Cam6_day_1_2.jpg": 150,
            "gallery/Cam1/Cam1_day_1_3.jpg": 101,
            "gallery/Cam2/Cam2_day_1_4.jpg": 120,
            "gallery/Cam7/Cam7_night_1_5.jpg": 140,
            "gallery/Cam2/Cam2_day_2_6.jpg": 110,
            "gallery/Cam7/Cam7_night_2_7.jpg": 145,
        },
    )
    folder, _ = indexed(tmp_path, root, "cargo")
    # Cameras 1 to 5 fly, 6 to 13 stand. Aerial query: 6(10) 4(20)* 5(40)* 7(45), without 3 of its
    # camera: AP 7/12, INP 2/3. Ground query: 7(5) 5(10)* 4(30)* 6(40) 3(49)*: AP 53/90, INP 3/5.
    assert brief(figures(monkeypatch, folder, "all")) == by_hand(
        (2, 2), 5, mAP=(7 / 12 + 53 / 90) / 2, mINP=(2 / 3 + 3 / 5) / 2, cmc=(0, 1, 1)
    )
    # The aerial query among aerial images: 6(10) 4(20)*.
    assert brief(figures(monkeypatch, folder, "aerial-aerial")) == by_hand(
        (1, 1), 3, mAP=1 / 2, mINP=1 / 2, cmc=(0, 1, 1)
    )
    # The ground query among ground images: 7(5) 5(10)*.
    assert brief(figures(monkeypatch, folder, "ground-ground")) == by_hand(
        (1, 1), 2, mAP=1 / 2, mINP=1 / 2, cmc=(0, 1, 1)
    )
    # Across views, both directions at once: a match of the query's own view is out, whatever its
    # camera; other people of that view stay. Aerial: 6(10) 5(40)* 7(45): AP 1/2. Ground: 7(5)
    # 4(30)* 6(40) 3(49)*: AP (1/2 + 2/4) / 2.
    assert brief(figures(monkeypatch, folder, "aerial-ground")) == by_hand(
        (2, 2), 5, mAP=1 / 2, mINP=1 / 2, cmc=(0, 1, 1)
    )


def test_agreid_v1(tmp_path: Path, monkeypatch: P):
    root = tree(
        tmp_path / "AG-ReID",
        {
            "bounding_box_train/P0009T02140A0C0F1.jpg": 0,
            "query_all_c0/P0001T02140A0C0F1.jpg": 100,
            "bounding_box_test_all_c3/P0001T02140A0C3F2.jpg": 130,
            "bounding_box_test_all_c3/P0001T02140A1C3F3.jpg": 101,  # of another altitude
            "bounding_box_test_all_c3/P0002T02140A0C3F4.jpg": 110,
            "query_all_c3/P0001T02140A0C3F5.jpg": 130,
            "bounding_box_test_all_c0/P0001T02140A0C0F6.jpg": 100,
            "bounding_box_test_all_c0/P0002T02140A0C0F7.jpg": 135,
        },
    )
    folder, _ = indexed(tmp_path, root, "agreid_v1")
    # F3(1) F4(10) F2(30)*: person, time and altitude together are an identity.
    assert brief(figures(monkeypatch, folder, "aerial-to-ground")) == by_hand(
        (1, 1), 3, mAP=1 / 3, mINP=1 / 3, cmc=(0, 1, 1)
    )
    # F7(5) F6(30)*
    assert brief(figures(monkeypatch, folder, "ground-to-aerial")) == by_hand(
        (1, 1), 2, mAP=1 / 2, mINP=1 / 2, cmc=(0, 1, 1)
    )


def test_agreid_v2(tmp_path: Path, monkeypatch: P):
    a, b = "P0001T02140A0", "P0002T02140A0"
    query = {"C0F1": 100, "C3F2": 130, "C2F3Z": 160}
    gallery = {
        f"{a}C0F11": 102, f"{a}C3F12": 140, f"{a}C2F13": 90, f"{a}C0F18": 161, f"{a}C3F17": 100,
        f"{b}C0F14": 131, f"{b}C3F15": 105, f"{b}C2F16": 120,
    }  # fmt: skip
    greys = {f"query/{a}/{a}{name}.jpg": grey for name, grey in query.items()}
    greys |= {f"gallery/{name[:13]}/{name}.jpg": grey for name, grey in gallery.items()}
    lists = {
        "exp1_aerial_to_cctv": (f"{a}C0F1", [f"{a}C3F12", f"{b}C3F15"]),
        "exp2_aerial_to_wearable": (f"{a}C0F1", [f"{a}C2F13", f"{b}C2F16"]),
        "exp4_cctv_to_aerial": (f"{a}C3F2", [f"{a}C0F11", f"{b}C0F14"]),
        "exp5_wearable_to_aerial": (f"{a}C2F3Z", [f"{a}C0F11", f"{a}C0F18", f"{b}C0F14"]),
    }
    texts = {
        f"{name}.txt": "".join(
            f"{folder}/{image[:13]}/{image}.jpg\n"
            for folder, images in (("query", [one]), ("gallery", many))
            for image in images
        )
        for name, (one, many) in lists.items()
    }
    greys["train_all/P0009T02140A0/P0009T02140A0C0F1.jpg"] = 0
    folder, _ = indexed(tmp_path, tree(tmp_path / "AG-ReID.v2", greys, texts), "agreid_v2")
    # Images that no list names, such as F17, take no part.
    for protocol, images, AP, INP, first in (
        ("aerial-to-cctv", 2, 1 / 2, 1 / 2, 0),  # F15(5) F12(40)*
        ("aerial-to-wearable", 2, 1, 1, 1),  # F13(10)* F16(20)
        ("cctv-to-aerial", 2, 1 / 2, 1 / 2, 0),  # F14(1) F11(28)*
        ("wearable-to-aerial", 3, 5 / 6, 2 / 3, 1),  # F18(1)* F14(29) F11(58)*
    ):
        expected = by_hand((1, 1), images, mAP=AP, mINP=INP, cmc=(first, 1, 1))
        assert brief(figures(monkeypatch, folder, protocol)) == expected


def test_occluded_duke(tmp_path: Path, monkeypatch: P):
    root = tree(
        tmp_path / "DukeMTMC-reID",
        {
            "bounding_box_train/0001_c1_f0000001.jpg": 0,
            "query/0009_c1_f0000001.jpg": 100,  # Duke's own query, in no list
            "bounding_box_test/0005_c2_f0000001.jpg": 100,
            "bounding_box_test/0005_c2_f0000002.jpg": 104,
            "bounding_box_test/0005_c5_f0000003.jpg": 120,
            "bounding_box_test/0007_c5_f0000004.jpg": 110,
        },
        {
            "train.list": "0001_c1_f0000001.jpg\n",
            "query.list": "0005_c2_f0000001.jpg\n",
            "gallery.list": "0005_c2_f0000001.jpg\n0005_c2_f0000002.jpg\n"
            "0005_c5_f0000003.jpg\n0007_c5_f0000004.jpg\n",
        },
    )
    folder, source = indexed(tmp_path, root, "occluded_duke")
    # The query is in the gallery, too. The rule leaves out it and f2 of its camera: f4(10) f3(20)*.
    # (Who left out the query alone would have f2(4)* f4(10) f3(20)*: AP 5/6.)
    assert brief(figures(monkeypatch, folder, "standard")) == by_hand(
        (1, 1), 4, mAP=1 / 2, mINP=1 / 2, cmc=(0, 1, 1)
    )
    alone = figures(monkeypatch, folder, "standard", "same-image")
    assert alone["mAP"] == pytest.approx(5 / 6)


def test_cuhk03_detected_and_labelled(tmp_path: Path, monkeypatch: P):
    greys = {}
    for variant, match in (("detected", 130), ("labeled", 102)):
        greys |= {
            f"{variant}/bounding_box_train/0009_c1_1.png": 0,
            f"{variant}/query/0001_c1_1.png": 100,
            f"{variant}/query/0001_c2_2.png": 150,
            f"{variant}/bounding_box_test/0001_c2_3.png": match,
            f"{variant}/bounding_box_test/0001_c1_4.png": 101,
            f"{variant}/bounding_box_test/0002_c2_5.png": 110,
        }
    root = tree(tmp_path / "cuhk03-np", greys)
    # detected. Camera 1: 5(10) 3(30)*: 1/2. Camera 2, grey 150: 5(40) 4(49)*: 1/2.
    folder, _ = indexed(tmp_path / "one", root, "cuhk03_np:detected")
    assert brief(figures(monkeypatch, folder, "standard")) == by_hand(
        (2, 2), 3, mAP=1 / 2, mINP=1 / 2, cmc=(0, 1, 1)
    )
    # labelled. Camera 1: 3(2)* 5(10): 1. Camera 2: as before.
    folder, _ = indexed(tmp_path / "two", root, "cuhk03_np:labeled")
    assert brief(figures(monkeypatch, folder, "standard")) == by_hand(
        (2, 2), 3, mAP=3 / 4, mINP=3 / 4, cmc=(1 / 2, 1, 1)
    )


def test_ltcc(tmp_path: Path, monkeypatch: P):
    root = tree(
        tmp_path / "LTCC_ReID",
        {
            "train/009_1_c1_000001.png": 0,
            "query/001_1_c1_000002.png": 100,
            "query/002_1_c2_000003.png": 103,
            "test/001_1_c1_000004.png": 101,
            "test/001_1_c2_000005.png": 104,
            "test/001_2_c1_000006.png": 107,
            "test/001_2_c2_000007.png": 105,
            "test/001_2_c3_000008.png": 120,
            "test/002_1_c2_000009.png": 103,
            "test/002_1_c12_000010.png": 110,
        },
    )
    folder, source = indexed(tmp_path, root, "ltcc")
    assert {row.extra["clothes"] for row in source.rows if row.pid == 1} == {"001_1", "001_2"}
    # Query 001, camera 1, clothes 1; 4 and 6 of its camera are out: 9(3) 5(4)* 7(5)* 10(10)
    # 8(20)*: AP 53/90. Query 002, camera 2, without 9: 5(1) 4(2) 7(2) 6(4) 10(7)* 8(17): AP 1/5.
    assert brief(figures(monkeypatch, folder, "general")) == by_hand(
        (2, 2), 7, mAP=(53 / 90 + 1 / 5) / 2, mINP=(3 / 5 + 1 / 5) / 2, cmc=(0, 1, 1)
    )
    # Also without 5 in the same clothes: 9(3) 7(5)* 10(10) 8(20)*: AP 1/2. 002 never changes: not
    # valid.
    assert brief(figures(monkeypatch, folder, "cloth-changing")) == by_hand(
        (2, 1), 7, mAP=1 / 2, mINP=1 / 2, cmc=(0, 1, 1)
    )
    # Without those in other clothes, 7 and 8: 9(3) 5(4)* 10(10): AP 1/2. 002 as in general: 1/5.
    assert brief(figures(monkeypatch, folder, "same-clothes")) == by_hand(
        (2, 2), 7, mAP=(1 / 2 + 1 / 5) / 2, mINP=(1 / 2 + 1 / 5) / 2, cmc=(0, 1, 1)
    )


def test_prid(tmp_path: Path, monkeypatch: P):
    root = tree(
        tmp_path / "prid_2011",
        {
            "single_shot/cam_a/person_0001.png": 100,
            "single_shot/cam_a/person_0004.png": 106,
            "single_shot/cam_a/person_0201.png": 109,  # somebody else than 201 of camera B
            "single_shot/cam_b/person_0001.png": 110,
            "single_shot/cam_b/person_0004.png": 105,
            "single_shot/cam_b/person_0201.png": 101,
        },
    )
    # All 200 are tested: 1: 201(1) 4(5) 1(10)*; 4: 4(1)* 1(4) 201(5).
    folder, _ = indexed(tmp_path / "one", root, "prid2011:official")
    assert brief(figures(monkeypatch, folder, "standard")) == by_hand(
        (2, 2), 3, mAP=2 / 3, mINP=2 / 3, cmc=(1 / 2, 1, 1)
    )
    # split-0 trains on person 1: query 4 among 4 and 201.
    folder, source = indexed(tmp_path / "two", root, "prid2011:split-0")
    assert [row.pid for row in source.split("train")] == [1, 1]
    assert brief(figures(monkeypatch, folder, "standard")) == by_hand(
        (1, 1), 2, mAP=1, mINP=1, cmc=(1, 1, 1)
    )


def test_course(tmp_path: Path, monkeypatch: P):
    root = tree(
        tmp_path / "data",
        {
            "train/001/01_1.png": 0,
            "val/query/004/01_1.png": 100,
            "val/gallery/004/01_1.png": 100,
            "val/gallery/004/02_1.png": 140,
            "val/gallery/012/01_1.png": 120,
            "val/gallery/012/02_1.png": 130,
        },
    )
    folder, _ = indexed(tmp_path, root, "col780")
    # The query finds itself: itself(0)* 120 130 140*.
    assert brief(figures(monkeypatch, folder, "course")) == by_hand(
        (1, 1), 4, mAP=3 / 4, mINP=1 / 2, cmc=(1, 1, 1)
    )
    # By Market's rule it does not: 120 130 140*.
    assert brief(figures(monkeypatch, folder, "standard")) == by_hand(
        (1, 1), 4, mAP=1 / 3, mINP=1 / 3, cmc=(0, 1, 1)
    )
