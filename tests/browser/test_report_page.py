"""The report in a real browser: at three widths, light and dark, on paper. Skipped without one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from reid_train.evaluation.work import evaluate
from reid_train.figures.page.views import RunView
from reid_train.figures.page.writing import write_report
from tests.browser.devtools import Browser, find_chromium
from tests.reid_train.conftest import Prepared

pytestmark = pytest.mark.slow

WIDE = "a run with a long name " * 4 + "x" * 90
DEVICES = [(1280, 900, False), (768, 1024, False), (390, 844, True)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium: install one, or name it in REIDPIPE_CHROMIUM")
    with Browser(program, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def page(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    plain, flipped = prepared.job("in-a-browser"), prepared.job("in-a-browser-flipped", flip=True)
    views = []
    for name, job in (("<img src=x onerror=alert(1)>", plain), (WIDE, flipped)):
        evaluate(job)
        views.append(RunView(name, job.folder, prepared.index, prepared.model))
    views += [dataclasses.replace(views[0], name=f"run {n}") for n in range(3)]
    path = tmp_path_factory.mktemp("page") / "report.html"
    return write_report(path, views, "Five runs & <b>markup</b>", date="today")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width, height, mobile", DEVICES, ids=["1280", "768", "390"])
def test_on_a_screen(
    browser: Browser, page: Path, width: int, height: int, mobile: bool, dark: bool
) -> None:
    browser.device(width, height, mobile=mobile, dark=dark)
    browser.open(page.as_uri())
    asked = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    complaints = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled",
                  "Page.javascriptDialogOpening")  # fmt: skip
    assert [event for event in browser.events if event.get("method") in complaints] == []
    across = browser.value("[document.documentElement.scrollWidth, window.innerWidth]")
    assert across[0] <= across[1] == width
    broken = "[...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).length"
    assert browser.value("document.images.length") > 50 and browser.value(broken) == 0
    missing = (
        "[...document.querySelectorAll('main > section')].filter("
        "s => !document.querySelector(`nav a[href='#${s.id}']`)).length"
    )
    assert browser.value(missing) == 0
    paper = browser.value("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")
    # Strips keep their size, and scroll in their own frame where the screen is narrower.
    shown = browser.value("document.querySelector('.strip img').getBoundingClientRect().height")
    assert shown == 128
    inner = browser.value(
        "[...document.querySelectorAll('.strip')].some(s => s.scrollWidth > s.clientWidth)"
    )
    assert inner == (width < 800)


def test_contents_stay_and_follow_the_scroll(browser: Browser, page: Path) -> None:
    browser.device(1280, 900)
    browser.open(page.as_uri())
    browser.value("new Promise(r => { location.hash = '#provenance'; setTimeout(r, 1500); })")
    top = "document.querySelector('nav').getBoundingClientRect().top"
    assert browser.value("window.scrollY > 2000") and browser.value(top) == 0
    if browser.value("CSS.supports('scroll-target-group', 'auto')"):
        current = "document.querySelector('nav a:target-current')?.getAttribute('href')"
        assert browser.value(current) in ("#provenance", "#features")


def test_on_paper(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.device(1280, 900, dark=True)
    browser.open(page.as_uri())
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    paper = browser.value("getComputedStyle(document.documentElement).getPropertyValue('--paper')")
    assert paper == "#ffffff"
    browser.pdf(tmp_path / "page.pdf")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
