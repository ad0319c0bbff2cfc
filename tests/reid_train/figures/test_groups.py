"""The table of kinds of queries that two runs differ on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pipeline.labels.sets import LIP
from pipeline.labels.writing import MapWriter
from reid_train.figures.page.queries import differences
from reid_train.figures.page.writing import render
from tests.reid_train.figures.test_page import views, with_ap

__all__ = ["views"]  # a fixture


def test_what_differs_by_camera_and_view(views, tmp_path):
    low = with_ap(views[1], tmp_path / "low", "low", [0.1, 0.2, 0.3, 0.4, 0.5])
    high = with_ap(views[1], tmp_path / "high", "high", [0.2, 0.4, 0.6, 0.3, 0.2])
    keys = [str(key) for key in low.ranking.query_keys]
    seen = {key: (place % 2, 7 if place < 3 else None) for place, key in enumerate(keys)}
    for view in (low, high):
        rows = view.pictures.rows
        for key, (camera, direction) in seen.items():
            rows[key] = dataclasses.replace(rows[key], camid=camera, view=direction)
    section = differences([low, high])
    # Gains: .1, .2, .3, -.1, -.3; of one view, and of maps that show as much, nothing is compared.
    assert section is not None
    told = {kind["name"]: kind for kind in section.content["kinds"]}
    assert list(told) == ["camera 0", "camera 1"]
    assert told["camera 0"]["gain"] == pytest.approx((0.1 + 0.3 - 0.3) / 3)
    assert told["camera 1"]["gain"] == pytest.approx((0.2 - 0.1) / 2)
    assert [told[name]["queries"] for name in told] == [3, 2]
    low_end, high_end = told["camera 0"]["interval"]
    assert low_end <= told["camera 0"]["gain"] <= high_end
    page = render([section], "t", None, [])
    assert '<th scope="row">camera 0</th><td class="number">3</td>' in page and "+3.3" in page


def test_what_differs_by_how_much_of_a_person_is_seen(views, tmp_path):
    low = with_ap(views[1], tmp_path / "low", "low", [0.1, 0.2, 0.3, 0.4, 0.5])
    high = with_ap(views[1], tmp_path / "high", "high", [0.2, 0.4, 0.6, 0.3, 0.2])
    with MapWriter(tmp_path / "maps", LIP, {"model": "by hand"}, size=(10, 10)) as writer:
        for place, key in enumerate(map(str, low.ranking.query_keys)):
            label = np.zeros((10, 10), np.uint8)
            label[: 9 - place] = 5  # 90, 80, 70, 60, 50 %
            row = low.pictures.rows[key]
            sure = np.ones((10, 10), np.float32)
            writer.add(key, label, sure, source_size=(128, 48), source_digest=row.digest)
    section = differences([dataclasses.replace(low, maps=tmp_path / "maps"), high])
    assert section is not None
    told = {
        kind["name"]: (kind["queries"], kind["gain"])
        for kind in section.content["kinds"]
        if kind["name"].startswith("foreground")
    }
    assert told == {
        "foreground 50 to 60 %": (2, pytest.approx(-0.2)),
        "foreground 70 to 80 %": (2, pytest.approx(0.25)),
        "foreground 90 to 90 %": (1, pytest.approx(0.1)),
    }
