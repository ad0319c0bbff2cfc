"""What became of each image that was parsed: counted, and named where there is something to say."""

from __future__ import annotations

from dataclasses import dataclass, field

from parsing_models.bodies import FINDINGS, MEANING, findings, of_bits
from pipeline.labels.maps import LabelMapReader

FINE, FAILED = "fine", "failed: "


def outcome(found: list[str]) -> str:
    """The outcome of a map with these findings: they joined by commas, or ``fine``."""
    return ",".join(found) or FINE


@dataclass
class Outcomes:
    """stored: maps. named: finding -> keys of images. failed: key -> reason of images without a
    map. Of a map that is fine nothing is held.
    """

    stored: int = 0
    named: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in FINDINGS})
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, told: str) -> None:
        """Note an ``outcome``, or ``failed: `` and why."""
        if told.startswith(FAILED):
            self.failed[key] = told.removeprefix(FAILED)
            return
        self.stored += 1
        if told != FINE:
            for finding in told.split(","):
                self.named[finding].append(key)

    def add_stored(self, maps: LabelMapReader) -> None:
        """Note what lies in a folder: as its maker noted it, or found anew in older shards."""
        for key, note in maps.noted(MEANING):
            if note is None:
                self.add(key, outcome(findings(maps[key][0])))
            elif note:
                self.add(key, outcome(of_bits(note)))
            else:
                self.stored += 1
