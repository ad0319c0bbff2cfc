"""Images that are never shown: those of datasets their publisher has withdrawn.

They may still be read, parsed, trained and measured on; sheets, reports and search pictures hold a
grey card with the key in their place.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from pipeline.datasets.catalogue import defined, list_manifests, load_manifest
from pipeline.datasets.manifest import Manifest

GREY, INK = (200, 200, 200), (60, 60, 60)
_LETTER, _LINE = 6, 11  # pixels a letter and a line of the card take, at most


def allowed(manifest: Manifest) -> bool:
    """Whether its images may be shown: not if they, or those it is built on, are withdrawn."""
    source = load_manifest(manifest.built_on) if manifest.built_on else None
    return manifest.policy != "never" and (source is None or allowed(source))


def pictures_allowed(dataset: str, definition: Mapping[str, Any] | None = None) -> bool:
    """Whether images of ``dataset`` (``id`` or ``id:variant``) may be shown. definition: of one
    that is not in the package, as its index has it.

    Those of a dataset without a manifest may: they are somebody's own.
    """
    manifest = defined(dataset, definition)
    return manifest is None or allowed(manifest)


def withdrawn_names() -> re.Pattern[str]:
    """Matches the file names of withdrawn images, for pictures that come without an index."""
    rules = {
        layout.rule
        for manifest in list_manifests()
        if not allowed(manifest)
        for layout in manifest.layouts
        if layout.rule
    }
    # Groups of the rules have the same names and are not needed.
    plain = sorted(re.sub(r"\(\?P<\w+>", "(?:", rule) for rule in rules)
    return re.compile("|".join(plain) or r"(?!)")


def card(key: str | PurePath, size: tuple[int, int]) -> np.ndarray:
    """A grey picture with ``key`` in place of an image: uint8 (H, W, 3) RGB of ``size`` (H, W)."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = size
    picture = Image.new("RGB", (width, height), GREY)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(9)
    lines = textwrap.wrap(str(key), max(1, width // _LETTER))
    top = max(0, (height - _LINE * len(lines)) // 2)
    for number, line in enumerate(lines):
        pen.text((width // 2, top + _LINE * number), line, fill=INK, font=font, anchor="ma")
    return np.array(picture)
