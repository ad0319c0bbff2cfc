"""What a page says of itself, read without a browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

LOADED = ("src", "href", "srcset", "data", "poster", "action", "formaction", "background")
VOID = {"meta", "link", "img", "br", "hr", "input"}


@dataclass
class Page(HTMLParser):
    """anchors: of the contents; sections: ids of sections; addresses: all that a browser would
    load or follow; untold: pictures without words; tags: of every element; text: outside of style.
    """

    anchors: list[str] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    handlers: list[str] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)
    text: str = ""
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    @classmethod
    def of(cls, text: str) -> Page:
        page = cls()
        page.feed(text)
        page.close()
        assert page._open == [], "every element is closed"
        return page

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        given = {name: value or "" for name, value in attrs}
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [given[name] for name in LOADED if name in given]
        self.addresses += [given["xlink:href"]] if "xlink:href" in given else []
        self.handlers += [name for name in given if name.startswith("on")]
        if tag == "section":
            self.sections.append(given["id"])
        if tag == "a" and "nav" in self._open:
            self.anchors.append(given["href"])
        if (tag == "img" and not given.get("alt")) or (
            tag == "svg" and not (given.get("role") == "img" and given.get("aria-label"))
        ):
            self.untold.append(str(given)[:80])
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, f"{tag} closes another element"

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data
