"""Small trees in the published naming schemes of re-identification sets, odd names included.

Every function builds one dataset below ``folder`` and returns its root. Pictures are noise drawn
from their own path, so all differ unless a published set repeats them.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (16, 32)  # width, height


def picture(path: Path, *, size: tuple[int, int] = SIZE, data: str | None = None) -> Path:
    """Write a picture; ``data`` is the format of its bytes where the suffix lies about it."""
    suffix = path.suffix.lower().lstrip(".")
    kind = data or {"jpg": "JPEG", "jpeg": "JPEG", "tif": "TIFF", "tiff": "TIFF"}.get(
        suffix, suffix.upper()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded("/".join(path.parts[-3:]), size=size, kind=kind))
    return path


def encoded(name: str, *, size: tuple[int, int] = SIZE, kind: str = "JPEG") -> bytes:
    """The bytes of a noise picture that depends on ``name`` only."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    pixels = generator.integers(0, 256, size=(size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


def pictures(folder: Path, names: Iterable[str], **options) -> None:
    for name in names:
        picture(folder / name, **options)


def litter(folder: Path) -> None:
    """What operating systems leave behind; none of it is data."""
    for name in ("Thumbs.db", ".DS_Store", "._0001_c1s1_000001_00.jpg"):
        (folder / name).write_bytes(b"not an image")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._1.jpg").write_bytes(b"not an image")


