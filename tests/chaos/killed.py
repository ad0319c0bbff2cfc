"""Commands killed at random moments, several times in a row, and then left to finish."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.chaos.children import Story, Strike
from tests.chaos.ground import Ground

MOST = 3  # strikes in a row
ENDED = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@dataclass
class Chain:
    """A command, the strikes that hit it, the step each hit at work (None: between steps), and what
    was wrong afterwards. number and seed give the same strikes again.
    """

    number: int
    seed: int
    command: str
    strikes: list[dict[str, Any]] = field(default_factory=list)
    at_work: list[str | None] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    same: dict[str, int] = field(default_factory=dict)
    alike: dict[str, int] = field(default_factory=dict)


def chains(
    ground: Ground,
    seed: int,
    *,
    signals: Sequence[int] = (signal.SIGKILL,),
    names: Sequence[str] | None = None,
    first: int = 0,
) -> Iterator[Chain]:
    """One after another, without end."""
    number = first
    while True:
        yield chain(ground, seed, number, signals=signals, names=names)
        number += 1


def chain(
    ground: Ground,
    seed: int,
    number: int,
    *,
    signals: Sequence[int] = (signal.SIGKILL,),
    names: Sequence[str] | None = None,
) -> Chain:
    """The ``number``-th of a seed: strike, look, and type the same command again."""
    draw = random.Random(f"{seed}/{number}/{sorted(signals)}")
    among = [c for c in ground.commands.values() if names is None or c.name in names]
    (command,) = draw.choices(among, [c.weight for c in among])
    told, peace = Chain(number, seed, command.name), ground.story(command.name)
    ground.lay(command)
    for turn in range(draw.randint(1, MOST)):
        strike = drawn(draw, peace, turn, told.at_work, signals)
        story = ground.run(command, strike=strike)
        told.faults += faults(story, strike) + ground.believed()
        if not story.struck:
            break  # it was through before
        told.strikes.append(asdict(strike))
        told.at_work.append(story.at_work)
    story = ground.run(command)
    told.faults += faults(story, None) + ground.believed()
    found = ground.compared(command.name)
    told.faults += found.faults
    told.same, told.alike = dict(found.same), dict(found.alike)
    return told


def drawn(
    draw: random.Random,
    peace: Story,
    turn: int,
    before: Sequence[str | None],
    signals: Sequence[int],
) -> Strike:
    """Half of them before a change of a file, half at a moment of a step's work. What an earlier
    strike let through is not done again, so later ones aim at what is left.
    """
    number = draw.choice(list(signals))
    if draw.random() < 0.5 or not peace.steps:
        most = max(1, round(peace.changes * 0.7**turn))
        return Strike(number, change=draw.randint(1, most))
    names = [name for name, _ in peace.steps]
    start = max([names.index(name) for name in before if name in names], default=0)
    name, seconds = draw.choice(peace.steps[start:])
    return Strike(number, step=name, after=draw.uniform(0.0, seconds))


def faults(story: Story, strike: Strike | None) -> list[str]:
    """What is wrong with how a command ended, struck or in peace."""
    struck = strike is not None and story.struck
    expected = {ENDED[signal.Signals(strike.signal)]} if strike is not None and struck else {0}
    if struck and strike is not None and strike.signal != signal.SIGKILL:
        expected.add(0)  # it had come to its end
    found = [f"left a process: {pid}" for pid in story.left]
    if story.code not in expected:
        found.append(f"exit {story.code}, expected {expected}: {story.stderr[-1500:]}")
    if not story.silent:
        found.append(f"a traceback: {story.stderr[-3000:]}")
    if story.code in (129, 130, 143):
        lines = [line for line in story.stderr.splitlines() if line.startswith("Stopped. ")]
        if len(lines) != 1 or not story.stderr.rstrip().endswith(lines[0]):
            found.append(f"not one last line: {story.stderr[-1500:]}")
    return found
