"""Whether a device computes what it should: some return zeros, and nobody notices for hours."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.labels.sets import LabelSet
from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from parsing_models.parsers.interface import Parser

log = logging.getLogger(__name__)

SAME_LABELS = 0.98
SAME_AS_FP32 = 0.99
ONE_CLASS_SHARE = 0.99
ENOUGH_IMAGES = 32


def check_device(
    parser: Parser, reference: Parser, images: Sequence[np.ndarray], size: tuple[int, int]
) -> None:
    """Raise ``ReidpipeError`` unless ``parser`` labels images as ``reference``, on a CPU, does."""
    same = same_labels(parser, reference, images, size)
    if same < SAME_LABELS:
        raise ReidpipeError(
            f"found only {same:.1%} of labels equal between {parser.device} and the CPU; expected "
            f"at least {SAME_LABELS:.0%}; the device computes wrongly: type --device cpu"
        )


def same_labels(
    one: Parser, other: Parser, images: Sequence[np.ndarray], size: tuple[int, int]
) -> float:
    """Share of equal labels in the maps that two parsers make of images."""
    first, second = (np.asarray(p.parse(images, size).label) for p in (one, other))
    return float((first == second).mean())


def check_precision(
    parser: Parser, full: Parser, images: Sequence[np.ndarray], size: tuple[int, int]
) -> float:
    """Share of labels as in fp32; a warning is logged where it is low."""
    same = same_labels(parser, full, images, size)
    if same < SAME_AS_FP32:
        log.warning(
            "%s gives only %.1f %% of the labels that fp32 gives on the first %d images: "
            "--precision fp32 is safe",
            *(parser.precision, 100 * same, len(images)),
        )
    return same


@dataclass
class OneClassGuard:
    """Looks at every label before it is stored: maps that are all one class are no parsing.

    On a GPU this is an error, raised before such maps reach the disk, for a broken device makes
    them of any image; a CPU computes right, so there it is a warning: nobody is in the images, or
    the weights are not for them. device: its name. enough: images below which nothing is said.
    """

    label_set: LabelSet
    device: Any
    folder: Path
    enough: int = ENOUGH_IMAGES
    _labels: list[np.ndarray] = field(default_factory=list, init=False)
    _warned: bool = field(default=False, init=False)

    @property
    def images(self) -> int:
        """How many were added since the last check."""
        return len(self._labels)

    def add(self, label: np.ndarray) -> None:
        """Keep the labels of an image, u1 (H, W), until ``check`` looks at them."""
        self._labels.append(label)

    def check(self) -> None:
        """Judge the images since the last check; raises ``ReidpipeError`` on other than a CPU."""
        from reid_train.engine.runtime import on_cpu

        labels, self._labels = self._labels, []
        images = len(labels)
        if images < self.enough:
            return
        background = 1 - sum(map(np.count_nonzero, labels)) / sum(label.size for label in labels)
        if 1 - ONE_CLASS_SHARE < background <= ONE_CLASS_SHARE:
            return  # too much for another class to have so large a share, and too little
        counts = np.bincount(np.concatenate([label.ravel() for label in labels]), minlength=256)
        top = int(counts.argmax())
        share = counts[top] / counts.sum()
        if share <= ONE_CLASS_SHARE:
            return
        found = f"{share:.1%} of the pixels of {images} images are '{self.label_set.names[top]}'"
        if not on_cpu(self.device):
            raise ReidpipeError(
                f"found that {found}, computed on {self.device}; expected people with several "
                "parts; the device computes wrongly or nobody is there: type --device cpu, which "
                "stores such maps"
            )
        if not self._warned:
            log.warning("%s: are they upright crops of one person each? (%s)", found, self.folder)
            self._warned = True
