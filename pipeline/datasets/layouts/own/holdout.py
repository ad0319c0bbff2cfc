"""People held out for a test, and queries and gallery made of a test's images."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.datasets.layouts.own.found import Found
from pipeline.terminal.errors import ReidpipeError

# Of a person's images without cameras, one in four asks and the others answer.
QUERY_SHARE = 4


@dataclass(frozen=True)
class Holdout:
    """How many people are held out: a share in (0, 1] or a number of people; drawn by a seed.

    A person's place in the draw depends on the seed and the name alone, so that people who come
    later move nobody from training into the test as long as the number of people allows it.
    """

    share: float | None = None
    people: int | None = None
    seed: int = 0

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> Holdout:
        """What ``--holdout`` says: with a decimal point a share, else a number of people.

        Raises ReidpipeError for anything else.
        """
        try:
            if "." in text:
                share = float(text)
                if 0 < share <= 1:
                    return cls(share=share, seed=seed)
            elif (people := int(text)) > 0:
                return cls(people=people, seed=seed)
        except ValueError:
            pass
        raise ReidpipeError(
            f"found --holdout {text}; expected a share of the people with a decimal point, at most "
            "1.0, or a number of people; type --holdout 0.3 or --holdout 20"
        )

    def plain(self) -> dict[str, Any]:
        """JSON values, the inverse of ``from_plain``."""
        return {"share": self.share, "people": self.people, "seed": self.seed}

    @classmethod
    def from_plain(cls, values: dict[str, Any] | None) -> Holdout | None:
        names = ("share", "people", "seed")
        return None if values is None else cls(**{n: values[n] for n in names if n in values})


def hold_out(rows: Sequence[Found], holdout: Holdout) -> tuple[list[Found], str]:
    """Rows whose held-out people went from train into query and gallery, and a line that says so.

    Only people who can be asked for are drawn: seen by two cameras where there are cameras, else
    in two images. Raises ReidpipeError where query or gallery exist, and for too few people.
    """
    taken = sorted({row.split for row in rows} & {"query", "gallery", "test"})
    if taken:
        raise ReidpipeError(
            f"found --holdout and images in {' and '.join(taken)}; expected a test to be drawn "
            "from folders that have none; leave --holdout out"
        )
    train = [row for row in rows if row.split == "train" and row.person]
    cameras = any(row.camera for row in train)
    images: dict[str, list[Found]] = defaultdict(list)
    for row in train:
        images[row.person].append(row)
    able = [name for name, found in images.items() if _queries(found, cameras, holdout.seed)]
    if not images:
        raise ReidpipeError(
            f"found --holdout and {len(rows)} images without identities; expected people to draw "
            "from; leave --holdout out"
        )
    asked = holdout.people
    if holdout.share is not None:
        asked = max(1, int(len(images) * holdout.share + 0.5))
    assert asked is not None
    seen = "seen by two cameras" if cameras else "with two images"
    if asked > len(able) and not (holdout.share == 1 and able):
        raise ReidpipeError(
            f"found {len(able)} people {seen} of {len(images)}; expected at least the {asked} "
            f"that are to be held out; type --holdout {max(1, len(able) // 2)}"
            if able
            else f"found nobody {seen} among {len(images)} people; expected some to hold out for "
            "the test; give more images, or correct the camera numbers"
        )
    drawn = set(sorted(able, key=lambda name: _place(holdout.seed, name))[:asked])
    left = len(images) - len(drawn)
    tested = [
        replace(row, split="test") if row.split == "train" and row.person in drawn else row
        for row in rows
    ]
    line = (
        f"held out {len(drawn)} of {len(images)} people for the test, drawn by seed "
        f"{holdout.seed}; {left} are trained on"
    )
    return query_and_gallery(tested, holdout.seed), line


def query_and_gallery(rows: Sequence[Found], seed: int = 0) -> list[Found]:
    """Rows whose split ``test`` became query and gallery.

    With cameras one image of each person and camera is a query, as in Market-1501, as long as
    another camera's image is left in the gallery for it; without cameras every fourth image of a
    person (at least one) is, as long as one is left. Which, is drawn by seed and path.
    """
    images: dict[str, list[Found]] = defaultdict(list)
    for row in rows:
        if row.split == "test" and row.person:
            images[row.person].append(row)
    cameras = any(row.camera for found in images.values() for row in found)
    queries: set[str] = set()
    for found in images.values():
        queries |= _queries(found, cameras, seed)
    return [
        replace(row, split="query" if row.path in queries else "gallery")
        if row.split == "test"
        else row
        for row in rows
    ]


def _queries(images: Sequence[Found], cameras: bool, seed: int) -> set[str]:
    drawn = sorted(images, key=lambda row: _place(seed, row.path))
    if not cameras:
        return (
            {row.path for row in drawn[: max(1, len(drawn) // QUERY_SHARE)]} if drawn[1:] else set()
        )
    chosen: list[Found] = []
    for camera in sorted({row.camera for row in drawn if row.camera}):
        asked = [*chosen, next(row for row in drawn if row.camera == camera)]
        left = {row.camera for row in drawn if row not in asked and row.camera}
        if all(left - {row.camera} for row in asked):
            chosen = asked
    return {row.path for row in chosen}


def _place(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"holdout {seed} {name}".encode()).digest()
