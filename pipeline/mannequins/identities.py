"""Who a generated person is: the attributes that every one of its images shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np

Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "black": (28, 28, 32),
    "grey": (122, 124, 128),
    "white": (226, 226, 224),
    "beige": (196, 176, 142),
    "brown": (104, 68, 42),
    "red": (178, 34, 38),
    "orange": (222, 112, 34),
    "yellow": (222, 190, 52),
    "green": (44, 122, 62),
    "olive": (96, 98, 54),
    "teal": (30, 128, 132),
    "light blue": (126, 172, 216),
    "blue": (40, 78, 168),
    "navy": (32, 40, 78),
    "purple": (104, 58, 132),
    "pink": (224, 148, 172),
    "maroon": (98, 26, 40),
}
HAIR_COLOURS: dict[str, Rgb] = {
    "black": (26, 22, 22),
    "dark brown": (54, 36, 26),
    "brown": (96, 64, 40),
    "blond": (196, 160, 98),
    "red": (150, 70, 34),
    "grey": (150, 148, 146),
}
SKINS: dict[str, Rgb] = {
    "pale": (236, 202, 182),
    "light": (224, 180, 150),
    "tan": (198, 146, 110),
    "brown": (148, 98, 68),
    "dark": (88, 58, 44),
}
BUILDS = ("slim", "average", "heavy")
HAIR_STYLES = ("shaved", "short", "curly", "bob", "long", "ponytail", "bun")
UPPER_TYPES = ("t-shirt", "shirt", "sweater", "dress", "jumpsuit")
LOWER_TYPES = ("trousers", "wide trousers", "leggings", "shorts", "skirt", "long skirt", "none")
PATTERNS = ("plain", "stripes", "vertical stripes", "checks", "dots", "logo")
COATS = ("none", "jacket", "long coat")
HATS = ("none", "cap", "beanie", "sun hat")
BAGS = ("none", "backpack", "shoulder bag", "handbag")
SHOES = ("sneakers", "shoes", "boots")
SOCKS = ("none", "short", "high")

TWIN_EVERY = 4
"""Every fourth identity (pid divisible by 4: a quarter of all) is a twin of the one before it."""

TWIN_PARTS: dict[str, tuple[str, ...]] = {
    "shoes": ("shoes_type", "shoes_colour"),
    "hat": ("hat", "hat_colour"),
    "bag": ("bag", "bag_colour"),
}
"""What a twin may differ in, and the attributes which belong to that part."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Attributes of one generated person.

    Names are words of the tables above; ``"none"`` means absent and its colour is then
    ``"none"`` too. ``tones`` shifts every garment's named colour by a few levels (RGB, -12..12),
    so that two people in "blue" are not the same blue; ``stature`` and ``hips`` are factors near 1.
    """

    pid: int
    twin_of: int | None
    differs_in: str
    build: str
    stature: float
    hips: float
    skin: str
    hair_colour: str
    hair_style: str
    upper_type: str
    upper_colour: str
    upper_pattern: str
    upper_second_colour: str
    lower_type: str
    lower_colour: str
    coat: str
    coat_colour: str
    coat_open: str
    shoes_type: str
    shoes_colour: str
    socks: str
    socks_colour: str
    hat: str
    hat_colour: str
    sunglasses: str
    scarf: str
    gloves: str
    bag: str
    bag_colour: str
    tones: tuple[int, ...]

    @property
    def caption(self) -> str:
        """One English sentence that names every visible attribute."""
        return caption(self)

    def row(self) -> dict[str, str]:
        """The line of ``identities.csv``: pid, caption, then a column per attribute."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        del values["pid"], values["tones"]
        text = {name: "" if value is None else str(value) for name, value in values.items()}
        return {"pid": str(self.pid), "caption": self.caption, **text}

    def colour(self, part: str) -> Rgb:
        """RGB of ``upper``, ``lower``, ``coat``, ``shoes``, ``hat``, ``bag``, ... as worn."""
        name = getattr(self, part if part in ("scarf", "gloves") else f"{part}_colour")
        table: Mapping[str, Rgb] = HAIR_COLOURS if part == "hair" else COLOURS
        base = table[name]
        first = 3 * _TONED.index(part)
        return (
            _shifted(base[0], self.tones[first]),
            _shifted(base[1], self.tones[first + 1]),
            _shifted(base[2], self.tones[first + 2]),
        )


