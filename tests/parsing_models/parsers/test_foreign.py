"""What is asked of a plugin's parser that brings no network of ours."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from parsing_models.parsers.foreign import Foreign
from parsing_models.parsers.interface import LabelMaps
from pipeline.labels.sets import PARTS
from pipeline.terminal.errors import ReidpipeError

IMAGES = np.zeros((2, 8, 4, 3), np.uint8)
LABEL = np.full((2, 6, 3), 4, np.uint8)
SURE = np.full((2, 6, 3), 0.5, np.float32)


class Painter:
    """A parser that gives what it was made with."""

    label_set = PARTS

    def __init__(self, label: Any, confidence: Any) -> None:
        self.maps, self.asked = LabelMaps(label, confidence), []

    def parse(self, images: Any, size: Any, **_: Any) -> LabelMaps:
        self.asked.append(len(images))
        return self.maps


def foreign(inner: Any) -> Foreign:
    return Foreign(inner, "mine", {}, torch.device("cpu"))


def changed(value: float) -> np.ndarray:
    """``SURE`` with one pixel of the last image another."""
    sure = SURE.copy()
    sure[1, 5, 2] = value
    return sure


@pytest.mark.parametrize(
    ("label", "sure", "found"),
    [
        (LABEL[:1], SURE[:1], "1 maps and 1 of their confidence from parser 'mine' for 2 images"),
        (LABEL, SURE[:1], "2 maps and 1 of their confidence"),
        (LABEL[:, :5], SURE[:, :5], r"maps uint8 \(5, 3\) with confidence \(5, 3\)"),
        (LABEL[:, :0], SURE[:, :0], r"maps uint8 \(0, 3\)"),
        (LABEL, SURE[:, :, :2], r"with confidence \(6, 2\)"),
        (LABEL.astype(np.int64), SURE, "maps int64"),
        (LABEL + 1, SURE, "classes up to 5 with confidence from 0.5 to 0.5"),
        (LABEL, changed(np.nan), "confidence from nan to nan"),
        (LABEL, changed(-0.1), "confidence from -0.1 to 0.5"),
        (LABEL, (SURE * 255).astype(np.uint8), "confidence from 127 to 127"),
    ],
)
def test_maps_of_another_number_size_or_range(label: Any, sure: Any, found: str):
    with pytest.raises(ReidpipeError, match=found) as caught:
        foreign(Painter(label, sure)).parse(IMAGES, (6, 3))
    assert "\n" not in str(caught.value) and str(caught.value).endswith("mend the plugin")


def test_maps_that_fit_pass_as_they_are():
    inner = Painter(LABEL, changed(1.0005))  # the largest soft-max in half precision
    assert foreign(inner).parse(IMAGES, (6, 3)) is inner.maps


@pytest.mark.parametrize(("safe", "most"), [(None, 1), (False, 1), (True, 3)])
def test_one_thread_at_a_time_unless_it_says_otherwise(safe: bool | None, most: int):
    class Counting(Painter):
        inside, met = 0, 0

        def parse(self, images: Any, size: Any, **_: Any) -> LabelMaps:
            self.inside += 1
            if safe:
                everybody.wait(10)
            else:
                time.sleep(0.02)
            self.met = max(self.met, self.inside)
            self.inside -= 1
            return self.maps

    everybody = threading.Barrier(3)
    inner: Any = Counting(LABEL, SURE)
    if safe is not None:
        inner.thread_safe = safe
    parser = foreign(inner)
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(parser.parse, IMAGES, (6, 3)) for _ in range(3)]:
            done.result()
    assert inner.met == most


def test_without_images_the_parser_is_not_asked():
    inner = Painter(LABEL, SURE)
    maps: Any = foreign(inner).parse([], (6, 3))
    assert inner.asked == [] and maps.label.shape == maps.confidence.shape == (0, 6, 3)
    assert maps.label.dtype == np.uint8 and maps.confidence.dtype == np.float32
