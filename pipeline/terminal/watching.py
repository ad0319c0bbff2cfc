"""What a person wants to be told while steps are made. Changes no result and stands in no key."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Watching:
    """verbosity: -1 nothing (``-q``), 0 a line per epoch, 1 a line per step too (``-v``).

    trackers: names of ``reid_train.engine.trackers.TRACKERS`` that get each epoch's figures, beside
    ``log.jsonl`` and ``log.csv``, which are always written. runs: names of the runs that the
    command makes, by which ``reidpipe watch`` finds what is not finished.
    """

    verbosity: int = 0
    trackers: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


QUIET = Watching(verbosity=-1)
