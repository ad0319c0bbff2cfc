"""Naming rules: a person's regular expression, and the likely one for names that have none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.datasets.layouts.patience import EXAMPLE, expression
from pipeline.terminal.errors import ReidpipeError, nearest

GROUPS = frozenset({"pid", "camid", "view", "frame", "seq"})
NO_RULE = "none"

# From the most telling scheme to the least; the first that fits is proposed.
_SCHEMES = (
    r"(?P<pid>-?\d+)_c(?P<camid>\d+)s(?P<seq>\d+)_(?P<frame>\d+)",  # Market-1501
    r"(?P<pid>\d+)_c(?P<camid>\d+)_f?(?P<frame>\d+)",  # DukeMTMC-reID, VeRi
    r"(?P<pid>\d+)_\d+_c(?P<camid>\d+)",  # LTCC: person, clothes, camera
    r"(?P<pid>\d+)_\d+_(?P<camid>\d+)_\d+",  # MSMT17: person, number, camera
    r"(?P<pid>[^_-]+)[_-][cC](?:am(?:era)?)?[_-]?(?P<camid>\d+)",
    r"[cC](?:am(?:era)?)?[_-]?(?P<camid>\d+)[_-](?P<pid>[^_-]+)",
    r"(?P<pid>\d+)_(?P<camid>\d{1,2})_(?P<frame>\d+)\.",
    r"(?P<pid>[^_]+)_",
    r"(?P<pid>[^-]+)-",
    r"(?P<pid>\D*\d+)\D",
)
_LOOKED_AT = 5000
_MOST_CAMERAS = 64


@dataclass(frozen=True)
class Rule:
    """A compiled naming rule.

    It is matched from the start of the file's name, or, when it has a ``/``, of the path below the
    split folder. ``says_pid``: whether it gives the identity (else the folders do).
    """

    pattern: re.Pattern[str]
    on_path: bool
    says_pid: bool

    def read(self, path: str) -> str:
        """What of a path it is matched with."""
        return path if self.on_path else path.rsplit("/", 1)[-1]

    def fields(self, path: str) -> dict[str, str] | None:
        """The groups that took part, by name; None for a name that breaks the rule.

        path: posix, below the split folder.
        """
        match = self.pattern.match(self.read(path))
        if match is None or (self.says_pid and not match["pid"]):
            return None
        return {name: text for name, text in match.groupdict().items() if text is not None}


def compiled(rule: str | None) -> Rule | None:
    """The rule a person typed; None for none (``none`` says that names tell nothing).

    Raises ReidpipeError for what is no regular expression, has an unknown group, or neither a
    group ``pid`` nor ``camid``.
    """
    if rule is None or rule == NO_RULE:
        return None
    pattern = expression(rule)
    groups = set(pattern.groupindex)
    odd = sorted(groups - GROUPS)
    if odd or not groups & {"pid", "camid"}:
        found = f"group '{odd[0]}'{nearest(odd[0], GROUPS)}" if odd else "no group 'pid'"
        raise ReidpipeError(
            f"found {found} in the naming rule '{rule}'; expected a group pid (or camid, where "
            f"folders are people) and any of camid, view, frame, seq; type for example {EXAMPLE}"
        )
    return Rule(pattern, "/" in rule, "pid" in groups)


def likely(names: Sequence[str]) -> str | None:
    """The first known scheme that all names follow and that makes people of them, or None.

    A scheme makes people when there are several, they have two images each on average, and its
    cameras are few: a counter in a name is no person.
    """
    looked_at = names[:: max(1, len(names) // _LOOKED_AT)]
    for scheme in _SCHEMES:
        pattern = re.compile(scheme)
        matches = [pattern.match(name) for name in looked_at]
        groups = [match.groupdict() for match in matches if match is not None]
        if len(groups) < len(looked_at):
            continue
        people = {found["pid"] for found in groups}
        cameras = {found.get("camid") for found in groups}
        many = len(looked_at) >= 2 * len(people) and len(people) > 1
        # A camera in the name is a surer sign than a first word.
        if (many or (len(people) > 1 and len(cameras) > 1)) and len(cameras) <= _MOST_CAMERAS:
            return scheme
    return None
