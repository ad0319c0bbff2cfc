"""Ranked lists, label-map pictures and the HTML report."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.index import read_index
from pipeline.labels.pictures import legend, overlay
from pipeline.labels.sets import LIP
from pipeline.labels.writing import MapWriter
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.stored_ranking import StoredRanking
from reid_train.evaluation.work import evaluate
from reid_train.figures.charts import read_epochs, training_curves
from reid_train.figures.ranked_lists import BORDER, VERDICTS, Match, draw_ranked_list
from reid_train.figures.report import RunView, write_report


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
    assert training_curves({"a": epochs}) == training_curves({"a": epochs})


class Outside(HTMLParser):
    """Collects everything a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")
        ]


@pytest.fixture(scope="module")
def views(make_prepared):
    little = make_prepared()
    log = [
        {"event": "epoch", "stage": "train", "epoch": epoch, "loss": 3 / (epoch + 1)}
        for epoch in range(4)
    ]
    (little.model / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    maps = little.root / "maps"
    with MapWriter(maps, LIP, {"model": "by hand"}, size=(32, 16)) as writer:
        for row in read_index(little.index).rows:
            label = np.zeros((32, 16), np.uint8)
            label[8:20, 3:13] = 5
            sure = np.ones((32, 16), np.float32)
            writer.add(row.key, label, sure, source_size=(128, 48), source_digest=row.digest)
    made = []
    for name, params in (
        ("plain <b>", {"rerank": {"k1": 6, "k2": 3, "lam": 0.3}}),
        ("flipped", {"flip": True}),
    ):
        job = little.job(re.sub(r"\W", "", name), **params)
        evaluate(job)
        made.append(
            RunView(
                name,
                job.folder,
                little.index,
                little.model,
                maps=maps,
                provenance={"note": "<script>alert(1)</script>"},
            )  # fmt: skip
        )
    return made


def test_report_is_one_page_that_loads_nothing(views, tmp_path):
    page = write_report(tmp_path / "report.html", views, "Two runs & a title").read_text()
    parser = Outside()
    parser.feed(page)
    assert parser.addresses and all(a.startswith("data:image/") for a in parser.addresses)
    assert "url(" not in page and "@import" not in page
    assert "<script" not in page and "plain &lt;b&gt;" in page  # escaped
    assert "Two runs &amp; a title" in page
    for address in parser.addresses:
        kind, _, content = address.partition(";base64,")
        data = base64.b64decode(content)
        if kind == "data:image/jpeg":
            Image.open(io.BytesIO(data)).load()
        else:
            assert b"<svg" in data


def test_report_gives_every_number_its_conditions(views, tmp_path):
    page = write_report(tmp_path / "report.html", views, "t").read_text()
    for view in views:
        assert f"{100 * view.metrics['mAP']:.1f}" in page
        for part in ("protocol standard", "exclude same-camera", "5 of 5 queries", "128x48"):
            assert part in view.conditions
        assert view.conditions in page
    assert "without flip test" in views[0].conditions
    assert "with flip test" in views[1].conditions
    assert "re-ranked (k1 6, k2 3" in page
    assert LIP.names[5] in page and "by hand" in page
    assert page == write_report(tmp_path / "again.html", views, "t").read_text()


def test_comparison_shows_the_queries_that_changed(views, tmp_path):
    ranking = views[1].ranking
    worse = StoredRanking(**{**vars(ranking), "ap": ranking.ap - np.array([0.5, 0, 0, 0, 0])})
    changed = dataclasses.replace(views[1], name="worse")
    vars(changed)["ranking"] = worse
    page = write_report(tmp_path / "report.html", [views[1], changed], "t").read_text()
    assert "AP -50.0 points" in page and page.count("points:") == 1


def test_report_mistakes(views, tmp_path):
    with pytest.raises(ReidpipeError, match="no run"):
        write_report(tmp_path / "a.html", [], "t")
    empty = dataclasses.replace(views[0], maps=tmp_path)
    with pytest.raises(ReidpipeError, match="label maps"):
        write_report(tmp_path / "b.html", [empty], "t")
    assert not list(tmp_path.glob("*.html"))
