"""Several runs on the same test images: class activations and features by part, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.images.pixels import resize
from pipeline.labels.maps import LabelMapReader
from reid_train.evaluation.embeddings import load_features
from reid_train.figures import part_features
from reid_train.figures.activation_maps import class_activation, class_rows, tint
from reid_train.figures.embedding_map import FEWEST, choose, part_map
from reid_train.figures.page.views import Comparison, Explained, PartFigure, Pictures, RunView

if TYPE_CHECKING:
    from pipeline.datasets.index import ImageRow
    from reid_train.models.deployable import ReidModel

QUERIES = 4
DRAWN_IDENTITIES, DRAWN_CELLS = 6, 5
SIZE = (256, 128)


def compare(
    views: Sequence[RunView], networks: Mapping[str, ReidModel], maps: Path | None
) -> Comparison:
    """views: runs evaluated on one index, each with its network under its name. maps: label maps of
    that index; None: no figure of parts.

    Queries are ones valid in every run, of different people, evenly spread over the order of their
    keys: the choice knows no result. Images that may not be shown have no activations.
    """
    pictures = views[0].pictures
    queries = spread_queries(views, pictures) if pictures.allowed else []
    panels: dict[str, list[np.ndarray]] = {row.key: [pictures[row.key]] for row in queries}
    activated = [
        view.name for view in views if _activate(view, networks[view.name], queries, panels)
    ]
    shown = [
        Explained(f"{row.key}, identity {row.pid}", _strip(panels[row.key])) for row in queries
    ]
    if maps is None:
        return Comparison(shown if activated else (), activated)
    reader = LabelMapReader(maps)
    rows = shown_rows(views[0], pictures, reader)
    parts = {}
    for view in views:
        figure = _parts(networks[view.name], rows, pictures, reader) if rows else None
        if figure is not None:
            parts[view.name] = figure
    protocol = (
        f"{cells_protocol(rows, reader, views[0].index.name)} Mean cosines of pairs of cells from "
        "different images."
    )
    return Comparison(shown if activated else (), activated, parts, protocol)


def cells_protocol(rows: Sequence[ImageRow], reader: LabelMapReader, index: str) -> str:
    """What figures and numbers on cells of ``rows`` depend on, in sentences. index: its key."""
    return (
        f"Cells of {len(rows)} test images of {len({row.pid for row in rows})} identities with the "
        f"most images, at most {part_features.IMAGES} of each; at most {part_features.CELLS} cells "
        "per identity and part, evenly spread; a cell has the label of most of its pixels "
        f"(parser {reader.attributes.get('model', 'unknown')}, labels {reader.label_set.name}, "
        f"index {index}); background left out. Silhouettes by cosine distance, means over parts."
    )


def spread_queries(
    views: Sequence[RunView], pictures: Pictures, count: int = QUERIES
) -> list[ImageRow]:
    """At most ``count`` queries valid in every run, of different people, evenly spread over the
    order of their keys: the choice knows no result.
    """
    valid = [set(view.ranking.query_keys[view.ranking.valid].tolist()) for view in views]
    keys = sorted(set.intersection(*valid), reverse=True)
    first = {pictures.rows[key].pid: pictures.rows[key] for key in keys}
    rows = sorted(first.values(), key=lambda row: row.key)
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [rows[place] for place in places]


def _activate(
    view: RunView,
    network: ReidModel,
    queries: Sequence[ImageRow],
    panels: Mapping[str, list[np.ndarray]],
) -> bool:
    """Add each query's activation map to its panels; whether the trunk has one."""
    pictures = view.pictures
    found = query_activations(view, network, queries)
    for row, relevance in zip(queries, found or (), strict=found is not None):
        image = resize(pictures[row.key], network.input_size, "bilinear")
        panels[row.key].append(tint(image, relevance))
    return found is not None


