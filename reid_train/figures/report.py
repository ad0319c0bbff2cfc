"""One self-contained HTML page for a run or a comparison of several."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts import atomic
from pipeline.datasets.index import Index, read_index
from pipeline.datasets.withheld import card, pictures_allowed
from pipeline.images.packed import PackedImages
from pipeline.images.pixels import decode
from pipeline.labels.pictures import legend, overlay
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.embeddings import load_features
from reid_train.evaluation.results import counting_words
from reid_train.evaluation.side_information import SideInformation
from reid_train.evaluation.stored_ranking import StoredRanking
from reid_train.figures.charts import read_epochs, similarity_histogram, training_curves
from reid_train.figures.embedding_map import choose, embedding_map
from reid_train.figures.ranked_lists import Match, draw_ranked_list
from reid_train.models import COSINE


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


SHOWN = 10
WORST, BEST = 4, 3
MAP_SAMPLES = 8
SAMPLE_SIZE = (128, 64)


@dataclass(frozen=True)
class RunView:
    """What the page needs to know about one evaluated run.

    name: shown everywhere. evaluation: folder written by step "evaluation". index: folder of the
    evaluated dataset's index. model: folder that may hold ``log.jsonl``. images: packed pixels to
    draw from; None: the image files. maps: folder of label maps of the same index. explained:
    matched pairs with activation maps. sides: what the model was told of the images. provenance:
    rows added to the last table.
    """

    name: str
    evaluation: Path
    index: Path
    model: Path | None = None
    images: Path | None = None
    maps: Path | None = None
    explained: Sequence[Explained] = ()
    sides: SideInformation = SideInformation()
    provenance: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``."""
        return atomic.read_json(self.evaluation / "metrics.json")

    @cached_property
    def protocol(self) -> dict[str, Any]:
        """``protocol.json``."""
        return atomic.read_json(self.evaluation / "protocol.json")

    @cached_property
    def threshold(self) -> dict[str, Any]:
        """``threshold.json``."""
        return atomic.read_json(self.evaluation / "threshold.json")

    @cached_property
    def ranking(self) -> StoredRanking:
        """``ranking.npz``."""
        return StoredRanking.read(self.evaluation / "ranking.npz")

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
            f"{metrics.get('distance', COSINE)} distance, "
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
        self.rows = {row.key: row for row in self.index.rows}
        self.allowed = pictures_allowed(self.index.dataset, self.index.definition)

    def __getitem__(self, key: str) -> np.ndarray:
        if self.packed is not None:
            return np.array(self.packed.pixels[self.packed.row(key)])
        return decode(self.index.root / self.rows[key].path, decoding=self.index.decoding)

    def shown(self, key: str) -> np.ndarray:
        """The image for the page: a card with its key where it may not be shown."""
        return self[key] if self.allowed else card(key, SAMPLE_SIZE)


def write_report(
    path: Path, runs: Sequence[RunView], title: str, comparison: Comparison = Comparison()
) -> Path:
    """Write the page: metrics with their conditions, curves, comparison, ranked lists, maps,
    provenance.

    All pictures are data URIs; the page loads nothing. It shows images of the dataset: where the
    licence forbids redistribution it must stay on this machine, and the page says so. Of withdrawn
    datasets it shows cards with the images' keys.
    Raises ReidpipeError without a run or when an evaluation lacks a file.
    """
    import jinja2

    if not runs:
        raise ReidpipeError("found no run to report; expected at least one; type reidpipe eval")
    template = (resources.files("reid_train.figures") / "report.html").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    page = environment.from_string(template).render(
        title=title,
        withheld=sorted({v.metrics["dataset"] for v in runs if not Pictures(v).allowed}),
        runs=[_section(view) for view in runs],
        best=_best(runs),
        curves=_curves(runs),
        changes=_changes(runs),
        activations=[
            {"caption": shown.caption, "picture": _image_uri(shown.picture)}
            for shown in comparison.activations
        ],
        activated=comparison.activated,
        parts=[
            {
                "run": name,
                "picture": figure.picture and _svg_uri(figure.picture),
                "numbers": figure.numbers,
            }
            for name, figure in comparison.parts.items()
        ],
        parts_protocol=comparison.protocol,
    )
    atomic.write_text(path, page)
    return path


def _section(view: RunView) -> dict[str, Any]:
    pictures = Pictures(view)
    return {
        "name": view.name,
        "metrics": view.metrics,
        "conditions": view.conditions,
        "threshold": view.threshold,
        "histogram": _svg_uri(similarity_histogram(view.threshold)),
        "groups": _ranked_lists(view, pictures),
        "embedding_map": _embedding_map(view, pictures),
        "explained": [
            {"caption": pair.caption, "picture": _image_uri(pair.picture)}
            for pair in view.explained
        ],
        "maps": _maps(view, pictures) if view.maps else None,
        "provenance": _provenance(view),
    }


def _best(runs: Sequence[RunView]) -> dict[str, float]:
    """The best of comparable runs only: another dataset or protocol is another question."""
    asked = {(v.metrics["dataset"], v.metrics["protocol"], v.metrics["exclude"]) for v in runs}
    if len(runs) < 2 or len(asked) > 1:
        return {}
    found = {name: max(view.metrics[name] for view in runs) for name in ("mAP", "mINP")}
    return found | {r: max(v.metrics["cmc"][r] for v in runs) for r in ("1", "5", "10")}


def _curves(runs: Sequence[RunView]) -> str | None:
    logs = {
        view.name: read_epochs(view.model / "log.jsonl")
        for view in runs
        if view.model and (view.model / "log.jsonl").is_file()
    }
    logs = {name: log for name, log in logs.items() if log}
    return _svg_uri(training_curves(logs)) if logs else None


