"""Label maps made worse by stated amounts, to see what depends on how good they are.

Each kind of damage draws from a generator of its own name and the image's key: a map is damaged
alike in every run, and a larger amount damages what a smaller one does and more. Left and right
come first, then parts, then borders, then single pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import floor

import numpy as np

from parsing_models.parsers.typed import DAMAGE
from pipeline.labels.sets import LabelSet
from pipeline.terminal.errors import ReidpipeError


def damaged(
    label: np.ndarray, key: str, amounts: Mapping[str, float], label_set: LabelSet
) -> np.ndarray:
    """A label map u1 (H, W) of the image ``key`` with each of ``DAMAGE`` that has an amount.

    Raises ``ReidpipeError`` for sides exchanged in a label set that knows none.
    """
    for name in DAMAGE:
        if amounts.get(name):
            rng = np.random.default_rng([*f"damage/{name}/{key}".encode()])
            label = _KINDS[name](label, amounts[name], rng, label_set)
    return label


def exchanged(
    label: np.ndarray, share: float, rng: np.random.Generator, label_set: LabelSet
) -> np.ndarray:
    """Left and right of the person exchanged, in this share of all images."""
    if not label_set.flip_pairs:
        raise ReidpipeError(
            f"found exchanged={share:g} for label maps of '{label_set.name}', which tells no left "
            "from right; expected maps with sides, as of lip; leave it out"
        )
    if rng.random() >= share:
        return label
    return label_set.flip_order.astype(np.uint8)[label]


def missing(label: np.ndarray, share: float, rng: np.random.Generator, _: LabelSet) -> np.ndarray:
    """This share of the classes that the map shows become background: of n classes as many as
    share * n says, and one more as often as its fraction says.
    """
    shown = np.flatnonzero(np.bincount(label.ravel(), minlength=1)[1:]) + 1
    lost = rng.permutation(shown)[: floor(share * len(shown) + rng.random())]
    return np.where(np.isin(label, lost), 0, label).astype(np.uint8)


def borders(
    label: np.ndarray, pixels: float, rng: np.random.Generator, label_set: LabelSet
) -> np.ndarray:
    """Every border between two classes moves by so many pixels, into that of the two that comes
    later in an order drawn for the image: each pixel takes the first class of those at most so far
    away, rows and columns alike.
    """
    from scipy.ndimage import maximum_filter

    order = rng.permutation(len(label_set)).astype(np.uint8)  # a class's place; the highest wins
    places: np.ndarray = maximum_filter(order[label], size=2 * int(pixels) + 1, mode="nearest")
    return np.argsort(order).astype(np.uint8)[places]


def flipped(
    label: np.ndarray, share: float, rng: np.random.Generator, label_set: LabelSet
) -> np.ndarray:
    """This share of the pixels, rounded to whole ones, get another class of the set, each alike."""
    places = rng.permutation(label.size)[: round(share * label.size)]
    steps = rng.integers(1, len(label_set), label.size, dtype=np.int64)[: len(places)]
    flat = label.ravel().copy()
    flat[places] = (flat[places] + steps) % len(label_set)
    return flat.reshape(label.shape)


_Kind = Callable[[np.ndarray, float, np.random.Generator, LabelSet], np.ndarray]
_KINDS: dict[str, _Kind] = {
    "exchanged": exchanged,
    "missing": missing,
    "borders": borders,
    "flipped": flipped,
}
