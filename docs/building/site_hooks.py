"""mkdocs calls these while it builds the site: pages that are written from the code or that lie
beside docs/, so that nothing is kept twice.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from generated_pages import commands_page, datasets_page, recipes_page
from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).resolve().parents[2]
# Page of the site -> what writes it.
WRITTEN = {
    "reference/commands.md": commands_page,
    "reference/datasets.md": datasets_page,
    "reference/recipes.md": recipes_page,
}
# Page of the site -> the project's file that it shows.
SHOWN = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)#\s]+)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that docs/ does not hold."""
    for page, write in WRITTEN.items():
        files.append(File.generated(config, page, content=write()))
    for page, source in SHOWN.items():
        text = (PROJECT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Links between files of the project become links between pages."""
    here = page.file.src_uri
    source = SHOWN.get(here, f"docs/{here}")
    if here in WRITTEN:
        return markdown
    return LINK.sub(lambda link: link_from(link[1], source, here), markdown)


def link_from(target: str, source: str, page: str) -> str:
    """The link to ``target``, as it stands in the project's file ``source``, on a page."""
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    pages = {shown: name for name, shown in SHOWN.items()}
    place = pages.get(file, file.removeprefix("docs/"))
    return posixpath.relpath(place, posixpath.dirname(page) or ".")


def on_page_content(html: str, **_: Any) -> str:
    """Docstrings say ``:class:`` before a name, for editors; people read the name alone."""
    return re.sub(r":(?:class|func|meth|data|mod|attr):(?=<code>)", "", html)


def on_post_build(*, config: Any, **_: Any) -> None:
    """The search index as a script: pages that are opened from a disk may not read other files, and
    the theme asks them for this one.
    """
    folder = Path(config.site_dir) / "search"
    index = (folder / "search_index.json").read_text(encoding="utf-8")
    (folder / "search_index.js").write_text(f"var __index = {index}", encoding="utf-8")
