"""Links: between the files of the project, and between the pages of the site that is built."""

from __future__ import annotations

import html.parser
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.conftest import PROJECT
from tests.docs.pages import FENCE, pages

LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)[^)]*\)")
# What a browser would fetch by itself.
FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}
# Where packages are downloaded from is nothing that a page sends people to.
REGISTRIES = re.compile(r"\b(pypi|pythonhosted|anaconda|npmjs|conda-forge)\b")


def anchors(page: Path) -> set[str]:
    """Names of a page's headings, as GitHub and the site make them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    bare = (re.sub(r"[^\w\- ]", "", title.lower()).strip() for title in titles)
    return {re.sub(r" ", "-", title) for title in bare}


def is_fine_outside(link: str) -> bool:
    parts = urlsplit(link)
    host = parts.hostname or ""
    return parts.scheme == "https" and "." in host and not REGISTRIES.search(host)


def test_an_address_outside_is_told_from_none():
    assert is_fine_outside("https://keepachangelog.com/en/1.1.0/")
    assert not any(map(is_fine_outside, ("http://a.org", "https://nowhere", "https://npmjs.com/x")))


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page: Path):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        if "://" in link:
            assert is_fine_outside(link), link
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if "reference" in target.parts and not target.exists():
            continue  # written when the site is built, where the test below looks
        assert target.exists(), link
        assert target.is_relative_to(PROJECT), link
        if anchor:
            assert anchor in anchors(target), link


@dataclass
class Page(html.parser.HTMLParser):
    """What a built page names, links to and fetches."""

    path: Path
    names: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.names |= {given[name] for name in ("id", "name") if name in given}
        if tag in FETCHED and FETCHED[tag] in given:
            self.fetched.append(given[FETCHED[tag]])
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """The pages of the site, built as ``make docs`` does; a warning of mkdocs is a failure."""
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site").resolve()
    words = ["-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(
        [sys.executable, *words],
        cwd=PROJECT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    # The page for what is not there is shown at any address, so its links begin at the top.
    found = [path for path in folder.rglob("*.html") if path.name != "404.html"]
    return {path: Page(path) for path in found}


@pytest.mark.slow
def test_the_site_fetches_nothing_from_outside(site: dict[Path, Page]):
    for page in site.values():
        assert page.fetched and not [link for link in page.fetched if urlsplit(link).netloc]
        assert all((page.path.parent / link).exists() for link in page.fetched), page.path
    (top,) = {path.parent for path in site if path.name == "index.html"}
    for style in top.rglob("*.css"):
        told = re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')\s]+)", style.read_text())
        assert not [link for link in told if urlsplit(link).netloc], style


@pytest.mark.slow
def test_links_of_the_site_lead_somewhere(site: dict[Path, Page]):
    broken = []
    for page in site.values():
        for link in page.links:
            parts = urlsplit(link)
            if parts.netloc:
                assert is_fine_outside(link), (page.path.name, link)
                continue
            assert parts.scheme == "", link
            target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            there = target.is_file() and (
                not parts.fragment
                or target not in site
                or unquote(parts.fragment) in site[target].names
            )
            if not there and link not in (".", "#"):
                broken.append((page.path.name, link))
    assert broken == []


@pytest.mark.slow
def test_the_reference_is_written_from_the_code(site: dict[Path, Page]):
    pages = {path.name: path.read_text(encoding="utf-8") for path in site}
    assert (
        "--min-similarity" in pages["commands.html"] and 'id="cache-rm"' in pages["commands.html"]
    )
    assert 'id="market1501"' in pages["datasets.html"]
    assert 'id="pi-vl-rn50"' in pages["recipes.html"]
    (python,) = (page for path, page in site.items() if path.parent.name == "reference"
                 and path.name == "python.html")  # fmt: skip
    for name in ("reid_train.load_model", "parsing_models.load_parser",
                 "pipeline.labels.LabelMapReader", "reid_train.evaluation.evaluate"):  # fmt: skip
        assert any(name in known for known in python.names), name
