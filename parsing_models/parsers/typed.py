"""A parser as typed, its options with it; options of maps, whichever parser made them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parsing_models.parsers import hub
from pipeline.terminal.options import FLAG, NUMBER, WHOLE, Option

CENTRE_PERSON = "centre_person"
SHARE = Option("a share from 0 to 1", lambda value: NUMBER.fits(value) and 0 <= value <= 1)
PIXELS = Option("whole pixels from 0 to 32", lambda value: WHOLE.fits(value) and 0 <= value <= 32)
# In the order in which maps are damaged: ``parsing_models.parsers.damage``.
DAMAGE = {"exchanged": SHARE, "missing": SHARE, "borders": PIXELS, "flipped": SHARE}
OF_MAPS = {CENTRE_PERSON: FLAG, **DAMAGE}


def typed(text: str) -> tuple[str, tuple[str, ...]]:
    """``exact:borders=2:flipped=0.1`` -> the parser and its options as ``NAME=VALUE``, so that one
    command can name a parser twice. The name of a Hugging Face model is all of the text.
    """
    if hub.is_hub(text):
        return text, ()
    kind, *settings = text.split(":")
    return kind, tuple(settings)


def amounts(options: Mapping[str, Any]) -> dict[str, float]:
    """The damage among the options of a parser, in order; what is 0 is none."""
    found = {name: options[name] for name in DAMAGE if options.get(name)}
    return {name: float(n) if DAMAGE[name] is SHARE else n for name, n in found.items()}


def damaged_name(kind: str, damage: Mapping[str, float]) -> str:
    """What damaged maps of a parser are called: as one would type it."""
    return ":".join([kind, *(f"{name}={amount:g}" for name, amount in damage.items())])
