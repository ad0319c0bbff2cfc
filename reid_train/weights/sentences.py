"""English about generated people, for pre-training: whole captions, a few garments, body parts."""

from __future__ import annotations

import numpy as np

from pipeline.labels.sets import LIP
from pipeline.mannequins import Identity
from pipeline.mannequins import identities as tables
from pipeline.mannequins import scene as scenes

KINDS = ("caption", "garments", "parts")

_SKIRTS = ("skirt", "long skirt")
_BARE = ("shorts", "skirt")


def sentence(who: Identity, place: str, kind: str, rng: np.random.Generator) -> str:
    """One sentence about an image of ``who`` taken before ``place`` (words of its scene).

    ``caption``: the person's full caption. ``garments``: one to four things the person wears, or
    does not: "A photo of a person wearing a red hat, no coat and blue trousers." ``parts``: one to
    three parts by their LIP names: "A photo of a person's black left shoe and brown hair."
    """
    if kind == "caption":
        return who.caption
    if kind == "garments":
        listed = _joined(_some(garments(who, rng), rng, 4))
        return f"A photo of {_with_article(_subject(who, rng))} wearing {listed}."
    named = [
        words if rng.random() < 0.85 else name.replace("-", " ")
        for name, words in parts(who, place).items()
    ]
    return f"A photo of {_with_article(_subject(who, rng))}'s {_joined(_some(named, rng, 3))}."


def garments(who: Identity, rng: np.random.Generator) -> list[str]:
    """What ``who`` wears and carries, in words. A cap is a red cap, a red hat or a hat; now and
    then it is said that there is no hat, coat or bag.
    """
    upper = f"{who.upper_colour} {who.upper_type}"
    if who.upper_pattern != "plain" and rng.random() < 0.5:
        pattern = "a {} logo" if who.upper_pattern == "logo" else f"{{}} {who.upper_pattern}"
        upper += f" with {pattern.format(who.upper_second_colour)}"
    hats = (f"{who.hat_colour} {who.hat}", f"{who.hat_colour} hat", "hat")
    worn = {
        _with_article(upper): True,
        _with_article(f"{who.lower_colour} {who.lower_type}"): who.lower_type in _SKIRTS,
        f"{who.lower_colour} {who.lower_type}": who.lower_type not in ("none", *_SKIRTS),
        _with_article(f"{who.coat_colour} {who.coat}"): who.coat != "none",
        f"{who.shoes_colour} {who.shoes_type}": True,
        f"{who.socks_colour} socks": who.socks != "none",
        _with_article(hats[int(rng.choice(3, p=(0.5, 0.25, 0.25)))]): who.hat != "none",
        "sunglasses": who.sunglasses != "none",
        f"a {who.scarf} scarf": who.scarf != "none",
        f"{who.gloves} gloves": who.gloves != "none",
        _with_article(f"{who.bag_colour} {who.bag}"): who.bag != "none",
        "no hat": who.hat == "none" and rng.random() < 0.5,
        "no coat": who.coat == "none" and rng.random() < 0.5,
        "no bag": who.bag == "none" and rng.random() < 0.5,
    }
    return [words for words, true in worn.items() if true]


def parts(who: Identity, place: str) -> dict[str, str]:
    """LIP name -> words about that part of ``who``, for the parts there are. Bare skin is named by
    its tone, cloth by its colour.
    """
    two = who.upper_type not in ("dress", "jumpsuit")
    bare = who.lower_type in _BARE or who.upper_type == "dress"
    described = {
        "background": place,
        "hat": who.hat_colour,
        "hair": who.hair_colour,
        "glove": who.gloves,
        "sunglasses": "" if who.sunglasses != "none" else "none",
        "upper-clothes": who.upper_colour if two else "none",
        "dress": who.upper_colour if who.upper_type == "dress" else "none",
        "coat": who.coat_colour,
        "socks": who.socks_colour,
        "pants": "none" if who.lower_type in _SKIRTS else who.lower_colour,
        "jumpsuits": who.upper_colour if who.upper_type == "jumpsuit" else "none",
        "scarf": who.scarf,
        "skirt": who.lower_colour if who.lower_type in _SKIRTS else "none",
        "face": who.skin,
        "left-arm": who.skin,
        "right-arm": who.skin,
        "left-leg": who.skin if bare else "none",
        "right-leg": who.skin if bare else "none",
        "left-shoe": who.shoes_colour,
        "right-shoe": who.shoes_colour,
    }
    return {
        name: f"{described[name]} {name.replace('-', ' ')}".strip()
        for name in LIP.names
        if described[name] != "none"
    }


def words() -> list[str]:
    """Texts that hold every word ``sentence`` may use, and the names of all LIP parts."""
    listed = [
        *(tables.COLOURS, tables.HAIR_COLOURS, tables.SKINS, tables.BUILDS, tables.HAIR_STYLES),
        *(tables.UPPER_TYPES, tables.LOWER_TYPES, tables.PATTERNS, tables.COATS, tables.HATS),
        *(tables.BAGS, tables.SHOES, tables.SOCKS, scenes.UPPER, scenes.LOWER),
        [name.replace("-", " ") for name in LIP.names],
        ["A photo of a person's hat, wearing an open coat and no closed one, carrying a bag."],
        ["skin and hair in a bun, gloves, sunglasses, with a scarf, not bare, of a body."],
    ]
    return [text for table in listed for text in table]


def _subject(who: Identity, rng: np.random.Generator) -> str:
    """A person, with the place of learnt prompt words ("A photo of a X X X X person") often filled
    by something true of it.
    """
    chance = rng.random()
    if chance < 0.5:
        return "person"
    if chance < 0.6:
        return f"{who.build} person"
    named = [
        f"{who.upper_colour} {who.upper_type}",
        f"{who.shoes_colour} {who.shoes_type}",
        f"{who.hair_colour} hair",
    ]
    for colour, kind in (
        (who.lower_colour, who.lower_type),
        (who.coat_colour, who.coat),
        (who.hat_colour, who.hat),
        (who.bag_colour, who.bag),
    ):
        if kind != "none":
            named.append(f"{colour} {kind}")
    return f"{named[int(rng.integers(len(named)))]} person"


def _some(listed: list[str], rng: np.random.Generator, most: int) -> list[str]:
    count = min(len(listed), int(rng.integers(1, most, endpoint=True)))
    return [listed[i] for i in rng.permutation(len(listed))[:count]]


def _joined(listed: list[str]) -> str:
    if len(listed) == 1:
        return listed[0]
    return f"{', '.join(listed[:-1])} and {listed[-1]}"


def _with_article(text: str) -> str:
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"
