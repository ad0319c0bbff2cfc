"""What charts draw: values worked out by hand, bands, colours that everybody tells apart."""

from __future__ import annotations

from itertools import combinations
from statistics import NormalDist

import numpy as np
import pytest

from reid_train.figures.charts import cmc, curves, det, histogram, roc
from reid_train.figures.charts.grid import Cell, grid
from reid_train.figures.charts.ranked import RankedList, ranked
from reid_train.figures.charts.style import PALETTE, RIGHT, WRONG, look
from reid_train.figures.ranked_lists import Match
from tests.reid_train.figures.charts.samples import LOGS, RANKS, RATES, THRESHOLD, picture

# Machado, Oliveira and Fernandes 2009: linear RGB as seen without one kind of cones.
BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
    "none": np.eye(3),
}  # fmt: skip


def lab(colour: str, sight: str) -> np.ndarray:
    """CIELAB of a colour as seen."""
    rgb = np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(BLIND[sight]) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ seen / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", BLIND)
def test_colours_are_told_apart_with_any_sight(sight: str):
    for one, other in [*combinations(PALETTE, 2), (RIGHT, WRONG)]:
        assert np.linalg.norm(lab(one, sight) - lab(other, sight)) > 10, (one, other)
    for colour in PALETTE:  # as a line on white
        assert lab("#ffffff", sight)[0] - lab(colour, sight)[0] > 20


def test_runs_are_told_apart_in_grey_by_dashes_and_marks():
    looks = [look(number) for number in range(42)]
    assert len({(one.colour, str(one.dashes)) for one in looks}) == 42
    assert len({str(one.dashes) for one in looks[:7]}) == len({one.mark for one in looks[:7]}) == 7


def test_cmc_in_percent_with_its_band():
    (axis,) = cmc.cmc(RANKS, top=10).axes
    lines = axis.get_lines()
    np.testing.assert_allclose(lines[0].get_ydata()[:3], [50, 60, 68])
    assert list(lines[1].get_xdata()) == list(range(1, 11)) and axis.get_xlim() == (1, 10)
    band = axis.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(45) and band[:, 0].max() == 10


def test_roc_is_logarithmic_and_without_interval_has_no_band():
    (axis,) = roc.roc(RATES).axes
    assert axis.get_xscale() == "log" and axis.get_xlim() == (pytest.approx(0.1), 100)
    np.testing.assert_allclose(axis.get_lines()[0].get_xydata()[1], [1, 50])
    assert len(axis.collections) == 1


def test_det_is_straight_for_normal_similarities():
    """Two normal distributions of one width: a line of slope -1 (Martin et al. 1997)."""
    normal = NormalDist()
    places = np.linspace(-2, 2, 9)
    curve = {
        "fpr": [1 - normal.cdf(place + 1) for place in places][::-1],
        "tpr": [1 - normal.cdf(place - 1) for place in places][::-1],
        "low": None,
        "high": None,
    }
    (axis,) = det.det({"a": curve}).axes
    x, y = axis.get_lines()[0].get_data()
    np.testing.assert_allclose(np.diff(y) / np.diff(x), -1)
    # Equal errors where both are the tail beyond one deviation.
    np.testing.assert_allclose(np.interp(0, x + 1, y), -1, atol=1e-9)
    labels = [label.get_text() for label in axis.get_xticklabels()]
    assert {"0.1", "1", "5", "20"} <= set(labels)


def test_det_leaves_out_rates_that_its_axes_do_not_have():
    (axis,) = det.det(RATES).axes
    assert len(axis.get_lines()[0].get_xdata()) == 3  # not FMR 1, FNMR 0
    band = axis.collections[0].get_paths()[0].vertices
    # Above the line is what the lower end of the true positive rate leaves.
    assert band[:, 1].max() == pytest.approx(NormalDist().inv_cdf(0.9))
    (empty,) = det.det({"a": {"fpr": [1.0], "tpr": [1.0], "low": None, "high": None}}).axes
    assert not len(empty.get_lines()[0].get_xdata())


def test_curves_have_a_panel_per_stage_in_the_order_of_training():
    axes = curves.curves(LOGS).axes
    shown = [(axis.get_title(), axis.get_ylabel()) for axis in axes]
    assert shown == [
        ("prompts", "mean loss"), ("image", "mean loss"), ("image", "validation mAP (%)"),
    ]  # fmt: skip
    losses = {tuple(line.get_ydata()) for line in axes[1].get_lines()}
    assert losses == {(2.0, 1.0), (3.0,)}
    assert list(axes[2].get_lines()[0].get_data()) == [[1], [25.0]]
    assert axes[0].get_xlim() == (0, 2)  # one epoch: no fractions of it on the axis


def test_histogram_shares_are_of_each_kind():
    (axis,) = histogram.histogram({"a": THRESHOLD}).axes
    different, same = axis.patches[:2]
    np.testing.assert_allclose(same.get_data().values, [0, 10, 10, 80])
    np.testing.assert_allclose(different.get_data().values, [0, 50, 50, 0])
    assert same.get_hatch() and not different.get_hatch()
    low, high = axis.get_xlim()
    assert -0.6 < low < -0.5 and 1 < high < 1.1
    assert len(histogram.histogram({"a": THRESHOLD, "b": THRESHOLD}).axes) == 2


def test_ranked_lists_show_pictures_as_they_are_and_say_right_or_wrong():
    matches = [Match(picture(2), 0.87, "right"), Match(picture(3), -0.12, "wrong")]
    figure = ranked([RankedList(picture(1), matches, "run a"), RankedList(picture(4), matches[:1])])
    shown = [axis.images[0].get_array() for axis in figure.axes]
    assert len(shown) == 5 and (shown[1] == picture(2)).all()
    texts = [text.get_text() for text in figure.texts]
    assert texts.count("query") == 2 and "+ 0.87" in texts and "x -0.12" in texts
    assert "run a" in texts
    frames = [axis.spines["left"].get_edgecolor()[:3] for axis in figure.axes]
    assert len(set(frames[:3])) == 3


@pytest.mark.parametrize("width", ["one", "two"])
def test_a_grid_keeps_within_its_page(width):
    rows = [[Cell(picture(n), "+ 0.87") for n in range(9)] for _ in range(3)]
    figure = grid(
        rows, row_names=["image", "x" * 60, "a-run-with-a-name-of-many-words-s0"],
        column_names=[f"identity {n}" for n in range(9)],
        key=[("#ff0000", f"label {n}") for n in range(20)], width=width,
    )  # fmt: skip
    boxes = [axis.get_position() for axis in figure.axes]
    assert min(box.x0 for box in boxes) > 0 and max(box.x1 for box in boxes) <= 1
    assert min(box.y0 for box in boxes) > 0 and max(box.y1 for box in boxes) <= 1
    for one, other in combinations(boxes, 2):
        assert one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0
    figure.canvas.draw()
    page = figure.bbox
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x0 >= -1 and box.x1 <= page.x1 + 1 and box.y0 >= -1 and box.y1 <= page.y1 + 1
