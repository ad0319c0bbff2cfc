"""Many processes on one workspace, doing the same and overlapping things; some of them killed."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.children import Child, Story, Strike
from tests.chaos.equality import compare
from tests.chaos.ground import Ground, alone
from tests.chaos.killed import faults


@dataclass
class Crowd:
    """Commands started together. killed: how many of them; those that were are typed again."""

    commands: list[str]
    killed: int = 0
    at_work: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def crowd(
    ground: Ground, base: str | None, names: Sequence[str], *, kills: int, draw: random.Random
) -> Crowd:
    """``names`` side by side in what ``base`` leaves; the end is compared with what they leave one
    after another.
    """
    told = Crowd(list(names))
    expected = one_after_another(ground, base, list(dict.fromkeys(names)))
    ground.lay_after(base)
    longest = max(ground.story(name).seconds for name in names)
    struck = set(draw.sample(range(len(names)), kills))
    running: dict[int, Child] = {}
    for number, name in enumerate(names):
        strike = None
        if number in struck:
            moment = draw.uniform(0.05, longest * len(names) / 2)
            strike = Strike(signal.SIGKILL, after=moment)
        words = ground.commands[name].words
        running[number] = Child(words, ground.root, strike, alone)
    ended: dict[int, Story] = {}
    while running:
        for number, child in list(running.items()):
            story = child.poll()
            if story is not None:
                ended[number] = story
                told.faults += faults(story, child.strike)
                told.killed += story.struck and story.code == -signal.SIGKILL
                told.at_work += [story.at_work] if story.at_work else []
                del running[number]
        time.sleep(0.005)
    told.faults += ground.believed()
    for number, story in ended.items():
        if story.code:
            again = ground.run(ground.commands[names[number]])
            told.faults += faults(again, None)
    told.faults += compare(ground.place, expected).faults
    return told


def one_after_another(ground: Ground, base: str | None, names: Sequence[str]) -> Path:
    """The place that ``names`` leave when each waits for the one before."""
    kept = ground.folder / "left" / "+".join([base or "", *sorted(names)])
    if not kept.is_dir():
        for name in names:
            ground.left_by(name)
        ground.lay_after(base)
        for name in names:
            story = ground.run(ground.commands[name])
            if story.code:
                raise RuntimeError(f"{name} in peace: {story.stderr[-2000:]}")
        ground.place.rename(kept)
    return kept
