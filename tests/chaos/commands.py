"""The commands that are struck, small: a dozen people, networks of seconds, several of all that can
be begun: shards of maps, epochs, blocks of a gallery.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PEOPLE: dict[str, Any] = {
    "identities": {"train": 4, "test": 6},
    "cameras": 2,
    "images": 3,
    "size": [64, 32],
}
SHARD, BLOCK = 16, 8
_SETTINGS = (
    "input.size=[32,16]",
    "stages.image.data.ids=2",
    "stages.image.data.images_per_id=2",
)
_SET = tuple(word for setting in _SETTINGS for word in ("--set", setting))
_CPU = ("--device", "cpu")
# Whatever a step or a command loads; imported once.
_LOADED = (
    "cli",
    "pipeline.datasets.work",
    "pipeline.images.work",
    "pipeline.artifacts.epochs",
    "parsing_models.commands",
    "parsing_models.work",
    "reid_train.recipe.work",
    "reid_train.recipe.bodies.run",
    "reid_train.recipe.bodies.train",
    "reid_train.evaluation.work",
    "reid_train.evaluation.commands",
    "reid_train.figures.work",
    "reid_train.figures.commands",
    "reid_train.classify.work",
    "reid_train.classify.commands",
    "reid_train.search.commands",
    "reid_train.search.extension",
    "reid_train.search.drawing",
    "dask.local",
    "dask.multiprocessing",
)


@dataclass(frozen=True)
class Command:
    """Words after ``reidpipe``; ``after``: the command whose workspace it starts from, None for an
    empty one. weight: share of the kills.
    """

    name: str
    words: tuple[str, ...]
    after: str | None
    weight: float = 1.0


def commands(photographs: Path, people: Path, root: Path) -> dict[str, Command]:
    """All of them by name, each after the one it stands on. photographs: a folder of images.
    people: a dataset in folders. root: the workspace, beside which what is not in one is written.
    """
    prompts = ("--set", "stages.0.epochs=6", "--set", "stages.1.epochs=4")
    listed = [
        Command("prepare", ("prepare", "--size", "32x16", "--filter", "bilinear"), None),
        Command("parse", ("parse", *_CPU), "prepare", 2),
        Command(
            "train",
            ("train", "baseline-tiny", *_SET, "--epochs", "6", "--eval-every", "2", "--keep", "3",
             *_CPU),
            "prepare",
            2,
        ),
        Command(
            "run",
            ("run", "pi-vl-tiny", *_SET, *prompts, "--set", "stages.image.epochs=3", *_CPU),
            None,
            3,
        ),
        Command("eval", ("eval", "baseline-tiny", *_CPU), "train"),
        Command("embed", ("embed", "baseline-tiny", str(photographs), *_CPU), "eval"),
        Command(
            "search",
            ("search", "baseline-tiny", str(photographs / "a.jpg"), str(photographs), "--out",
             str(root.parent / "found"), *_CPU),
            "embed",
            0.3,
        ),
        Command("report", ("report", "baseline-tiny", *_CPU), "eval", 0.3),
        Command(
            "classify",
            ("classify", "zero-shot-tiny", "coop-tiny", "--split", "people", "--shots", "1",
             "--set", "training.epochs=6", *_CPU),
            "prepare",
            2,
        ),
        # As people have it, for processes that know nothing of the sizes above.
        Command(
            "folder",
            ("prepare", "folder", "--root", str(people), "--size", "32x16", "--filter",
             "bilinear"),
            None,
            0,
        ),
        Command(
            "own",
            ("train", "baseline-tiny", "--dataset", "folder", *_SET, "--epochs", "40", *_CPU),
            "folder",
            0,
        ),
        Command(
            "several",
            ("run", "baseline-tiny", "--dataset", "folder", *_SET, "--set",
             "stages.image.epochs=20", "--seed", "0-2", *_CPU),
            "folder",
            0,
        ),
    ]  # fmt: skip
    return {command.name: command for command in listed}


def load() -> None:
    """Import everything, once and for all children, and make people and shards small."""
    # One thread: a process that is forked must have no other.
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in _LOADED:
        importlib.import_module(name)
    from parsing_models import work
    from pipeline.labels import shards, writing
    from pipeline.mannequins import DEFAULTS
    from reid_train.search import extension

    DEFAULTS.update(PEOPLE)
    for module in (shards, writing, work):
        vars(module)["SHARD_IMAGES"] = SHARD
    extension.BLOCK = BLOCK
    threads = list(Path("/proc/self/task").iterdir())
    if len(threads) != 1:
        raise RuntimeError(f"found {len(threads)} threads after the imports; expected one")


def photographs(folder: Path, count: int = 20) -> Path:
    """Drawn people as files, ``a.jpg`` and so on: a folder that is in no dataset."""
    from PIL import Image

    from pipeline.mannequins.drawing import draw

    folder.mkdir(parents=True)
    for number in range(count):
        image = draw(9, 1 + number // 4, number % 2, number % 4, (64, 32)).image
        Image.fromarray(image).save(folder / f"{chr(ord('a') + number)}.jpg", quality=90)
    return folder


def people(folder: Path) -> Path:
    """Drawn people in folders with an ``index.csv``: a dataset of one's own."""
    from pipeline.artifacts.steps import Job
    from pipeline.mannequins import DEFAULTS, checked, render

    folder.mkdir(parents=True)
    render(Job(folder=folder, params=checked(DEFAULTS), inputs={}, workspace=folder))
    (folder / "dataset.json").unlink()
    return folder
