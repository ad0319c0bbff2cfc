"""What generated people are asked for by: plain values, read without drawing anything."""

from __future__ import annotations

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
FIRST = "first_person"  # of the population, from which people are taken; no parameter where it is 1


def checked(params: dict[str, Any]) -> dict[str, Any]:
    """``params`` completed by ``DEFAULTS``; unknown names and impossible values are refused.

    ``first_person``: the number, within the population of the seed, of the first person: other
    people in the same scenes before the same cameras. Only such a set may have nobody to train on.
    """
    known = [*DEFAULTS, FIRST]
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
    if first < 1 or (first - 1) % TWIN_EVERY:
        raise ReidpipeError(
            f"found {FIRST} {first}; expected 1 more than a multiple of {TWIN_EVERY}, so that a "
            f"twin stays with its original; type {FIRST}={1 + max(0, first) // 4 * 4}"
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
    return full
