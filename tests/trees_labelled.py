"""Small trees of parsing and classification sets, and of a person's own images."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.trees import lines, picture, pictures


def label_map(path: Path, classes: int, *, size: tuple[int, int] = (16, 32)) -> Path:
    """An 8-bit single-channel PNG whose columns run through the classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.arange(size[0], dtype=np.uint8) % classes
    Image.fromarray(np.tile(columns, (size[1], 1))).save(path)
    return path


def lip(folder: Path, *, nested: int = 0) -> Path:
    """SCHP's tree, or the original archives unpacked (1 to 3 levels deep, folders doubled)."""
    root = folder / "LIP"
    images = root.joinpath(*["TrainVal_images"] * nested)
    masks = root.joinpath(*["TrainVal_parsing_annotations"] * nested)
    for part, names in (("train", ["77_471474", "100034_483681"]), ("val", ["100034_483682"])):
        for name in names:
            picture(images / f"{part}_images" / f"{name}.jpg")
            label_map(masks / f"{part}_segmentations" / f"{name}.png", 20)
        lines(images / f"{part}_id.txt", names)
    return root


def cihp(folder: Path) -> Path:
    root = folder / "instance-level_human_parsing"
    for part, name in (("Training", "0000006"), ("Validation", "0000002")):
        picture(root / part / "Images" / f"{name}.jpg")
        label_map(root / part / "Category_ids" / f"{name}.png", 20)
        picture(root / part / "Categories" / f"{name}.png")
    picture(root / "Testing" / "Images" / "0000001.jpg")
    return root


def atr(folder: Path, count: int = 40) -> Path:
    root = folder / "humanparsing"
    for number in range(count):
        picture(root / "JPEGImages" / f"2500_{number}.jpg")
        label_map(root / "SegmentationClassAug" / f"2500_{number}.png", 18)
    return root


def ccp(folder: Path) -> Path:
    """Two photographs with a label map, one with tags alone."""
    from scipy.io import savemat

    root = folder / "clothing-co-parsing"
    pictures(root / "photos", ["0001.jpg", "0002.jpg", "1005.jpg"])
    for number, label in ((1, 41), (2, 58)):
        path = root / "annotations" / "pixel-level" / f"{number:04d}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        savemat(path, {"groundtruth": np.full((32, 16), label, np.uint8)})
    tags = root / "annotations" / "image-level" / "1005.mat"
    tags.parent.mkdir(parents=True)
    savemat(tags, {"tags": np.array([[2], [41]], np.uint8)})
    return root


def pascal_person_part(folder: Path, *, pairs: bool = False) -> Path:
    root = folder / "VOC2010"
    part = root / "pascal_person_part"
    for split, name in (("train", "2008_000008"), ("val", "2008_000003")):
        picture(root / "JPEGImages" / f"{name}.jpg")
        label_map(part / "pascal_person_part_gt" / f"{name}.png", 7)
        listing = part / "pascal_person_part_trainval_list"
        if pairs:
            row = f"/JPEGImages/{name}.jpg /pascal_person_part_gt/{name}.png"
            lines(listing / f"{split}.txt", [row])
        else:
            lines(listing / f"{split}_id.txt", [name])
    # VOC2010 has lists of the same names that mean other images.
    lines(root / "ImageSets" / "Main" / "train.txt", ["2007_000027"])
    return root


def _object(category: int, shape: tuple[int, int], parts: dict[str, tuple[slice, slice]]):
    mask = np.zeros(shape, dtype=np.uint8)
    fields = [("class", "O"), ("class_ind", "O"), ("mask", "O"), ("parts", "O")]
    listed = np.empty((1, len(parts)), dtype=[("part_name", "O"), ("mask", "O")])
    for number, (name, where) in enumerate(parts.items()):
        part = np.zeros(shape, dtype=np.uint8)
        part[where] = 1
        mask |= part
        listed[0, number] = (name, part)
    entry = np.empty((1,), dtype=fields)
    entry[0] = ("person", category, mask, listed if parts else np.empty((0, 0)))
    return entry[0]