def lines(path: Path, rows: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def market1501(folder: Path) -> Path:
    """2 training ids, 2 test ids, a distractor (0000), two junk boxes (-1)."""
    root = folder / "Market-1501-v15.09.15"
    train = [f"{p:04d}_c{c}s1_{p:03d}{c:03d}_01.jpg" for p in (2, 7) for c in (1, 6)]
    pictures(root / "bounding_box_train", train)
    pictures(root / "query", ["0001_c1s1_001051_00.jpg", "0003_c2s3_000151_00.jpg"])
    gallery = ["0001_c2s1_000301_01.jpg", "0001_c1s1_001052_02.jpg", "0003_c5s2_000401_01.jpg"]
    junk = ["-1_c1s1_000401_03.jpg", "-1_c3s2_000402_04.jpg"]
    pictures(root / "bounding_box_test", [*gallery, "0000_c3s1_000551_01.jpg", *junk])
    litter(root / "bounding_box_test")
    (root / "readme.txt").write_text("research use only")
    return root


def duke(folder: Path) -> Path:
    """2 training ids, 1 matched test id, 1 distractor; ids are four digits up to 7140."""
    root = folder / "DukeMTMC-reID"
    pictures(
        root / "bounding_box_train",
        [f"{p:04d}_c{c}_f{f:07d}.jpg" for p in (1, 7140) for c, f in ((1, 44158), (8, 44278))],
    )
    pictures(root / "query", ["0005_c2_f0046985.jpg"])
    pictures(
        root / "bounding_box_test",
        ["0005_c2_f0047105.jpg", "0005_c5_f0051341.jpg", "0003_c3_f0000120.jpg"],
    )
    return root


def occluded_duke_lists(folder: Path) -> Path:
    """Lists for the ``duke`` tree: queries come from its gallery and are in the new one too."""
    lines(folder / "train.list", ["0001_c1_f0044158.jpg", "7140_c8_f0044278.jpg"])
    lines(folder / "query.list", ["0005_c5_f0051341.jpg"])
    lines(
        folder / "gallery.list",
        ["0005_c5_f0051341.jpg", "0005_c2_f0046985.jpg", "0003_c3_f0000120.jpg"],
    )
    return folder


_MSMT = (
    # list, folder in the tree, path, pid
    ("train", "train", "0000/0000_000_01_0303morning_0015_0.jpg", 0),
    ("train", "train", "0001/0001_019_07_0303noon_0020_1.jpg", 1),
    ("val", "train", "0000/0000_001_14_0303afternoon_0020_1_ex.jpg", 0),
    ("val", "train", "0001/0001_020_15_0113morning_0101_2.jpg", 1),
    ("query", "test", "0000/0000_000_05_0303morning_0508_0.jpg", 0),
    ("gallery", "test", "0000/0000_001_06_0302noon_1508_3.jpg", 0),
    ("gallery", "test", "0001/0001_000_15_0302noon_1508_3.jpg", 1),
)


def msmt17(folder: Path, version: str = "v1", *, flat: bool = False) -> Path:
    """v1, v2 (faces blurred, folders mask_*) or the flat alias; test ids restart at 0."""
    root = folder / ("MSMT17" if flat else f"MSMT17_{version.upper()}")
    named = {"v1": "{}", "v2": "mask_{}_v2"}[version]
    per_list: dict[str, list[str]] = {}
    for listing, part, path, pid in _MSMT:
        picture(root / named.format(part) / path)
        per_list.setdefault(listing, []).append(f"{path} {pid}")
    for listing, rows in per_list.items():
        lines(root / f"list_{listing}.txt", rows)
    return root


def msmt17_market_style(folder: Path) -> Path:
    """Names after Market-1501 with two-digit cameras."""
    root = folder / "MSMT17"
    pictures(root / "bounding_box_train", ["0000_c1_0001.jpg", "0001_c15_0002.jpg"])
    pictures(root / "query", ["0000_c5_0003.jpg"])
    pictures(root / "bounding_box_test", ["0000_c12_0004.jpg", "0001_c2_0005.jpg"])
    return root


def veri776(folder: Path, *, viewpoints: bool = True) -> Path:
    """2 training ids, 1 test id; one image has no viewpoint line."""
    root = folder / "VeRi"
    train = ["0001_c001_00016450_0.jpg", "0003_c020_00014150_0.jpg"]
    pictures(root / "image_train", train)
    pictures(root / "image_query", ["0002_c002_00030600_0.jpg"])
    pictures(root / "image_test", ["0002_c003_00084280_0.jpg", "0002_c002_00030605_1.jpg"])
    if viewpoints:
        points = " ".join(["-1"] * 40)
        lines(root / "keypoint_train.txt", [f"VeRi/image_train/{train[0]} {points} 5"])
        lines(
            root / "keypoint_test.txt",
            [f"VeRi/image_test/0002_c003_00084280_0.jpg {points} 0"] * 2,
        )
    return root


def vehicleid(folder: Path) -> Path:
    """Flat seven-digit names; ids only in the lists, leading zeros kept."""
    root = folder / "VehicleID_V1.0"
    train = [(1, 12), (2, 12), (3, 900)]
    test = [(10 + place, vehicle) for place, vehicle in enumerate((5, 7, 11) * 3)]
    for number, _ in train + test:
        picture(root / "image" / f"{number:07d}.jpg")
    splits = root / "train_test_split"
    lines(splits / "train_list.txt", [f"{n:07d} {v}" for n, v in train])
    lines(splits / "test_list_800.txt", [f"{n:07d} {v}" for n, v in test])
    return root


def cargo(folder: Path) -> Path:
    """One folder per camera; 1 to 5 fly, 6 to 13 stand."""
    root = folder / "CARGO"
    pictures(root / "train" / "Cam1", ["Cam1_day_12_1.jpg"])
    pictures(root / "train" / "Cam13", ["Cam13_night_12_2.jpg"])
    pictures(root / "query" / "Cam3", ["Cam3_day_2501_1.jpg"])
    pictures(root / "query" / "Cam10", ["Cam10_night_2501_7.jpg"])
    pictures(root / "gallery" / "Cam2", ["Cam2_day_2501_3.jpg", "Cam2_day_2502_3.jpg"])
    pictures(root / "gallery" / "Cam6", ["Cam6_night_2501_4.jpg"])
    return root


def agreid_v1(folder: Path) -> Path:
    """Identity = person + time + altitude; both directions have their own folders."""
    root = folder / "AG-ReID"
    pictures(
        root / "bounding_box_train",
        ["P0001T02140A0C0F1021.jpg", "P0001T02141A0C3F22.jpg", "P0001T0214A1C0F7.jpg"],
    )
    pictures(root / "query_all_c0", ["P0006T02140A0C0F100.jpg"])
    pictures(root / "bounding_box_test_all_c3", ["P0006T02140A0C3F7.jpg"])
    pictures(root / "query_all_c3", ["P0006T02140A0C3F8.jpg"])
    pictures(root / "bounding_box_test_all_c0", ["P0006T02140A0C0F101.jpg"])
    return root


def agreid_v2(folder: Path, *, doubled: bool = True, lists: bool = True) -> Path:
    """Doubled folder, lists beside the inner one, a wearable name that ends in a letter."""
    top = folder / "AG-ReID.v2"
    root = top / "AG-ReID.v2" if doubled else top
    pictures(root / "train_all" / "P0001T02140A0", ["P0001T02140A0C0F1.jpg"])
    pictures(root / "train_all" / "P0001T02141A0", ["P0001T02141A0C2F8671Z.jpg"])
    pictures(
        root / "query" / "P0009T03010A1",
        ["P0009T03010A1C0F5.jpg", "P0009T03010A1C3F6.jpg", "P0009T03010A1C2F7.jpg"],
    )
    pictures(
        root / "gallery" / "P0009T03010A1",
        ["P0009T03010A1C0F15.jpg", "P0009T03010A1C3F16.jpg", "P0009T03010A1C2F17.jpg"],
    )
    (root / "gallery" / "P0009T03010A1" / "._P0009T03010A1C0F15.jpg").write_bytes(b"x")
    person = "P0009T03010A1"
    members = {
        "exp1_aerial_to_cctv": ("C0F5", "C3F16"),
        "exp2_aerial_to_wearable": ("C0F5", "C2F17"),
        "exp4_cctv_to_aerial": ("C3F6", "C0F15"),
        "exp5_wearable_to_aerial": ("C2F7", "C0F15"),
    }
    for name, (query, gallery) in members.items() if lists else ():
        lines(
            top / f"{name}.txt",
            [f"query/{person}/{person}{query}.jpg", f"gallery/{person}/{person}{gallery}.jpg"],
        )
    return root


def occluded_reid(folder: Path) -> Path:
    root = folder / "Occluded_REID"
    for person in (1, 200):
        for part in ("occluded_body_images", "whole_body_images"):
            names = [f"{person:03d}_{number:02d}.tif" for number in (1, 2)]
            pictures(root / part / f"{person:03d}", names)
    return root


def prid2011(folder: Path) -> Path:
    """Persons 1 to 4 in both cameras; 201 is somebody else in each of them."""
    root = folder / "prid_2011"
    for camera in ("cam_a", "cam_b"):
        pictures(root / "single_shot" / camera, [f"person_{n:04d}.png" for n in (1, 2, 3, 4, 201)])
    picture(root / "multi_shot" / "cam_a" / "person_0001" / "0001.png")
    return root


def pku_reid(folder: Path, people: Iterable[int] = (1, 2, 3, 4)) -> Path:
    root = folder / "PKUv1a_128x48"
    for person in people:
        for camera in (1, 2):
            pictures(root, [f"{person}_{camera}_{view}.png" for view in (1, 8)], size=(48, 128))
    return folder


def col780(folder: Path) -> Path:
    """JPEG data under .png; the queries are the same files as gallery images."""
    root = folder / "col780"
    for person in ("001", "114"):
        names = [f"{camera}_{view}.png" for camera in ("01", "02") for view in range(1, 9)]
        pictures(root / "train" / person, names, data="JPEG")
    for person in ("004", "012"):
        for name in ("01_1.png", "02_1.png", "02_8.png"):
            picture(root / "val" / "gallery" / person / name, data="JPEG")
        query = root / "val" / "query" / person / "01_1.png"
        query.parent.mkdir(parents=True)
        query.write_bytes((root / "val" / "gallery" / person / "01_1.png").read_bytes())
    return root


def cuhk03_ready(folder: Path) -> Path:
    root = folder / "cuhk03-np"
    for variant in ("detected", "labeled"):
        pictures(root / variant / "bounding_box_train", ["0001_c1_01.png", "0001_c2_02.png"])
        pictures(root / variant / "query", ["0002_c1_1.png"])
        pictures(root / variant / "bounding_box_test", ["0002_c2_7.png"])
    return root


CUHK03_PEOPLE = (2, 1)  # people per camera pair


def cuhk03_pixels(pair: int, person: int, cell: int) -> np.ndarray:
    """uint8 (H, W, 3): what cell 0..9 of a person holds; heights differ."""
    seed = pair * 10_000 + person * 100 + cell
    shape = (20 + cell, 12, 3)
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def cuhk03_original(folder: Path) -> Path:
    """MATLAB v7.3 crops (transposed, one cell empty) and v5 protocol files, indices from 1."""
    import h5py
    from scipy.io import savemat

    root = folder / "cuhk03"
    (root / "cuhk03_release").mkdir(parents=True)
    with h5py.File(root / "cuhk03_release" / "cuhk-03.mat", "w") as file:
        for variant in ("detected", "labeled"):
            pairs = file.create_dataset(variant, (1, len(CUHK03_PEOPLE)), dtype=h5py.ref_dtype)
            for pair, people in enumerate(CUHK03_PEOPLE, start=1):
                cells = file.create_dataset(
                    f"#refs#/{variant}{pair}", (10, people), dtype=h5py.ref_dtype
                )
                for person in range(1, people + 1):
                    for cell in range(10):
                        name = f"#refs#/{variant}{pair}_{person}_{cell}"
                        if cell == 4:  # MATLAB stores an empty matrix as its shape
                            stored = file.create_dataset(name, data=np.zeros(2, np.uint64))
                            stored.attrs["MATLAB_empty"] = np.uint8(1)
                        else:
                            pixels = cuhk03_pixels(pair, person, cell)
                            stored = file.create_dataset(name, data=pixels.T)
                        cells[cell, person - 1] = stored.ref
                pairs[0, pair - 1] = cells.ref
    names = ["1_001_1_01", "1_001_2_06", "1_002_1_02", "1_002_2_07", "1_002_2_10", "2_001_1_01"]
    filelist = np.empty((len(names), 1), dtype=object)
    for number, name in enumerate(names):
        filelist[number, 0] = f"{name}.png"
    config = {
        "filelist": filelist,
        "train_idx": np.array([[1], [2], [6]], dtype=np.uint16),
        "query_idx": np.array([[3]], dtype=np.uint16),
        "gallery_idx": np.array([[4], [5]], dtype=np.uint16),
    }
    for variant in ("detected", "labeled"):
        savemat(root / f"cuhk03_new_protocol_config_{variant}.mat", config)
    return root
