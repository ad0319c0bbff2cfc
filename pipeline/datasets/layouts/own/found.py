"""What is read of one image before identities and cameras are numbers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Found:
    """One image in one split, all as written.

    split: one of train, val, query, gallery, or test where nothing says which images are queries.
    person: empty where nobody is named. camera: empty where unknown.
    """

    path: str
    split: str
    person: str = ""
    camera: str = ""
    view: int | None = None
    frame: int | None = None
    sequence: str = ""
    extra: dict[str, str] = field(default_factory=dict)


@dataclass
class Tale:
    """What a person is told of the reading.

    layout: how the tree was understood. notes: lines in the order they were found out. left_out:
    reason -> paths. unmatched: images whose names break the rule. has_splits: whether anything said
    which image is in which split. cameras: number -> name, where names were numbered.
    """

    layout: str = ""
    has_splits: bool = False
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    unmatched: list[str] = field(default_factory=list)
    cameras: dict[int, str] = field(default_factory=dict)
