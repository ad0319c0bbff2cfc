"""A section of the page: what its template is told. Contents and page are made of the same list."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Section:
    """name: its anchor on the page and the name of its template. title: in the contents and above
    it. content: the template's variables, strings as data: everything is escaped.
    """

    name: str
    title: str
    content: dict[str, Any] = field(default_factory=dict)
