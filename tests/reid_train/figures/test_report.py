"""Ranked lists, label-map pictures and logs: what reports and other pictures are made of."""

from __future__ import annotations

import json

import numpy as np

from pipeline.labels.pictures import legend, overlay
from pipeline.labels.sets import LIP
from reid_train.engine.log import read_log
from reid_train.figures.charts.curves import curves
from reid_train.figures.charts.saving import svg


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


RATE = {"images_per_s": 9.0, "seconds": 1.0}


def test_curves_pass_over_an_unfinished_line(tmp_path):
    log = tmp_path / "log.jsonl"
    lines = [
        {"event": "step", "stage": "one", "epoch": 0, "step": 0, "lr": 0.1, "loss": 9},
        {"event": "epoch", "stage": "one", "epoch": 0, "loss": 2.5, **RATE},
        {"event": "epoch", "stage": "two", "epoch": 0, "loss": 1.5, **RATE},
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"event": "ep')
    epochs = [entry for entry in read_log(log) if entry["event"] == "epoch"]
    assert [(entry["stage"], entry["loss"]) for entry in epochs] == [("one", 2.5), ("two", 1.5)]
    assert svg(curves({"a": epochs})) == svg(curves({"a": epochs}))