def _ranked_lists(view: RunView, pictures: Pictures) -> list[dict[str, Any]]:
    ranking = view.ranking
    valid = np.flatnonzero(ranking.valid)
    order = valid[np.argsort(ranking.ap[valid], kind="stable")]
    worst = order[:WORST]
    best = order[len(worst) :][::-1][:BEST]
    return [
        {"title": f"{word} queries", "strips": [_strip(view, pictures, q) for q in queries]}
        for word, queries in (("Hardest", worst), ("Easiest", best))
        if len(queries)
    ]


def _strip(view: RunView, pictures: Pictures, query: int) -> dict[str, Any]:
    ranking = view.ranking
    shown = np.flatnonzero((ranking.indices[query] >= 0) & ~ranking.junk[query])[:SHOWN]
    matches = [
        Match(
            pictures.shown(str(ranking.gallery_keys[ranking.indices[query, place]])),
            float(ranking.similarities[query, place]),
            "right" if ranking.correct[query, place] else "wrong",
        )
        for place in shown
    ]
    key = str(ranking.query_keys[query])
    hits = sum(match.verdict == "right" for match in matches)
    return {
        "key": key,
        "ap": float(ranking.ap[query]),
        "alt": f"query {key}: {hits} of the first {len(matches)} matches are right",
        "picture": _image_uri(draw_ranked_list(pictures.shown(key), matches)),
    }


def _changes(runs: Sequence[RunView]) -> list[dict[str, Any]]:
    """Queries whose AP differs most between the first and the last of several runs."""
    if len(runs) < 2:
        return []
    first, last = runs[0], runs[-1]
    places = {str(key): place for place, key in enumerate(last.ranking.query_keys)}
    pairs = [
        (place, places[str(key)])
        for place, key in enumerate(first.ranking.query_keys)
        if str(key) in places
        and first.ranking.valid[place]
        and last.ranking.valid[places[str(key)]]
    ]
    if first.metrics["dataset"] != last.metrics["dataset"] or not pairs:
        return []
    gains = np.array([last.ranking.ap[b] - first.ranking.ap[a] for a, b in pairs])
    order = np.argsort(-gains, kind="stable")
    chosen = [n for n in order[:2] if gains[n] > 0] + [n for n in order[-2:] if gains[n] < 0]
    pictures = [Pictures(first), Pictures(last)]
    return [
        {
            "gain": float(gains[number]),
            "strips": [
                {"run": view.name, **_strip(view, source, query)}
                for view, source, query in zip((first, last), pictures, pairs[number], strict=True)
            ],
        }
        for number in chosen
    ]


def _embedding_map(view: RunView, pictures: Pictures) -> str | None:
    features, keys = load_features(view.evaluation)
    gallery = set(view.ranking.gallery_keys.tolist())
    places = [place for place, key in enumerate(keys) if key in gallery]
    pids = [pictures.rows[keys[place]].pid or 0 for place in places]
    chosen = choose(pids)
    if not chosen:
        return None
    rows = features[[places[number] for number in chosen]]
    return _svg_uri(embedding_map(rows, [pids[number] for number in chosen]))


def _maps(view: RunView, pictures: Pictures) -> dict[str, Any]:
    from pipeline.labels.maps import LabelMapReader

    assert view.maps is not None
    reader = LabelMapReader(view.maps)
    keys = [row.key for row in pictures.index.rows if row.key in reader]
    if not keys:
        raise ReidpipeError(
            f"found no label map in {view.maps} for {pictures.index.dataset}; expected maps of "
            "the evaluated dataset; type reidpipe parse"
        )
    step = max(1, len(keys) // MAP_SAMPLES)
    chosen = keys[::step][:MAP_SAMPLES]
    labels = [reader[key][0] for key in chosen]
    tinted = {
        key: overlay(pictures[key], label, reader.label_set, opacity=0.65)
        for key, label in zip(chosen, labels, strict=True)
        if pictures.allowed
    }
    return {
        "model": str(reader.attributes.get("model", "")),
        "label_set": reader.label_set.name,
        "samples": [
            {"key": key, "picture": _image_uri(_beside(pictures[key], picture))}
            for key, picture in tinted.items()
        ],
        "legend": legend(labels, reader.label_set),
    }


def _beside(image: np.ndarray, tinted: np.ndarray) -> np.ndarray:
    from PIL import Image

    height, width = SAMPLE_SIZE
    halves = [
        np.asarray(Image.fromarray(half).resize((width, height), Image.Resampling.BICUBIC))
        for half in (image, tinted)
    ]
    return np.concatenate(halves, axis=1)


def _provenance(view: RunView) -> list[tuple[str, str]]:
    metrics, about = view.metrics, view.protocol
    rows: dict[str, Any] = {
        "recipe": metrics["recipe"],
        "seed": "unknown" if metrics["seed"] is None else metrics["seed"],
        "evaluation": view.evaluation.name,
        **about["inputs"],
        **({"maps": view.maps.name} if view.maps else {}),
        "re-ranking": about["rerank"] or "none",
        "protocol": about["definition"].get("note") or metrics["protocol"],
        "versions": metrics["versions"],
        **view.provenance,
    }
    return [(name, _text(value)) for name, value in rows.items()]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    return value if isinstance(value, str) else json.dumps(value)


def _image_uri(image: np.ndarray) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=90)
    return _uri(stream.getvalue(), "image/jpeg")


def _svg_uri(svg: str) -> str:
    return _uri(svg.encode(), "image/svg+xml")


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
