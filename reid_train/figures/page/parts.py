"""Sections on where a model looks and what it knows of body parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.images.pixels import resize
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.pictures import legend, overlay
from pipeline.terminal.errors import ReidpipeError
from reid_train.figures.page.inline import THUMB, chart, image_uri, small
from reid_train.figures.page.section import Section
from reid_train.figures.page.views import Comparison, Explained, RunView

MAP_SAMPLES = 8
PANEL = 160  # height of activation maps


def activations(views: Sequence[RunView], comparison: Comparison) -> Section | None:
    """What speaks for an identity, of several runs, and for a match, of each; None where no image
    may be shown or no model has a map.
    """
    runs = [
        {"name": view.name, "pairs": [_shown(pair) for pair in view.explained]}
        for view in views
        if view.explained
    ]
    shown = [_shown(pair) for pair in comparison.activations]
    if not runs and not shown:
        return None
    content = {"classes": shown, "activated": list(comparison.activated), "runs": runs}
    return Section("activations", "Where the models look", content)


def _shown(pair: Explained) -> dict[str, str]:
    height, width = pair.picture.shape[:2]
    picture = small(pair.picture, max(PANEL, round(PANEL * width / height)))
    return {"caption": pair.caption, "picture": image_uri(picture)}


def cells(comparison: Comparison) -> Section | None:
    """Features by body part, drawn and measured; None without label maps."""
    if not comparison.parts:
        return None
    figures = [
        {
            "run": name,
            "numbers": figure.numbers,
            "picture": figure.picture
            and chart(
                figure.picture,
                f"parts{number}",
                f"t-SNE of cells of {name}, coloured by body part, a sign per identity",
            ),
        }
        for number, (name, figure) in enumerate(comparison.parts.items())
    ]
    content = {"figures": figures, "protocol": comparison.protocol}
    return Section("parts", "Features by body part", content)


def label_maps(views: Sequence[RunView]) -> Section | None:
    """Some images beside their label maps; None where no run is shown with maps.

    Raises ReidpipeError for maps of another dataset.
    """
    runs = [{"name": view.name, **_maps(view)} for view in views if view.maps is not None]
    return Section("maps", "Label maps", {"runs": runs}) if runs else None


def _maps(view: RunView) -> dict[str, Any]:
    assert view.maps is not None
    reader, pictures = LabelMapReader(view.maps), view.pictures
    keys = [row.key for row in pictures.index.rows if row.key in reader]
    if not keys:
        raise ReidpipeError(
            f"found no label map in {view.maps} for {pictures.index.dataset}; expected maps of "
            "the evaluated dataset; type reidpipe parse"
        )
    chosen = keys[:: max(1, len(keys) // MAP_SAMPLES)][:MAP_SAMPLES]
    labels = [reader[key][0] for key in chosen]
    samples = []
    for key, label in zip(chosen, labels, strict=True) if pictures.allowed else ():
        image = pictures[key]
        tinted = overlay(image, label, reader.label_set, opacity=0.65)
        shown = small(image)
        beside = np.concatenate([shown, resize(tinted, shown.shape[:2], "bicubic")], axis=1)
        samples.append({"key": key, "picture": image_uri(beside)})
    return {
        "model": str(reader.attributes.get("model", "")),
        "label_set": reader.label_set.name,
        "samples": samples,
        "legend": legend(labels, reader.label_set),
        "height": THUMB,
    }