def query_activations(
    view: RunView, network: ReidModel, queries: Sequence[ImageRow]
) -> list[np.ndarray] | None:
    """``class_activation`` of each query for its own identity, float32 (h, w), or None as it is."""
    import torch

    pictures, classes = view.pictures, gallery_classes(view)
    device = next(network.parameters()).device
    maps = []
    for row in queries:
        image = resize(pictures[row.key], network.input_size, "bilinear")
        tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float().to(device) / 255
        known = view.sides.of([row])
        side = {name: torch.from_numpy(value).to(device) for name, value in known.items()}
        target = torch.from_numpy(classes[row.pid or 0])[None].to(device)
        found = class_activation(network, tensor, target, **side, feature=view.feature)
        if found is None:
            return None
        maps.append(found[0])
    return maps


def gallery_classes(view: RunView) -> dict[int, np.ndarray]:
    """``class_rows`` of the gallery's identities."""
    features, keys = load_features(view.evaluation)
    gallery = set(view.ranking.gallery_keys.tolist())
    rows = view.pictures.rows
    places = [place for place, key in enumerate(keys) if key in gallery]
    return class_rows(features[places], np.array([rows[keys[place]].pid or 0 for place in places]))


def _strip(panels: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([resize(panel, SIZE, "bicubic") for panel in panels], axis=1)


def shown_rows(view: RunView, pictures: Pictures, reader: LabelMapReader) -> list[ImageRow]:
    """Images of the queries' people: the gallery's others may be nobody in particular."""
    tested = {str(key) for key in [*view.ranking.query_keys, *view.ranking.gallery_keys]}
    people = {pictures.rows[str(key)].pid for key in view.ranking.query_keys}
    rows = [
        row
        for row in pictures.index.rows
        if row.key in tested and row.pid in people and row.key in reader
    ]
    pids = [row.pid or 0 for row in rows]
    chosen = choose(pids, identities=part_features.IDENTITIES, per_identity=part_features.IMAGES)
    return [rows[place] for place in chosen]


def _parts(
    network: ReidModel, rows: Sequence[ImageRow], pictures: Pictures, reader: LabelMapReader
) -> PartFigure | None:
    cells = test_cells(network, rows, pictures, reader)
    if cells is None:
        return None
    numbers: dict[str, Any] = part_features.measure(cells, reader.label_set)
    groups = part_features.part_groups(reader.label_set)
    drawn = drawn_cells(cells["final"], groups)
    if drawn is None:
        return PartFigure(None, numbers)
    shown = groups[drawn.parts].tolist()
    picture = part_map(drawn.features, shown, drawn.pids.tolist(), width="one")
    return PartFigure(picture, numbers)


def test_cells(
    network: ReidModel, rows: Sequence[ImageRow], pictures: Pictures, reader: LabelMapReader
) -> dict[str, part_features.PartCells] | None:
    """``read_cells`` of ``rows``; None where the trunk has no map, or cells show a single part."""

    def pixels(row: ImageRow) -> np.ndarray:
        return resize(pictures[row.key], network.input_size, "bilinear")

    cells = part_features.read_cells(network, rows, pixels, reader)
    alone = any(len(np.unique(found.parts)) < 2 for found in cells.values())
    return None if not cells or alone else cells


def drawn_cells(
    cells: part_features.PartCells, groups: np.ndarray
) -> part_features.PartCells | None:
    """Some identities' cells, a few of each of their parts; None where these are too few to draw.
    groups: of each label, as ``part_groups``.
    """
    people = np.unique(cells.pids)[:DRAWN_IDENTITIES]
    chosen: list[int] = []
    for pid in people:
        for part in np.unique(cells.parts):
            places = np.flatnonzero((cells.pids == pid) & (cells.parts == part))
            if groups[part] >= 0 and len(places):
                take = np.linspace(0, len(places) - 1, min(DRAWN_CELLS, len(places)))
                chosen += places[take.round().astype(int)].tolist()
    return cells.of(np.array(chosen)) if len(chosen) >= FEWEST else None