_TONED = (
    "upper",
    "upper_second",
    "lower",
    "coat",
    "shoes",
    "socks",
    "hat",
    "scarf",
    "gloves",
    "bag",
    "hair",
)


def _shifted(level: int, tone: int) -> int:
    return min(255, max(0, level + tone))


@lru_cache(maxsize=64)  # of a person all images are drawn one after another
def identity(seed: int, pid: int) -> Identity:
    """The person ``pid`` (1, 2, ...) of the population ``seed``; a pure function of both.

    Every ``TWIN_EVERY``-th person copies the one before and differs from it in ONE of
    ``TWIN_PARTS`` only, in turn: such pairs cannot be told apart by the large garments.
    """
    if pid < 1:
        raise ValueError(f"pid is {pid}; expected 1 or more")
    if pid % TWIN_EVERY:
        return _drawn(np.random.default_rng([seed, pid, 1]), pid)
    original = identity(seed, pid - 1)
    part = tuple(TWIN_PARTS)[(pid // TWIN_EVERY - 1) % len(TWIN_PARTS)]
    rng = np.random.default_rng([seed, pid, 2])
    changed = _other_part(rng, original, part)
    return replace(original, pid=pid, twin_of=pid - 1, differs_in=part, **changed)


def _other_part(rng: np.random.Generator, original: Identity, part: str) -> dict[str, str]:
    kind_field, colour_field = TWIN_PARTS[part]
    kinds = {"shoes": SHOES, "hat": HATS, "bag": BAGS}[part]
    old = COLOURS.get(getattr(original, colour_field))
    # Twins must be tellable apart: a colour far from the original's, or the part gone or come.
    far = [
        name
        for name, rgb in COLOURS.items()
        if old is None or sum(abs(a - b) for a, b in zip(rgb, old, strict=True)) > 190
    ]
    if part == "shoes":
        return {kind_field: original.shoes_type, colour_field: _pick(rng, far)}
    if getattr(original, kind_field) == "none":
        return {kind_field: _pick(rng, kinds[1:]), colour_field: _pick(rng, far)}
    if rng.random() < 0.5:
        return {kind_field: "none", colour_field: "none"}
    return {kind_field: getattr(original, kind_field), colour_field: _pick(rng, far)}


def _pick(rng: np.random.Generator, names: tuple[str, ...] | list[str]) -> str:
    return names[int(rng.integers(len(names)))]


def _weighted(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    at = rng.random() * sum(weights.values())
    for name, weight in weights.items():
        at -= weight
        if at < 0:
            return name
    return name


_DARK_CLOTH = {
    "black": 5,
    "navy": 3,
    "grey": 3,
    "blue": 3,
    "beige": 2,
    "brown": 2,
    "white": 1.5,
    "olive": 1,
    "light blue": 1.5,
    "maroon": 0.6,
    "red": 0.4,
    "green": 0.4,
    "purple": 0.4,
    "teal": 0.4,
    "pink": 0.3,
}
_ANY_CLOTH = {name: 2.2 if name in ("black", "white", "grey", "navy") else 1.0 for name in COLOURS}


def _drawn(rng: np.random.Generator, pid: int) -> Identity:
    outfit = _weighted(rng, {"two": 0.83, "dress": 0.11, "jumpsuit": 0.06})
    upper_colour = _weighted(rng, _ANY_CLOTH)
    second = [name for name in COLOURS if name != upper_colour]
    if outfit == "two":
        upper = _weighted(rng, {"t-shirt": 0.36, "shirt": 0.36, "sweater": 0.28})
        lower = _weighted(
            rng,
            {
                "trousers": 0.42,
                "leggings": 0.14,
                "wide trousers": 0.1,
                "shorts": 0.14,
                "skirt": 0.12,
                "long skirt": 0.08,
            },
        )
    else:
        upper, lower = outfit, "none"
    pattern = _weighted(
        rng,
        {
            "plain": 0.56,
            "stripes": 0.12,
            "vertical stripes": 0.05,
            "checks": 0.09,
            "dots": 0.06,
            "logo": 0.12,
        },
    )
    coat = _weighted(rng, {"none": 0.66, "jacket": 0.19, "long coat": 0.15})
    hat = _weighted(rng, {"none": 0.7, "cap": 0.14, "beanie": 0.09, "sun hat": 0.07})
    bag = _weighted(rng, {"none": 0.5, "backpack": 0.22, "shoulder bag": 0.15, "handbag": 0.13})
    bare = lower in ("shorts", "skirt") or upper == "dress"
    socks = _weighted(rng, {"none": 0.45, "short": 0.25, "high": 0.3}) if bare else "none"
    return Identity(
        pid=pid,
        twin_of=None,
        differs_in="",
        build=_weighted(rng, {"slim": 0.4, "average": 0.42, "heavy": 0.18}),
        stature=round(float(rng.uniform(0.94, 1.05)), 3),
        hips=round(float(rng.uniform(0.94, 1.1)), 3),
        skin=_pick(rng, tuple(SKINS)),
        hair_colour=_weighted(
            rng,
            {"black": 5, "dark brown": 3, "brown": 2, "blond": 1.3, "red": 0.7, "grey": 0.8},
        ),
        hair_style=_weighted(
            rng,
            {
                "short": 0.4,
                "long": 0.18,
                "bob": 0.12,
                "ponytail": 0.12,
                "bun": 0.07,
                "curly": 0.06,
                "shaved": 0.05,
            },
        ),
        upper_type=upper,
        upper_colour=upper_colour,
        upper_pattern=pattern,
        upper_second_colour="none" if pattern == "plain" else _pick(rng, second),
        lower_type=lower,
        lower_colour="none" if lower == "none" else _weighted(rng, _DARK_CLOTH),
        coat=coat,
        coat_colour="none" if coat == "none" else _weighted(rng, _DARK_CLOTH),
        coat_open="none" if coat == "none" else _weighted(rng, {"open": 0.7, "closed": 0.3}),
        shoes_type=_weighted(rng, {"sneakers": 0.55, "shoes": 0.27, "boots": 0.18}),
        shoes_colour=_weighted(rng, _ANY_CLOTH | {"black": 6, "white": 5, "brown": 3}),
        socks=socks,
        socks_colour="none" if socks == "none" else _weighted(rng, _ANY_CLOTH),
        hat=hat,
        hat_colour="none" if hat == "none" else _weighted(rng, _ANY_CLOTH),
        sunglasses="yes" if rng.random() < 0.16 else "none",
        scarf=_weighted(rng, _ANY_CLOTH) if rng.random() < 0.15 else "none",
        gloves=_weighted(rng, _ANY_CLOTH) if rng.random() < 0.12 else "none",
        bag=bag,
        bag_colour="none" if bag == "none" else _weighted(rng, _ANY_CLOTH),
        tones=tuple(int(tone) for tone in rng.integers(-12, 13, 3 * len(_TONED))),
    )


def caption(who: Identity) -> str:
    """``A slim person with long brown hair, wearing a red striped t-shirt, ..., carrying ...``."""
    worn = [_article(_upper_words(who))]
    if who.lower_type != "none":
        words = f"{who.lower_colour} {who.lower_type}"
        worn.append(_article(words) if "skirt" in who.lower_type else words)
    if who.coat != "none":
        worn.append(_article(f"{who.coat_open} {who.coat_colour} {who.coat}"))
    if who.socks != "none":
        worn.append(f"{who.socks} {who.socks_colour} socks")
    worn.append(f"{who.shoes_colour} {who.shoes_type}")
    if who.hat != "none":
        worn.append(_article(f"{who.hat_colour} {who.hat}"))
    if who.sunglasses != "none":
        worn.append("sunglasses")
    if who.scarf != "none":
        worn.append(_article(f"{who.scarf} scarf"))
    if who.gloves != "none":
        worn.append(f"{who.gloves} gloves")
    hair = f"{who.hair_style} {who.hair_colour} hair"
    if who.hair_style in ("ponytail", "bun", "bob"):
        hair = f"{who.hair_colour} hair in a {who.hair_style}"
    carried = "" if who.bag == "none" else f", carrying {_article(f'{who.bag_colour} {who.bag}')}"
    return (
        f"{_article(who.build).capitalize()} person with {who.skin} skin and {hair}, "
        f"wearing {', '.join(worn[:-1])} and {worn[-1]}{carried}."
    )


def _upper_words(who: Identity) -> str:
    kind, colour, second = who.upper_type, who.upper_colour, who.upper_second_colour
    if who.upper_pattern == "plain":
        return f"{colour} {kind}"
    if who.upper_pattern == "logo":
        return f"{colour} {kind} with a {second} logo"
    return f"{colour} {kind} with {second} {who.upper_pattern}"


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
