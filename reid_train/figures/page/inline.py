"""Pictures as part of the page's own text: nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import io
import re
from html import escape

import numpy as np
from markupsafe import Markup

THUMB = 128  # greatest height and width of a small picture, in pixels
_QUALITY = 80
# What charts draw in one ink or on white follows the page into its dark colours.
_FOLLOWS = {
    "#222222": "currentColor",
    "#000000": "currentColor",
    "#dddddd": "var(--line)",
    "#ffffff": "var(--paper)",
    "#08306b": "var(--deep)",  # body parts (``charts.scatter``), too dark for a dark page
}
# Of a file of its own: its style would be the whole page's, its title a tip that hides values.
_LEFT_OUT = (
    "<metadata>.*?</metadata>", "<style.*?</style>", "<title>.*?</title>", "<desc>.*?</desc>",
    "<!--.*?-->",
)  # fmt: skip


def image_uri(image: np.ndarray) -> str:
    """A data URI (WebP) of an image, uint8 (H, W, 3) RGB."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "WEBP", quality=_QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def small(image: np.ndarray, side: int = THUMB) -> np.ndarray:
    """The image shrunk to at most ``side`` pixels high and wide, its proportions kept; smaller ones
    stay as they are.
    """
    from PIL import Image

    height, width = image.shape[:2]
    scale = min(1.0, side / height, side / width)
    if scale == 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def chart(svg: str, name: str, told: str) -> Markup:
    """The text of an SVG as an element of the page.

    name: no other picture's; its ids are set apart by it. told: what it shows, for those who hear
    the page. Ink and paper are the page's, so that it can be read in light and dark.
    """
    body = svg[svg.index("<svg") :]
    opening, _, body = body.partition(">")
    box = re.search(r'viewBox="([^"]*)"', opening)
    for told_elsewhere in _LEFT_OUT:
        body = re.sub(told_elsewhere, "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', body)
    body = body.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    for colour, meaning in _FOLLOWS.items():
        body = re.sub(rf"(fill|stroke): {colour}\b", rf"\1: {meaning}", body)
    body = re.sub(r"\s*\n\s*", " ", body)
    shape = box[1] if box else "0 0 100 100"
    return Markup(
        f'<svg class="chart" viewBox="{shape}" role="img" aria-label="{escape(told)}" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">{body}'
    )