def pascal_context(folder: Path) -> Path:
    """One image with two people, one with a dog only."""
    from scipy.io import savemat

    root = folder / "PASCALContext"
    shape = (32, 16)
    top, middle, bottom = slice(0, 8), slice(8, 16), slice(16, 32)
    left, right, every = slice(0, 8), slice(8, 16), slice(0, 16)
    images = {
        "2008_000008": [
            _object(15, shape, {"head": (top, left), "torso": (middle, left)}),
            _object(15, shape, {"hair": (top, right), "lfoot": (bottom, right)}),
            _object(12, shape, {"muzzle": (bottom, left)}),
        ],
        "2008_000003": [_object(12, shape, {"muzzle": (top, every)})],
    }
    for name, objects in images.items():
        picture(root / "JPEGImages" / f"{name}.jpg")
        listed = np.empty((1, len(objects)), dtype=objects[0].dtype)
        for number, entry in enumerate(objects):
            listed[0, number] = entry
        annotation = np.empty((1, 1), dtype=[("imname", "O"), ("objects", "O")])
        annotation[0, 0] = (name, listed)
        (root / "human_parts").mkdir(exist_ok=True)
        savemat(root / "human_parts" / f"{name}.mat", {"anno": annotation})
    lines(root / "ImageSets" / "Context" / "train.txt", ["2008_000008"])
    lines(root / "ImageSets" / "Context" / "val.txt", ["2008_000003"])
    return root


def oxford_pets(folder: Path, *, split_file: bool = False) -> Path:
    """A PNG and a GIF under .jpg, as in the published archive."""
    root = folder / "oxford_pets"
    cats = [f"Egyptian_Mau_{n}" for n in (1, 14, 139, 145, 156)]
    dogs = [f"beagle_{n}" for n in (1, 2, 3, 4, 116)]
    for stem in cats + dogs:
        odd = {"Egyptian_Mau_14": "PNG", "Egyptian_Mau_139": "GIF"}.get(stem)
        picture(root / "images" / f"{stem}.jpg", data=odd)
    picture(root / "images" / "beagle_9.jpg")
    trainval = [f"{stem} 1 1 1" for stem in cats] + [f"{stem} 2 2 1" for stem in dogs]
    lines(root / "annotations" / "trainval.txt", ["#Image CLASS-ID SPECIES BREED ID", *trainval])
    lines(root / "annotations" / "test.txt", ["beagle_9 2 2 1"])
    if split_file:
        content = {
            "train": [["Egyptian_Mau_1.jpg", 0, "egyptian_mau"]],
            "val": [["beagle_1.jpg", 1, "beagle"]],
            "test": [["beagle_9.jpg", 1, "beagle"]],
        }
        (root / "split_zhou_OxfordPets.json").write_text(json.dumps(content))
    return root


def flowers102(folder: Path, *, official: bool = True) -> Path:
    from scipy.io import savemat

    root = folder / "oxford_flowers"
    labels = [77, 77, 77, 77, 1, 1, 1, 1, 1, 1]
    pictures(root / "jpg", [f"image_{n:05d}.jpg" for n in range(1, len(labels) + 1)])
    savemat(root / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    names = {"1": "pink primrose", "77": "passion flower"}
    (root / "cat_to_name.json").write_text(json.dumps(names))
    if official:
        content = {"trnid": [[1, 5]], "valid": [[2, 6]], "tstid": [[3, 4, 7, 8, 9, 10]]}
        savemat(root / "setid.mat", {key: np.array(value) for key, value in content.items()})
    return root


WNIDS = {
    "n01440764": "tench",
    "n02423022": "gazelle",
    "n03773504": "missile",
    "n04008634": "missile",
}


def imagenet(folder: Path) -> Path:
    """Two of the classes share a name; the list is in wnid order."""
    root = folder / "imagenet"
    for wnid in WNIDS:
        picture(root / "images" / "train" / wnid / f"{wnid}_1.JPEG")
        picture(root / "images" / "val" / wnid / "ILSVRC2012_val_00000001.JPEG")
    lines(root / "classnames.txt", [f"{wnid} {name}" for wnid, name in WNIDS.items()])
    return root


def imagenet_variant(folder: Path, name: str, tops: Iterable[str], classes: Iterable[str]) -> Path:
    """A variant beside ImageNet, README.txt included; ``classes`` are its folders."""
    root = folder.joinpath(name)
    for place in classes:
        picture(root.joinpath(*tops) / place / "a.jpg")
    root.joinpath(*tops, "README.txt").write_text("classes")
    return root


def own_identities(folder: Path) -> Path:
    for person in ("anna", "bert"):
        pictures(folder / "mine" / person, ["1.jpg", "2.png"])
    return folder / "mine"


def own_splits(folder: Path) -> Path:
    for split, person in (("train", "7"), ("query", "12"), ("gallery", "12")):
        pictures(folder / "mine" / split / person, ["a.jpg"])
    return folder / "mine"
