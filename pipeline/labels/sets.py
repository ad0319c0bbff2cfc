"""Label sets of human parsing: names, colours, left/right pairs, ways from one to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.terminal.errors import ReidpipeError

IGNORE = 255  # of a pixel that counts as nothing: outside the image, erased, not annotated


def voc_palette(classes: int) -> tuple[tuple[int, int, int], ...]:
    """The Pascal VOC colours of classes 0..classes-1, RGB 0..255.

    Bit 3k of the class goes to bit 7-k of red, bit 3k+1 to green's, bit 3k+2 to blue's.
    """

    def channel(label: int, offset: int) -> int:
        return sum(((label >> (3 * k + offset)) & 1) << (7 - k) for k in range(3))

    return tuple((channel(c, 0), channel(c, 1), channel(c, 2)) for c in range(classes))


def nearest_resized(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label map or its confidence (h, w) at ``size`` (H, W): for each cell the value of the pixel
    its centre lies in, since labels must not be blended. The plane itself where it has that size.
    """
    if plane.shape == tuple(size):
        return plane
    rows, columns = (
        ((np.arange(target) + 0.5) * source / target).astype(np.int64)
        for source, target in zip(plane.shape, size, strict=True)
    )
    return plane.take(rows, 0).take(columns, 1)


@dataclass(frozen=True)
class LabelSet:
    """What the numbers of a label map mean.

    names: one per class; class 0 is the background. palette: RGB 0..255 per class.
    flip_pairs: (left, right) classes; the sides are the person's own, so mirroring an image
    exchanges them. Raises ValueError for names that are no text, for colours that are not one per
    class, and for pairs of classes that are none.
    """

    name: str
    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.names, str) or not all(isinstance(name, str) for name in self.names):
            raise ValueError(f"found names {self.names!r} of a label set; expected a list of texts")
        # Of JSON, and of many a caller, they are lists, which equal no tuples.
        object.__setattr__(self, "names", tuple(self.names))
        for field in ("palette", "flip_pairs"):
            object.__setattr__(self, field, tuple(map(tuple, getattr(self, field))))
        numbers = [colour for colour in self.palette if _whole(colour, 3, 256)]
        if not 1 <= len(self) <= 256 or not len(numbers) == len(self.palette) == len(self):
            raise ValueError(
                f"found {len(self)} names and {len(numbers)} of {len(self.palette)} colours that "
                f"are RGB in 0..255 in label set '{self.name}'; expected one for each of 1 to 256"
            )
        sides = [side for pair in self.flip_pairs for side in pair]
        pairs = all(_whole(pair, 2, len(self)) for pair in self.flip_pairs)
        if not pairs or len(set(sides)) < len(sides):
            raise ValueError(
                f"found flip pairs {self.flip_pairs} in label set '{self.name}'; expected two "
                f"classes below {len(self)} each, and no class twice"
            )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def flip_order(self) -> np.ndarray:
        """int64 (C,): where each class of a mirrored image comes from; its own inverse."""
        order = np.arange(len(self))
        for left, right in self.flip_pairs:
            order[[left, right]] = right, left
        return order

    @cached_property
    def colours(self) -> np.ndarray:
        """The palette as uint8 (C, 3): ``colours[label_map]`` is an RGB picture."""
        return np.array(self.palette, dtype=np.uint8)

    def mirrored(self, labels: np.ndarray) -> np.ndarray:
        """Label maps u1 (..., W) of the left-right mirrored images. Raises IndexError for a label
        that is not of this set.
        """
        if labels.size and (highest := int(labels.max())) >= len(self):
            raise IndexError(f"label {highest} in a set of {len(self)}")
        table = self.flip_order.astype(np.uint8).tobytes().ljust(256, b"\0")
        # A table of bytes is walked through five times as fast as an array is indexed.
        turned = bytearray(np.ascontiguousarray(labels[..., ::-1])).translate(table)
        return np.frombuffer(turned, np.uint8).reshape(labels.shape)

    def map_to(self, other: LabelSet) -> np.ndarray:
        """uint8 (C,) table: ``table[label_map]`` in the classes of ``other``; every class has one.

        A class that ``other`` lacks goes to the nearest thing it has (``_TO_LIP``, ``_FROM_LIP``,
        ``_DIRECT`` below), else to the background. A limb without a side goes to the left one.
        Raises ``ReidpipeError`` for sets no table joins.
        """
        if self.names == other.names:
            return np.arange(len(self), dtype=np.uint8)
        direct = _DIRECT.get((self.name, other.name))
        if direct is not None:
            return np.array(direct, dtype=np.uint8)
        if self.name not in _TO_LIP or other.name not in _FROM_LIP:
            raise ReidpipeError(
                f"found label maps of '{self.name}' where '{other.name}' is expected; "
                f"sets that can be converted: {', '.join(LABEL_SETS)}; "
                "type reidpipe parse --model with a parser of that label set"
            )
        from_lip = np.array(_FROM_LIP[other.name], dtype=np.uint8)
        return from_lip[np.array(_TO_LIP[self.name], dtype=np.uint8)]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as stored with every label-map file."""
        return {
            "name": self.name,
            "names": list(self.names),
            "palette": [list(colour) for colour in self.palette],
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LabelSet:
        """The inverse of ``to_json``."""
        return cls(
            name=value["name"],
            names=tuple(value["names"]),
            palette=tuple((int(r), int(g), int(b)) for r, g, b in value["palette"]),
            flip_pairs=tuple((int(left), int(right)) for left, right in value["flip_pairs"]),
        )


def _whole(values: tuple[Any, ...], count: int, limit: int) -> bool:
    return len(values) == count and all(
        isinstance(value, int | np.integer) and 0 <= value < limit for value in values
    )


def _set(name: str, names: str, flip_pairs: tuple[tuple[int, int], ...] = ()) -> LabelSet:
    listed = tuple(names.split())
    return LabelSet(name, listed, voc_palette(len(listed)), flip_pairs)


_LIP_NAMES = (
    "background hat hair glove sunglasses upper-clothes dress coat socks pants {10} scarf skirt "
    "face left-arm right-arm left-leg right-leg left-shoe right-shoe"
)
_LIP_PAIRS = ((14, 15), (16, 17), (18, 19))

LIP = _set("lip", _LIP_NAMES.replace("{10}", "jumpsuits"), _LIP_PAIRS)
# CIHP differs from LIP in class 10 alone, which is why the two are so often mixed up.
CIHP = _set("cihp", _LIP_NAMES.replace("{10}", "torso-skin"), _LIP_PAIRS)
ATR = _set(
    "atr",
    "background hat hair sunglasses upper-clothes skirt pants dress belt left-shoe right-shoe "
    "face left-leg right-leg left-arm right-arm bag scarf",
    ((9, 10), (12, 13), (14, 15)),
)
PASCAL = _set("pascal", "background head torso upper-arms lower-arms upper-legs lower-legs")
# What LIP and Pascal can both tell apart: the honest common ground for scoring across them.
PARTS = _set("parts", "background head torso arms legs")

LABEL_SETS: dict[str, LabelSet] = {s.name: s for s in (LIP, CIHP, ATR, PASCAL, PARTS)}

_TO_LIP: dict[str, tuple[int, ...]] = {
    "lip": tuple(range(20)),
    "cihp": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 11, 12, 13, 14, 15, 16, 17, 18, 19),
    "atr": (0, 1, 2, 4, 5, 12, 9, 6, 9, 18, 19, 13, 16, 17, 14, 15, 0, 11),
    "pascal": (0, 13, 5, 14, 14, 9, 9),
    "parts": (0, 13, 5, 14, 9),
}
_FROM_LIP: dict[str, tuple[int, ...]] = {
    "lip": tuple(range(20)),
    "cihp": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 5, 11, 12, 13, 14, 15, 16, 17, 18, 19),
    "atr": (0, 1, 2, 14, 3, 4, 7, 4, 12, 6, 4, 17, 5, 11, 14, 15, 12, 13, 9, 10),
    # Bare arms are mostly forearms, bare legs mostly shins; trousers and skirts start at the hip.
    "pascal": (0, 1, 1, 4, 1, 2, 2, 2, 6, 5, 2, 2, 5, 1, 4, 4, 6, 6, 6, 6),
    "parts": (0, 1, 1, 3, 1, 2, 2, 2, 4, 4, 2, 2, 4, 1, 3, 3, 4, 4, 4, 4),
}
# Where the way over LIP would lose something both ends know: neck skin belongs to Pascal's torso.
_DIRECT: dict[tuple[str, str], tuple[int, ...]] = {
    ("cihp", name): (*_FROM_LIP[name][:10], 2, *_FROM_LIP[name][11:])
    for name in ("pascal", "parts")
}
