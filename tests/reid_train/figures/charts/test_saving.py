"""Every kind of chart in every format, opened by the readers of these formats."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from pipeline.terminal.errors import ReidpipeError
from reid_train.figures.charts import (
    cmc,
    curves,
    det,
    grid,
    histogram,
    ranked,
    roc,
    saving,
    scatter,
)
from reid_train.figures.charts.style import INCHES, entitle
from reid_train.figures.ranked_lists import Match
from tests.reid_train.figures.charts.samples import LOGS, RANKS, RATES, THRESHOLD, picture

MATCHES = [Match(picture(n), 0.9 - n / 10, "right" if n % 2 else "wrong") for n in range(3)]
KINDS: dict[str, Callable[..., Any]] = {
    "cmc": lambda **how: cmc.cmc(RANKS, **how),
    "roc": lambda **how: roc.roc(RATES, **how),
    "det": lambda **how: det.det(RATES, **how),
    "curves": lambda **how: curves.curves(LOGS, **how),
    "histogram": lambda **how: histogram.histogram({"a": THRESHOLD}, **how),
    "identities": lambda **how: scatter.identities(POINTS, [n % 4 for n in range(20)], **how),
    "parts": lambda **how: scatter.parts(
        {"a": (POINTS, [n % 3 for n in range(20)], [n % 4 for n in range(20)])},
        ("Head", "Body", "Shoes"),
        **how,
    ),
    "ranked": lambda **how: ranked.ranked(
        [ranked.RankedList(picture(9), MATCHES, "a run")], **how
    ),
    "grid": lambda **how: grid.grid(
        [[grid.Cell(picture(n)) for n in range(3)]], row_names=["a"], key=[("#f00", "hat")], **how
    ),
}  # fmt: skip
POINTS = np.random.default_rng(0).normal(size=(20, 2))
TOLD = {"title": "A & <b>", "caption": "95 % < all of them & é"}


@pytest.mark.parametrize("kind", KINDS)
def test_svg_is_read_and_has_ink(kind: str):
    text = saving.svg(KINDS[kind](width="one"), **TOLD)
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    assert root.findtext(f"{space}title") == TOLD["title"]
    assert root.findtext(f"{space}desc") == TOLD["caption"]
    assert float(root.get("width", "").removesuffix("pt")) == pytest.approx(72 * INCHES["one"])
    # Letters are outlines: no font is asked for. Nothing is loaded.
    assert not list(root.iter(f"{space}text")) and "font-family" not in text
    links = [value for node in root.iter() for name, value in node.items() if "href" in name]
    assert all(link.startswith(("#", "data:")) for link in links)
    reader = pytest.importorskip("resvg_py", reason="resvg-py is not installed")
    drawn = bytes(reader.svg_to_bytes(svg_string=text, dpi=96, skip_system_fonts=True))
    shades = np.unique(np.asarray(Image.open(io.BytesIO(drawn)).convert("L")))
    assert shades[0] < 100 and shades[-1] == 255


@pytest.mark.parametrize("kind", ["det", "ranked"])
def test_pdf_embeds_whole_fonts(kind: str):
    reader = pytest.importorskip("pypdf", reason="pypdf is not installed")
    content = saving.pdf(KINDS[kind](width="two"), **TOLD)
    assert content.startswith(b"%PDF-")
    file = reader.PdfReader(io.BytesIO(content))
    (page,) = file.pages
    assert float(page.mediabox.width) == pytest.approx(72 * INCHES["two"], abs=0.01)
    assert (file.metadata.title, file.metadata.subject) == (TOLD["title"], TOLD["caption"])
    assert "/CreationDate" not in file.metadata
    fonts = [font.get_object() for font in page["/Resources"].get("/Font", {}).values()]
    assert fonts and page.extract_text().strip()
    for font in fonts:
        inner = font["/DescendantFonts"][0].get_object() if "/DescendantFonts" in font else font
        assert inner["/Subtype"] in ("/TrueType", "/CIDFontType2")
        assert "/FontFile2" in inner["/FontDescriptor"]


def test_png_is_as_wide_as_a_column_at_300_dots_per_inch():
    content = saving.png(KINDS["ranked"](width="one"), **TOLD)
    with Image.open(io.BytesIO(content)) as image:
        assert image.width == round(300 * INCHES["one"])
        assert image.info["Title"] == TOLD["title"]
        assert image.info["Description"] == TOLD["caption"]
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("suffix", saving.FORMATS)
def test_equal_figures_are_equal_bytes(suffix: str, tmp_path):
    kind = "histogram" if suffix == ".svg" else "grid"
    first, second = (
        saving.save(KINDS[kind](width="one"), tmp_path / f"{n}{suffix}", **TOLD) for n in range(2)
    )
    assert first.read_bytes() == second.read_bytes()


def test_a_png_leaves_the_figure_as_it_was():
    figure = KINDS["grid"](width="one")
    before = saving.svg(figure)
    saving.png(figure)
    assert saving.svg(figure) == before


def test_another_suffix_is_told_before_anything_is_drawn(tmp_path):
    for name in ("a.jpg", "a", "svg"):
        with pytest.raises(ReidpipeError, match=r"\.svg, \.pdf or \.png; type --out"):
            saving.check_suffix(tmp_path / name)
    saving.check_suffix(tmp_path / "A.PDF")


@pytest.mark.parametrize("kind", ["cmc", "ranked", "grid"])
def test_a_title_stands_above_everything(kind: str):
    figure = KINDS[kind](width="one")
    before = figure.get_figheight()
    entitle(
        figure, "A title that is too long for one line of a column, and so has two of them " * 2
    )
    saving.png(figure)
    title = figure.get_suptitle() or figure.texts[-1].get_text()
    assert title.startswith("A title") and "\n" in title
    if kind != "cmc":
        assert figure.get_figheight() > before
        tops = [axis.get_position().y1 * figure.get_figheight() for axis in figure.axes]
        assert max(tops) <= before


def test_names_with_dollars_and_underscores_are_shown_as_they_are():
    names = ["_hidden", "$a_b$", "c"]
    figure = cmc.cmc({name: RANKS["a"] for name in names})
    (legend,) = figure.legends
    assert [text.get_text().strip("\u200a") for text in legend.get_texts()] == names
    saving.svg(figure)  # mathematics would be read here
