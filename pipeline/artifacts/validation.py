"""What a training looks at while it runs, and which epochs it keeps: in no key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Validation:
    """What a training looks at after every ``every`` epochs and after the last: in no key.

    index, images: folders of artifacts that are complete when training begins. params: of the
    evaluation step (protocol, exclude, flip, distance).
    """

    every: int
    index: Path
    images: Path
    params: Mapping[str, Any]

    def due(self, epoch: int, epochs: int) -> bool:
        """Whether it is looked at after epoch 1, 2, ... of ``epochs``."""
        return epoch % self.every == 0 or epoch == epochs


@dataclass(frozen=True)
class Keep:
    """Which epochs' weights are kept beside the last: in no key. best: of the highest mAP on the
    validation images, of equal ones the earliest. every: each so-manieth.
    """

    best: bool = False
    every: int | None = None

    def by_number(self, epoch: int, epochs: int) -> bool:
        """Whether epoch 1, 2, ... of ``epochs`` is kept whatever its figures; the last is the
        model itself.
        """
        return self.every is not None and epoch % self.every == 0 and epoch != epochs


LAST_ONLY = Keep()
