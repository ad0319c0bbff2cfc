"""Ranked lists, label-map pictures and logs: what reports and other pictures are made of."""

from __future__ import annotations

import json

import numpy as np

from pipeline.labels.pictures import legend, overlay
from pipeline.labels.sets import LIP
from reid_train.figures.charts.curves import curves, read_epochs
from reid_train.figures.charts.saving import svg
from reid_train.figures.ranked_lists import BORDER, VERDICTS, Match, draw_ranked_list


def test_ranked_list_borders_tell_right_from_wrong():
    images = [np.full((20, 10, 3), value, np.uint8) for value in (10, 100, 200)]
    matches = [Match(images[1], 0.91, "right"), Match(images[2], 0.5, "wrong")]
    sheet = draw_ranked_list(images[0], matches, size=(40, 20))
    assert sheet.dtype == np.uint8 and sheet.ndim == 3
    middle = BORDER + 20
    row = sheet[middle]
    assert (row[BORDER + 10] == 10).all()  # the query comes first
    for match, verdict in zip(matches, ("right", "wrong"), strict=True):
        (places,) = np.nonzero((row == match.image[0, 0]).all(1))
        assert len(places) == 20
        assert tuple(row[places[0] - 1]) == tuple(row[places[-1] + 1]) == VERDICTS[verdict][1]


def test_overlay_tints_by_class_and_confidence():
    image = np.full((4, 2, 3), 100, np.uint8)
    label = np.array([[0, 5], [5, 5], [0, 0], [0, 0]], np.uint8)
    tinted = overlay(image, label, LIP, opacity=0.5)
    colour = np.array(LIP.palette[5])
    assert (tinted[0, 0] == 100).all()
    np.testing.assert_array_equal(tinted[0, 1], np.round(50 + colour / 2))
    unsure = overlay(image, label, LIP, confidence=np.zeros((4, 2)), opacity=0.5)
    assert (unsure == 100).all()
    entries = legend([label], LIP)
    assert [(entry.name, entry.share) for entry in entries] == [(LIP.names[5], 3 / 8)]
    assert entries[0].colour == "#{:02x}{:02x}{:02x}".format(*LIP.palette[5])


def test_curves_pass_over_an_unfinished_line(tmp_path):
    log = tmp_path / "log.jsonl"
    lines = [
        {"event": "step", "stage": "one", "loss": 9},
        {"event": "epoch", "stage": "one", "epoch": 0, "loss": 2.5},
        {"event": "epoch", "stage": "two", "epoch": 0, "loss": 1.5},
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"event": "ep')
    epochs = read_epochs(log)
    assert [(entry["stage"], entry["loss"]) for entry in epochs] == [("one", 2.5), ("two", 1.5)]
    assert svg(curves({"a": epochs})) == svg(curves({"a": epochs}))
