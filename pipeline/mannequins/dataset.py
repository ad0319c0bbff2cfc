"""Mannequins: a dataset of generated people with exact label maps, cameras and captions.

The default dataset: no download, no real person. Every image is a pure function of
(seed, pid, camera, index) and, where shares of occlusion are stated, of whether it is among these;
so it can be made alone, in any order, in any process.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipeline.artifacts.atomic import write_csv
from pipeline.artifacts.processes import spread
from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.check import check_rows
from pipeline.datasets.index import ImageRow, Index, write_index
from pipeline.mannequins.drawing import draw
from pipeline.mannequins.identities import TWIN_EVERY, Identity, identity
from pipeline.mannequins.parameters import (
    FIRST,
    FIRST_TESTED,
    OCCLUSION,
    TRAIN_CAMERA,
    TRAIN_IMAGES,
    checked,
)

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Job


@dataclass(frozen=True, slots=True)
class Plan:
    """One image to be made: where it goes and what it shows. occluded: as of ``draw``."""

    split: str
    pid: int
    camera: int
    index: int
    seed: int
    size: tuple[int, int]
    folder: str
    occluded: bool | None = None

    @property
    def stem(self) -> str:
        """``train/0001_c1_00``: camera counted from 1 in names, from 0 in the index."""
        return f"{self.split}/{self.pid:04d}_c{self.camera + 1}_{self.index:02d}"


def render(job: Job) -> dict[str, Any]:
    """Worker of the step "index" for mannequins: draws all images, label maps and tables.

    Writes ``images/<split>/*.jpg`` (quality 95, full chroma), ``labels/<split>/*.png`` (8-bit LIP
    classes), ``index.csv``, ``dataset.json`` and ``identities.csv``. Of each test person and
    camera the first image is a query, the others are gallery. Train and test people are disjoint,
    a twin is always in the split of its original, and with ``disjoint_cameras`` the test cameras
    come after the training ones. ``checked`` says what else may be asked for.

    Raises: ``ReidpipeError`` for unknown parameters and impossible counts.
    """
    params = checked(job.params)
    plans = plan(params, Path(job.folder))
    for split in ("train", "query", "gallery"):
        for kind in ("images", "labels"):
            (Path(job.folder) / kind / split).mkdir(parents=True, exist_ok=True)
    rows = spread(
        make,
        plans,
        workers=job.workers,
        scheduler=job.scheduler,
        running=job.running,
    )
    write_index(Path(job.folder), Index(params["dataset"], Path(job.folder), rows))
    pids = sorted({entry.pid for entry in plans})
    people = [identity(params["seed"], pid) for pid in pids]
    _write_identities(Path(job.folder) / "identities.csv", people)
    return {
        **check_rows(rows, load_manifest(params["dataset"])).plain(),
        "identities": len(pids),
        "twins": sum(who.twin_of is not None for who in people),
    }


def plan(params: dict[str, Any], folder: Path) -> list[Plan]:
    """All images of a dataset in the order of its index: train, query, gallery."""
    size = (int(params["size"][0]), int(params["size"][1]))
    trained, tested = _people(params)
    behind = params["cameras"] if params["disjoint_cameras"] else 0
    shifts = {"train": params.get(TRAIN_CAMERA, 0), "query": behind, "gallery": behind}

    def entries(split: str, pids: Sequence[int], which: Sequence[int]) -> list[Plan]:
        found = [
            Plan(split, pid, camera + shifts[split], index, params["seed"], size, str(folder))
            for pid in pids
            for camera, index in _seen(params, split, pid, which)
        ]
        share = params.get(OCCLUSION, {}).get(split)
        return found if share is None else _occluded(found, share)

    return [
        *entries("train", trained, range(params["images"])),
        *entries("query", tested, range(1)),
        *entries("gallery", tested, range(1, params["images"])),
    ]


def _people(params: dict[str, Any]) -> tuple[list[int], range]:
    """Those to train on and those to be found; a twin shares the side of its original."""
    amount, asked = params["identities"], params.get(FIRST_TESTED)
    first = params.get(FIRST, 1)
    start = first + _groups(amount["train"]) if asked is None else asked
    apart = range(start, start + _groups(amount["test"]))
    trained = islice((pid for pid in count(first) if pid not in apart), amount["train"])
    return list(trained), range(start, start + amount["test"])


def _groups(people: int) -> int:
    """As many people, and the rest of the last one's group of originals and twin."""
    return -(-people // TWIN_EVERY) * TWIN_EVERY


def _seen(
    params: dict[str, Any], split: str, pid: int, which: Sequence[int]
) -> list[tuple[int, int]]:
    """(camera, index) of a person's images, in order. ``TRAIN_IMAGES`` of them go round the cameras
    in an order drawn for the person: two are of two cameras, and the first of many are the few.
    """
    cameras = params["cameras"]
    if split != "train" or TRAIN_IMAGES not in params:
        return [(camera, index) for camera in range(cameras) for index in which]
    order = np.random.default_rng([params["seed"], pid, 13]).permutation(cameras).tolist()
    return sorted((order[n % cameras], n // cameras) for n in range(params[TRAIN_IMAGES]))


def _occluded(entries: list[Plan], share: float) -> list[Plan]:
    """Something hides the person in ``share`` of the images, rounded to whole ones, and no other.
    Each has a number drawn for it, and the lowest are taken: of a larger share these and more.
    """
    drawn = [
        np.random.default_rng([at.seed, at.pid, at.camera, at.index, 9]).random() for at in entries
    ]
    taken = set(np.argsort(drawn, kind="stable")[: round(share * len(entries))].tolist())
    return [replace(at, occluded=place in taken) for place, at in enumerate(entries)]


def make(plans: list[Plan]) -> list[ImageRow]:
    return [_made(entry) for entry in plans]


def _made(entry: Plan) -> ImageRow:
    figure = draw(
        entry.seed, entry.pid, entry.camera, entry.index, entry.size, occluded=entry.occluded
    )
    path, label_path = f"images/{entry.stem}.jpg", f"labels/{entry.stem}.png"
    buffer = io.BytesIO()
    Image.fromarray(figure.image).save(buffer, "JPEG", quality=95, subsampling=0)
    content = buffer.getvalue()
    # No rename: the folder is the step's own and counts only once artifact.json is written.
    (Path(entry.folder) / path).write_bytes(content)
    Image.fromarray(figure.label).save(Path(entry.folder) / label_path, compress_level=4)
    return ImageRow(
        key=path,
        path=path,
        split=entry.split,
        pid=entry.pid,
        camid=entry.camera,
        view=figure.view,
        sequence="",
        frame=entry.index,
        width=entry.size[1],
        height=entry.size[0],
        digest=hashlib.sha256(content).hexdigest(),
        extra={"label_path": label_path, "caption": figure.caption},
    )


def _write_identities(path: Path, people: Sequence[Identity]) -> None:
    table = [who.row() for who in people]
    write_csv(path, [list(table[0]), *(list(person.values()) for person in table)])
