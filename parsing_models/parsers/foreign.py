"""A plugin's parser that has the contract's ``label_set`` and ``parse``, and no network of ours."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import torch

from parsing_models.parsers.interface import LabelMaps, Size
from pipeline.labels.sets import LabelSet
from pipeline.terminal.errors import ReidpipeError

# Beyond 1, of the largest soft-max in half precision.
ROUNDING = 1e-3


@dataclass(frozen=True)
class Foreign:
    """What stands around such a parser, so that its maps can be cached.

    inner: has ``label_set`` (a ``LabelSet``) and ``parse(images, size) -> LabelMaps``; ``flip`` and
    ``scales`` reach it when the user asks for them. It is asked by one thread at a time, unless it
    says ``thread_safe = True``. name, options: what the cache records.
    """

    inner: Any
    name: str
    options: Mapping[str, Any]
    device: torch.device
    turn: AbstractContextManager[Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        several = getattr(self.inner, "thread_safe", False) is True
        object.__setattr__(self, "turn", nullcontext() if several else Lock())

    @property
    def label_set(self) -> LabelSet:
        """Of its maps."""
        return self.inner.label_set

    def attributes(self, *, flip: bool = False, scales: Sequence[float] = (1.0,)) -> dict[str, Any]:
        """JSON-plain facts about its maps, for the label-map cache."""
        return {
            "model": self.name,
            "classes": len(self.label_set),
            "options": dict(self.options),
            "flip": flip,
            "scales": list(scales),
            "precision": "fp32",
            "device": self.device.type,
            "reidpipe": importlib.metadata.version("reidpipe"),
        }

    def parse(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        size: Size | None = (256, 128),
        *,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
    ) -> LabelMaps:
        """Label maps as of ``Parser.parse``; without images the parser is not asked. Raises
        ReidpipeError for maps of another number, size or range than the contract has.
        """
        if not len(images):
            empty = np.empty((0, *(size or (0, 0))))
            return LabelMaps(empty.astype(np.uint8), empty.astype(np.float32))
        asked: dict[str, Any] = {"flip": True} if flip else {}
        if tuple(scales) != (1.0,):
            asked["scales"] = scales
        with self.turn:
            maps = self.inner.parse(images, size, **asked)
        if not len(maps.label) == len(maps.confidence) == len(images):
            raise ReidpipeError(
                f"found {len(maps.label)} maps and {len(maps.confidence)} of their confidence from "
                f"parser '{self.name}' for {len(images)} images; expected one each; mend the plugin"
            )
        for image, label, sure in zip(images, maps.label, maps.confidence, strict=True):
            wanted = size or image.shape[:2]
            label, sure = np.asarray(label), np.asarray(sure)
            found = f"maps {label.dtype} {label.shape} with confidence {sure.shape}"
            fits = label.shape == sure.shape == tuple(wanted) and label.dtype == np.uint8
            if fits:
                most, least, greatest = label.max(), sure.min(), sure.max()
                found = f"classes up to {most} with confidence from {least:g} to {greatest:g}"
                # Written so that a NaN, which compares with nothing, fails too.
                fits = most < len(self.label_set) and least >= 0 and greatest <= 1 + ROUNDING
            if not fits:
                raise ReidpipeError(
                    f"found {found} from parser '{self.name}'; expected uint8 {tuple(wanted)} of "
                    f"classes below {len(self.label_set)} and confidence in 0..1; mend the plugin"
                )
        return maps
