"""Few images per class, and halves of the classes: what prompt learners are trained and tested on.

The protocols are CoOp's and CoCoOp's (Zhou et al. 2022). A row is an image, its label and the name
of its class, as in their ``split_zhou_*.json``. The draws are theirs too for equal rows: one
``random.Random(seed)``, which Python keeps the same between versions, goes through the classes in
the order in which they first appear.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.artifacts.atomic import write_json
from pipeline.artifacts.checked import read_json
from pipeline.terminal.errors import ReidpipeError

VALIDATION_SHOTS = 4  # at most, whatever the number for training


class Row(NamedTuple):
    """path: of the image, relative to its data set; label: 0 to C-1; classname: its words."""

    path: str
    label: int
    classname: str


@dataclass(frozen=True)
class Draw:
    """``shots`` training images per class, at most four for validation, drawn with ``seed``."""

    shots: int
    seed: int
    train: tuple[Row, ...]
    val: tuple[Row, ...] = ()

    def write(self, path: Path) -> None:
        """As JSON; the authors keep a pickle."""
        rows = {"train": [list(row) for row in self.train], "val": [list(row) for row in self.val]}
        write_json(path, {"shots": self.shots, "seed": self.seed, **rows})

    @classmethod
    def read(cls, path: Path) -> Draw:
        """The inverse of ``write``. Raises ReidpipeError for a file of something else."""
        content = read_json(path)
        try:
            return cls(
                shots=int(content["shots"]),
                seed=int(content["seed"]),
                train=_rows(content["train"]),
                val=_rows(content["val"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ReidpipeError(
                f"found no few-shot draw in {path} ({error!r}); expected shots, seed, train and "
                "val; delete it to draw again"
            ) from error


def _rows(content: Iterable[Sequence[str | int]]) -> tuple[Row, ...]:
    rows = (tuple(row) for row in content)
    return tuple(Row(str(path), int(label), str(name)) for path, label, name in rows)


def names_of_classes(rows: Iterable[Row]) -> list[str]:
    """The name of every label from 0 to the greatest, in order; two labels may share a name.

    Raises ReidpipeError when a label has no row or two names: logits and labels would not match.
    """
    names: dict[int, str] = {}
    for row in rows:
        known = names.setdefault(row.label, row.classname)
        if known != row.classname:
            raise ReidpipeError(
                f"found label {row.label} named '{known}' and '{row.classname}'; expected one "
                "name per label; correct the split"
            )
    absent = [label for label in range(max(names, default=0) + 1) if label not in names]
    if absent or min(names) < 0:
        wrong = absent[0] if absent else min(names)
        raise ReidpipeError(
            f"found no name for label {wrong} of 0 to {max(names, default=0)} "
            f"({len(names)} named); expected one for each; correct the split"
        )
    return [names[label] for label in range(len(names))]


def draw_shots(train: Sequence[Row], val: Sequence[Row] = (), *, shots: int, seed: int) -> Draw:
    """``shots`` rows of each class in ``train`` and min(shots, 4) of each in ``val``, all of a
    class that has fewer; classes in the order of their first rows, the images of one as drawn.

    It depends on shots and seed alone, not on which half of the classes is asked for later.
    Raises ReidpipeError for less than one shot.
    """
    if shots < 1:
        raise ReidpipeError(f"found {shots} shots; expected 1 or more; type --shots 16")
    generator = random.Random(seed)
    drawn = _sample(train, shots, generator)
    return Draw(shots, seed, drawn, _sample(val, min(shots, VALIDATION_SHOTS), generator))


def _sample(rows: Sequence[Row], shots: int, generator: random.Random) -> tuple[Row, ...]:
    of_class: dict[int, list[Row]] = {}
    for row in rows:
        of_class.setdefault(row.label, []).append(row)
    drawn: list[Row] = []
    for members in of_class.values():
        drawn += generator.sample(members, shots) if len(members) >= shots else members
    return tuple(drawn)


class Halves(NamedTuple):
    """Labels to learn from, and labels to be tested on without having been seen."""

    base: range
    new: range


def halve_classes(count: int) -> Halves:
    """The first ceil(count / 2) labels and the rest.

    Raises ReidpipeError for fewer than two classes.
    """
    if count < 2:
        raise ReidpipeError(f"found {count} classes; expected 2 or more to halve; leave them whole")
    middle = -(-count // 2)
    return Halves(range(middle), range(middle, count))


def of_classes(rows: Iterable[Row], labels: Sequence[int]) -> list[Row]:
    """The rows with these labels, in order, relabelled 0, 1, ... in the order of ``labels``."""
    place = {label: index for index, label in enumerate(labels)}
    return [row._replace(label=place[row.label]) for row in rows if row.label in place]


def harmonic_mean(base: float, new: float) -> float:
    """2 b n / (b + n) of two accuracies, 0 when both are 0.

    Over several data sets the authors average both first, then take this of the averages.
    """
    return 2 * base * new / (base + new) if base + new else 0.0
