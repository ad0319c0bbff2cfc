"""What generated people are asked for by: plain values, read without drawing anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.mannequins.identities import TWIN_EVERY
from pipeline.terminal.errors import ReidpipeError, nearest

DEFAULTS: dict[str, Any] = {
    "dataset": "mannequins",
    "identities": {"train": 64, "test": 32},
    "cameras": 4,
    "images": 4,
    "size": [256, 128],
    "seed": 0,
    "disjoint_cameras": False,
}
"""Parameters of ``render``: ``images`` are per person and camera, ``size`` is (H, W)."""
FIRST = "first_person"
FIRST_TESTED = "first_test_person"
TRAIN_IMAGES = "train_images"
TRAIN_CAMERA = "first_train_camera"
OCCLUSION = "occlusion"
# Parameters only where they are given: the keys of what is drawn without them stay as they are.
GIVEN = (FIRST, FIRST_TESTED, TRAIN_IMAGES, TRAIN_CAMERA, OCCLUSION)


def checked(params: dict[str, Any]) -> dict[str, Any]:
    """``params`` completed by ``DEFAULTS``; unknown names and impossible values are refused.

    ``first_person``: the number, within the population of the seed, of the first person: other
    people in the same scenes before the same cameras. Only such a set may have nobody to train on.
    ``first_test_person``: that of the first person to be found, whatever the number of people to
    train on; these are then the first who are not among the others. ``train_images``: of each
    person to train on in all, in place of ``images`` before each camera. ``first_train_camera``:
    the first of the cameras to train before, those of the test being the first of the world.
    ``occlusion``: split -> share of its images in which something hides at least a fifth of the
    person, and nothing in the others; before those of a split that is not named something stands by
    chance, in 18 of 100, and may hide less.
    """
    known = [*DEFAULTS, *GIVEN]
    for name in params:
        if name not in known:
            raise ReidpipeError(
                f"found mannequin parameter '{name}'{nearest(name, known)}; "
                f"expected {', '.join(known)}; type one of these"
            )
    full = DEFAULTS | params
    people, first = full["identities"], full.get(FIRST, 1)
    least = {"train": 1 if first == 1 else 0, "test": 1}
    if set(people) != set(least) or any(people[split] < least[split] for split in least):
        raise ReidpipeError(
            f"found identities {people}; expected at least one per split; "
            'type {"train": 64, "test": 32}'
        )
    for name in (FIRST, FIRST_TESTED):
        number = full.get(name, 1)
        if number < 1 or (number - 1) % TWIN_EVERY:
            raise ReidpipeError(
                f"found {name} {number}; expected 1 more than a multiple of {TWIN_EVERY}, so that "
                f"a twin stays with its original; type {name}={1 + max(0, number) // 4 * 4}"
            )
    if len(full["size"]) != 2 or min(full["size"]) < 16:
        raise ReidpipeError(
            f"found size {full['size']}; expected [height, width] in pixels, at least 16 each; "
            "type size=[256, 128]"
        )
    if full["cameras"] < 1 or full["images"] < 2:
        raise ReidpipeError(
            f"found {full['cameras']} cameras and {full['images']} images per person and camera; "
            "expected at least 1 and 2 (one query, one gallery image); type cameras=4 images=4"
        )
    if full.get(TRAIN_IMAGES, 2) < 2:
        raise ReidpipeError(
            f"found {TRAIN_IMAGES} {full[TRAIN_IMAGES]}; expected at least 2 of each person, so "
            f"that there is a pair; type {TRAIN_IMAGES}=2"
        )
    if TRAIN_CAMERA in full and (full[TRAIN_CAMERA] < 0 or full["disjoint_cameras"]):
        raise ReidpipeError(
            f"found {TRAIN_CAMERA} {full[TRAIN_CAMERA]} and disjoint_cameras "
            f"{full['disjoint_cameras']}; expected a number from 0, without disjoint_cameras, "
            f"which moves those of the test; type {TRAIN_CAMERA}={full['cameras']}"
        )
    _check_occlusion(full.get(OCCLUSION, {}))
    return full


def _check_occlusion(shares: Any) -> None:
    splits = ("train", "query", "gallery")
    if not isinstance(shares, Mapping) or not all(
        split in splits and isinstance(share, int | float) and 0 <= share <= 1
        for split, share in shares.items()
    ):
        raise ReidpipeError(
            f"found {OCCLUSION} {shares}; expected shares from 0 to 1 of {', '.join(splits)}; "
            'type {"query": 0.5, "gallery": 0.5}'
        )
