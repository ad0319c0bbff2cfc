"""Clothing Co-Parsing's 59 labels, and the garments that they and LIP's both tell apart."""

from __future__ import annotations

import numpy as np

from pipeline.labels.sets import IGNORE, LABEL_SETS, LIP, PARTS, LabelSet, voc_palette

_CCP = (
    "background accessories bag belt blazer blouse bodysuit boots bra bracelet cape cardigan clogs "
    "coat dress earrings flats glasses gloves hair hat heels hoodie intimate jacket jeans jumper "
    "leggings loafers necklace panties pants pumps purse ring romper sandals scarf shirt shoes "
    "shorts skin skirt sneakers socks stockings suit sunglasses sweater sweatshirt swimwear "
    "t-shirt tie tights top vest wallet watch wedges"
)
# Its own list calls class 0 "null".
CCP = LabelSet("ccp", tuple(_CCP.split()), voc_palette(len(_CCP.split())))

# garment -> (LIP's classes, CCP's). CCP has no sides, and one class for all skin. What is worn over
# something else is LIP's coat, leggings and tights are its trousers.
_SHARED = {
    "background": ("background", "background"),
    "hat": ("hat", "hat"),
    "hair": ("hair", "hair"),
    "glove": ("glove", "gloves"),
    "glasses": ("sunglasses", "glasses sunglasses"),
    "upper-clothes": (
        "upper-clothes",
        "blouse hoodie jumper shirt sweater sweatshirt t-shirt top",
    ),
    "dress": ("dress", "dress"),
    "coat": ("coat", "blazer cape cardigan coat jacket vest"),
    "socks": ("socks", "socks"),
    "pants": ("pants", "jeans leggings pants shorts tights"),
    "jumpsuits": ("jumpsuits", "romper"),
    "scarf": ("scarf", "scarf"),
    "skirt": ("skirt", "skirt"),
    "skin": ("face left-arm right-arm left-leg right-leg", "skin"),
    "shoes": (
        "left-shoe right-shoe",
        "boots clogs flats heels loafers pumps sandals shoes sneakers wedges",
    ),
}
# Between CCP and LIP. What CCP draws beyond it (bags, jewellery, belts, ties, underwear, stockings,
# suits, whose jacket and trousers are one class) is LIP's background, garment or skin by case:
# these pixels are not scored.
GARMENTS = LabelSet("garments", tuple(_SHARED), voc_palette(len(_SHARED)))

# What maps may be scored against, and in.
TRUTHS: dict[str, LabelSet] = {**LABEL_SETS, CCP.name: CCP}
SCORED: dict[str, LabelSet] = {**TRUTHS, GARMENTS.name: GARMENTS}


def common_ground(truth: LabelSet, maps: LabelSet) -> tuple[LabelSet, np.ndarray, np.ndarray]:
    """The set two label sets are scored in, and the tables u1 (256,) of either into it.

    The set itself where they are one; ``GARMENTS`` between CCP and LIP; else ``PARTS``, what all
    can tell apart. A table has ``IGNORE`` where a class of the truth says nothing in that set, as
    CCP's skin of head, arms and legs does in ``PARTS``; the maps' classes all say something.
    """
    if truth.names == maps.names:
        return truth, _table(range(len(truth))), _table(range(len(maps)))
    if truth.name != CCP.name:
        return PARTS, _table(truth.map_to(PARTS)), _table(maps.map_to(PARTS))
    garments = _table(_classes(CCP, 1))
    if maps.names == LIP.names:
        return GARMENTS, garments, _table(_classes(LIP, 0))
    parts = _table([_part(words[0].split()) for words in _SHARED.values()])
    return PARTS, parts[garments], _table(maps.map_to(PARTS))


def _classes(label_set: LabelSet, side: int) -> list[int]:
    """The garment of each class of LIP (side 0) or CCP (1), ``IGNORE`` where there is none."""
    garment = {
        name: place for place, words in enumerate(_SHARED.values()) for name in words[side].split()
    }
    return [garment.get(name, IGNORE) for name in label_set.names]


def _part(names: list[str]) -> int:
    """The part that all of these classes of LIP belong to, ``IGNORE`` where they are of several."""
    found = {int(LIP.map_to(PARTS)[LIP.names.index(name)]) for name in names}
    return found.pop() if len(found) == 1 else IGNORE


def _table(classes: range | list[int] | np.ndarray) -> np.ndarray:
    table = np.full(256, IGNORE, np.uint8)
    table[: len(classes)] = classes
    return table
