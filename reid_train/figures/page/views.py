"""What the page is made from: a run's folders, and the images it may show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.checked import read_json
from pipeline.datasets.index import ImageRow, Index, read_index
from pipeline.datasets.withheld import card, pictures_allowed
from pipeline.images.packed import PackedImages
from pipeline.images.pixels import decode
from reid_train.evaluation.results import counting_words, distance_words
from reid_train.evaluation.side_information import SideInformation
from reid_train.evaluation.statistics.stored import STATISTICS, StoredStatistics
from reid_train.evaluation.stored_ranking import StoredRanking

CARD = (128, 64)  # H, W of what stands in place of an image that may not be shown


@dataclass(frozen=True)
class Explained:
    """A matched pair with its activation maps: ``explain_pair``'s picture and what it shows."""

    caption: str
    picture: np.ndarray


@dataclass(frozen=True)
class PartFigure:
    """Cells of a run's test images by body part: an SVG by t-SNE, or None where too few are shown,
    and ``part_features.measure``'s numbers by the name of the map.
    """

    picture: str | None
    numbers: dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """What several runs are shown side by side about. activations: a picture per test image, the
    image and then each of ``activated`` runs. parts: run -> its figure. protocol: what the numbers
    of ``parts`` depend on.
    """

    activations: Sequence[Explained] = ()
    activated: Sequence[str] = ()
    parts: dict[str, PartFigure] = field(default_factory=dict)
    protocol: str = ""


@dataclass(frozen=True)
class RunView:
    """What the page needs to know about one evaluated run.

    name: shown everywhere. evaluation: folder written by step "evaluation". index: folder of the
    evaluated dataset's index. model: folder that may hold ``log.jsonl``. earlier: folders of the
    stages before it, in order, that may hold one too. images: packed pixels to draw from; None:
    the image files. maps: folder of label maps of the same index. explained: matched pairs with
    activation maps. sides: what the model was told of the images. provenance: rows added to the
    last table.
    """

    name: str
    evaluation: Path
    index: Path
    model: Path | None = None
    earlier: Sequence[Path] = ()
    images: Path | None = None
    maps: Path | None = None
    explained: Sequence[Explained] = ()
    sides: SideInformation = SideInformation()
    provenance: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``."""
        return read_json(self.evaluation / "metrics.json")

    @cached_property
    def protocol(self) -> dict[str, Any]:
        """``protocol.json``."""
        return read_json(self.evaluation / "protocol.json")

    @cached_property
    def threshold(self) -> dict[str, Any]:
        """``threshold.json``."""
        return read_json(self.evaluation / "threshold.json")

    @cached_property
    def statistics(self) -> StoredStatistics | None:
        """``statistics.json``; None of an evaluation of an older version, which has none."""
        if not (self.evaluation / STATISTICS).is_file():
            return None
        return StoredStatistics.read(self.evaluation)

    @cached_property
    def ranking(self) -> StoredRanking:
        """``ranking.npz``."""
        return StoredRanking.read(self.evaluation / "ranking.npz")

    @cached_property
    def pictures(self) -> Pictures:
        """The images of the index."""
        return Pictures(self)

    @property
    def feature(self) -> str | None:
        """Which output of the model was compared; None: the embedding."""
        return self.protocol.get("feature")

    @property
    def question(self) -> tuple[Any, ...]:
        """Runs with the same answer one question: the same test images under one protocol."""
        metrics = self.metrics
        return (metrics["dataset"], self.index.name, metrics["protocol"], metrics["exclude"])

    @property
    def conditions(self) -> str:
        """All that the run's numbers depend on, in one line."""
        metrics, about = self.metrics, self.protocol
        height, width = about["image_size"]
        asked = "".join(f", {words}" for words in counting_words(metrics))
        ranked = "tracks" if metrics.get("unit") == "track" else "images"
        return (
            f"{metrics['dataset']} (index {about['inputs']['index']}), split query/gallery, "
            f"protocol {metrics['protocol']}{asked}, exclude {metrics['exclude']}, "
            f"{metrics['valid_queries']} of {metrics['queries']} queries against "
            f"{metrics['gallery']} {ranked}, {height}x{width} pixels, "
            f"{distance_words(metrics)}, "
            f"{'with' if about['flip'] else 'without'} flip test, {about['precision']}"
            + (f"; {told}" if (told := metrics.get("side_information")) else "")
        )


class Pictures:
    """Images of a run's index by key, from packed pixels where given, else from the files.

    allowed: whether they may be shown.
    """

    def __init__(self, view: RunView) -> None:
        self.packed = PackedImages.open(view.images) if view.images else None
        self.index: Index = read_index(view.index)
        self.rows: dict[str, ImageRow] = {row.key: row for row in self.index.rows}
        self.allowed = pictures_allowed(self.index.dataset, self.index.definition)

    def __getitem__(self, key: str) -> np.ndarray:
        if self.packed is not None:
            return np.array(self.packed.pixels[self.packed.row(key)])
        return decode(self.index.original(self.rows[key]), decoding=self.index.decoding)

    def shown(self, key: str) -> np.ndarray:
        """The image for the page: a card with its key where it may not be shown."""
        return self[key] if self.allowed else card(key, CARD)

    def whose(self, key: str) -> str:
        """Identity and camera of an image, as words."""
        row = self.rows[key]
        who = "nobody known" if row.pid is None else f"id\u00a0{row.pid}"
        return who if row.camid is None else f"{who}, camera\u00a0{row.camid}"
