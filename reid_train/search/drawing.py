"""The contact sheet of a search: queries on the left, their ranked matches beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.atomic import replacing
from pipeline.datasets.withheld import GREY, withdrawn_names
from pipeline.images.originals import DamagedImage
from pipeline.images.pixels import open_image
from pipeline.terminal.printable import one_line
from reid_train.figures.ranked_lists import BACKGROUND, INK, VERDICTS, Colour
from reid_train.search.matches import Match, Query

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

WIDTH, HEIGHT = 112, 224  # of a picture
BORDER, GAP, MARGIN = 4, 10, 16
LINE, NAME_LINES = 15, 3
CELL = WIDTH + 2 * BORDER
FIRST = MARGIN + CELL + 3 * GAP  # left edge of the matches
COLUMNS = 10  # of matches; more stand in further lines
LINES = 6  # of matches on a page, at least one query
PALE: Colour = (140, 140, 140)
PAPER: Colour = (242, 242, 242)


def draw_sheets(
    picture: Path,
    found: Sequence[tuple[Query, Sequence[Match]]],
    *,
    heading: Sequence[str],
    pages: int,
) -> tuple[list[Path], int]:
    """Write the pages ``NAME.png``, ``NAME-2.png``, ... of a search; those files, and how many
    queries are on them, which may be fewer than all after ``pages`` of them.

    heading: lines at the top of every page; a legend follows. Every image keeps its proportions;
    below it stand a sign (+ right, x wrong), its similarity and its name. Frames are green and red
    where people are known, grey otherwise; what does not reach the threshold has a pale similarity.
    A card stands for an image of a withdrawn dataset and for a file that is gone or damaged, and
    says so.
    """
    files: list[Path] = []
    shown, all_pages = 0, list(_pages(found))
    for number, part in enumerate(all_pages[:pages], 1):
        page = f"page {number} of {len(all_pages)}; " if len(all_pages) > 1 else ""
        sheet = _page(part, [*heading, page + _legend(found)])
        file = picture if number == 1 else picture.with_stem(f"{picture.stem}-{number}")
        with replacing(file) as temporary:
            sheet.save(temporary, "PNG")
        files.append(file)
        shown += len(part)
    return files, shown


def _pages(
    found: Sequence[tuple[Query, Sequence[Match]]],
) -> Iterator[list[tuple[Query, Sequence[Match]]]]:
    part: list[tuple[Query, Sequence[Match]]] = []
    for query, matches in found:
        if part and sum(_lines(m) for _, m in part) + _lines(matches) > LINES:
            yield part
            part = []
        part.append((query, matches))
    yield part


def _lines(matches: Sequence[Match]) -> int:
    return max(1, -(-len(matches) // COLUMNS))


def _legend(found: Sequence[tuple[Query, Sequence[Match]]]) -> str:
    matches = [match for _, matches in found for match in matches]
    words = ["best matches from left to right"]
    if any(match.verdict for match in matches):
        words.append("green +: the same person, red x: another")
    if any(match.passes is False for match in matches):
        words.append("pale: below the threshold")
    return "; ".join(words)


def _page(part: Sequence[tuple[Query, Sequence[Match]]], heading: Sequence[str]) -> Image:
    from PIL import Image, ImageDraw

    columns = max(3, *(min(COLUMNS, len(matches)) for _, matches in part))
    width = FIRST + columns * (CELL + GAP) - GAP + MARGIN
    head = [line for text in heading for line in _wrapped(text, width - 2 * MARGIN, _font(12), 4)]
    top = MARGIN + len(head) * (LINE + 2) + GAP
    height = top + sum(sum(_heights(query, matches)) + GAP for query, matches in part) + MARGIN
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for number, line in enumerate(head):
        pen.text((MARGIN, MARGIN + number * (LINE + 2)), line, fill=INK, font=_font(12))
    for query, matches in part:
        pen.line((MARGIN, top, width - MARGIN, top), fill=GREY)
        top += GAP
        _place(sheet, (MARGIN, top), query.path, INK, ("query", INK), _title(query))
        if not matches:
            pen.text((FIRST, top + HEIGHT // 2), "no match", fill=PALE, font=_font(13))
        for line, high in enumerate(_heights(query, matches)):
            for column, match in enumerate(matches[line * COLUMNS : (line + 1) * COLUMNS]):
                sign, colour = VERDICTS[match.verdict or "unknown"]
                words = f"{sign} {match.similarity:.3f}".strip()
                beside = " same camera" if match.same_camera else ""
                ink = PALE if match.passes is False else colour if match.verdict else INK
                corner = (FIRST + column * (CELL + GAP), top)
                _place(sheet, corner, Path(match.image), colour, (words, ink), match.name, beside)
            top += high
    return sheet


def _heights(query: Query, matches: Sequence[Match]) -> list[int]:
    """Of every line of matches, as its longest name takes."""
    heights = []
    for line in range(_lines(matches)):
        names = [match.name for match in matches[line * COLUMNS : (line + 1) * COLUMNS]]
        names += [_title(query)] if line == 0 else []
        most = max(len(_wrapped(name, CELL, _font(10), NAME_LINES)) for name in names)
        heights.append(HEIGHT + 2 * BORDER + (1 + most) * LINE + 8 + GAP)
    return heights


def _title(query: Query) -> str:
    who = "" if query.person is None else f"{query.person}: "
    return f"{who}{query.path.name}"


def _place(
    sheet: Image,
    corner: tuple[int, int],
    file: Path,
    frame: Colour,
    caption: tuple[str, Colour],
    name: str,
    beside: str = "",
) -> None:
    """One picture in its frame, its caption with what stands beside it, and its name."""
    from PIL import ImageDraw

    pen, (left, top) = ImageDraw.Draw(sheet), corner
    outer = (left, top, left + CELL - 1, top + HEIGHT + 2 * BORDER - 1)
    pen.rectangle(outer, fill=PAPER, outline=frame, width=BORDER)
    picture = _picture(file)
    if isinstance(picture, str):
        inner = (left + BORDER, top + BORDER, outer[2] - BORDER, outer[3] - BORDER)
        pen.rectangle(inner, fill=GREY)
        for number, line in enumerate(_wrapped(picture, WIDTH - 8, _font(12), 6)):
            place = (left + CELL // 2, top + HEIGHT // 3 + number * LINE)
            pen.text(place, line, fill=INK, font=_font(12), anchor="ma")
    else:
        across, down = (WIDTH - picture.width) // 2, (HEIGHT - picture.height) // 2
        sheet.paste(picture, (left + BORDER + across, top + BORDER + down))
    words, ink = caption
    below = outer[3] + 4
    pen.text((left, below), words, fill=ink, font=_font(12, bold=True))
    after = left + _font(12, bold=True).getlength(words)
    pen.text((after, below + 2), beside, fill=PALE, font=_font(9))
    for number, line in enumerate(_wrapped(name, CELL, _font(10), NAME_LINES), 1):
        pen.text((left, below + number * LINE), line, fill=INK, font=_font(10))


def _picture(file: Path) -> Image | str:
    """The image in the size of a picture, or why it cannot be shown."""
    from PIL import Image

    if _withdrawn().match(file.name):
        return "not shown: of a withdrawn dataset"
    if not file.is_file():
        return "the image is gone"
    try:
        image = open_image(file)
    except DamagedImage:
        return "the image is damaged"
    share = min(WIDTH / image.width, HEIGHT / image.height)
    size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    return image.resize(size, Image.Resampling.BICUBIC)


@cache
def _withdrawn() -> Any:
    return withdrawn_names()


@cache
def _font(size: int, *, bold: bool = False) -> FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: names have more letters than Pillow's own font."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)


def _wrapped(text: str, width: int, font: FreeTypeFont, most: int) -> list[str]:
    """``text`` in at most ``most`` lines of ``width`` pixels, broken after signs that part words;
    of a longer one the beginning and the end.
    """
    text = one_line(text)
    lines = _broken(text, width, font)
    if len(lines) <= most:
        return lines
    # What tells names apart stands at their ends: most of the room is for that.
    keep = len(text)
    while len(lines) > most and keep > 2:
        keep -= max(1, (len(lines) - most) * keep // (4 * len(lines)))
        start = keep // 3
        lines = _broken(f"{text[:start]}…{text[len(text) - (keep - start) :]}", width, font)
    return lines[:most]


def _broken(text: str, width: int, font: FreeTypeFont) -> list[str]:
    lines, line, cut = [], "", 0
    for letter in text:
        if line and font.getlength(line + letter) > width:
            # back to the last sign that parts words, unless that leaves the line half empty
            end = cut if cut > len(line) // 2 else len(line)
            lines.append(line[:end].rstrip())
            line = line[end:].lstrip()
            cut = 0
        line += letter
        if letter in " /_-.,;":
            cut = len(line)
    return [*lines, line] if line or not lines else lines
