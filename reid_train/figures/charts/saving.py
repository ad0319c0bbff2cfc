"""Figures as files: SVG, PDF or PNG, whole or absent; equal figures give equal bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from pipeline.artifacts import atomic
from pipeline.terminal.errors import ReidpipeError
from reid_train.figures.charts.style import styled

RESOLUTION = 300  # dots per inch of a PNG, and of a picture inside an SVG or PDF
MAKER = "reidpipe"


def svg(figure: Any, *, title: str = "", caption: str = "") -> str:
    """The figure as SVG text, letters as outlines. title and caption become ``title`` and ``desc``,
    which readers for the blind speak.
    """
    stream = io.BytesIO()
    metadata = {"Date": None, "Creator": MAKER, **_told(Title=title)}
    with styled():
        figure.savefig(stream, format="svg", dpi=RESOLUTION, metadata=metadata)
    text = stream.getvalue().decode()
    if caption:
        opening = text.index(">", text.index("<svg ")) + 1
        if title:
            opening = text.index("</title>", opening) + len("</title>")
        text = f"{text[:opening]}\n <desc>{escape(_printable(caption))}</desc>{text[opening:]}"
    return text


def pdf(figure: Any, *, title: str = "", caption: str = "") -> bytes:
    """The figure as PDF with its fonts embedded (type 42: TrueType); the caption is its subject."""
    stream = io.BytesIO()
    metadata = {"Creator": MAKER, "CreationDate": None, **_told(Title=title, Subject=caption)}
    with styled():
        figure.savefig(stream, format="pdf", dpi=RESOLUTION, metadata=metadata)
    return stream.getvalue()


def png(figure: Any, *, title: str = "", caption: str = "") -> bytes:
    """The figure as PNG of 300 dots per inch; title and caption are its text entries."""
    stream = io.BytesIO()
    metadata = {"Software": MAKER, **_told(Title=title, Description=caption)}
    with styled(), _smooth(figure):
        figure.savefig(stream, format="png", dpi=RESOLUTION, metadata=metadata)
    return stream.getvalue()


@contextmanager
def _smooth(figure: Any) -> Iterator[None]:
    """Pictures that SVG and PDF hold as they are must be resized for a PNG, and not in blocks."""
    pictures = [picture for axis in figure.axes for picture in axis.images]
    before = [picture.get_interpolation() for picture in pictures]
    for picture in pictures:
        picture.set_interpolation("bicubic")
    try:
        yield
    finally:
        for picture, kind in zip(pictures, before, strict=True):
            picture.set_interpolation(kind)


def _svg_bytes(figure: Any, **told: str) -> bytes:
    return svg(figure, **told).encode()


FORMATS: dict[str, Callable[..., bytes]] = {".svg": _svg_bytes, ".pdf": pdf, ".png": png}


def check_suffix(path: Path) -> None:
    """Raise ReidpipeError, before anything is drawn, unless ``path`` ends as a figure does."""
    if path.suffix.lower() not in FORMATS:
        raise ReidpipeError(
            f"found --out {path}; expected a name that ends with .svg, .pdf or .png; "
            f"type --out {path.with_suffix('.svg') if path.name else 'figure.svg'}"
        )


def save(figure: Any, path: Path | str, *, title: str = "", caption: str = "") -> Path:
    """Write ``figure`` as its suffix says. Raises ReidpipeError for another suffix."""
    path = Path(path)
    check_suffix(path)
    content = FORMATS[path.suffix.lower()](figure, title=title, caption=caption)
    with atomic.replacing(path) as temporary:
        temporary.write_bytes(content)
    return path


def _told(**texts: str) -> dict[str, str]:
    return {name: _printable(text) for name, text in texts.items() if text}


def _printable(text: str) -> str:
    """Without the control characters that XML has no way to write."""
    return "".join(letter for letter in text if letter in "\t\n" or ord(letter) >= 32)
