"""A plugin's parser that has the contract's ``label_set`` and ``parse``, and no network of ours."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from parsing_models.parsers.interface import LabelMaps, Size
from pipeline.labels.sets import LabelSet
from pipeline.terminal.errors import ReidpipeError


@dataclass(frozen=True)
class Foreign:
    """What stands around such a parser, so that its maps can be cached.

    inner: has ``label_set`` (a ``LabelSet``) and ``parse(images, size) -> LabelMaps``; ``flip`` and
    ``scales`` reach it when the user asks for them. name, options: what the cache records.
    """

    inner: Any
    name: str
    options: Mapping[str, Any]
    device: torch.device

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
        """Label maps as of ``Parser.parse``. Raises ReidpipeError for maps of another number, size
        or range than the contract has.
        """
        asked: dict[str, Any] = {"flip": True} if flip else {}
        if tuple(scales) != (1.0,):
            asked["scales"] = scales
        maps = self.inner.parse(images, size, **asked)
        for image, label, sure in zip(images, maps.label, maps.confidence, strict=True):
            wanted = size or image.shape[:2]
            label, sure = np.asarray(label), np.asarray(sure)
            fits = label.shape == sure.shape == tuple(wanted) and label.dtype == np.uint8
            if not fits or label.max() >= len(self.label_set) or sure.min() < 0:
                raise ReidpipeError(
                    f"found maps {label.dtype} {label.shape} with confidence {sure.shape} from "
                    f"parser '{self.name}'; expected uint8 {tuple(wanted)} of classes below "
                    f"{len(self.label_set)} and confidence in 0..1; mend the plugin"
                )
        return maps
