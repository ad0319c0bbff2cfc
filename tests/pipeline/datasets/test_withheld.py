"""Images of withdrawn datasets are known as such, by dataset and by file name."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.datasets.catalogue import list_manifests
from pipeline.datasets.withheld import GREY, allowed, card, pictures_allowed, withdrawn_names
from tests import trees


def test_only_duke_and_what_is_built_on_it_are_withheld() -> None:
    withheld = {m.id for m in list_manifests() if not allowed(m)}
    assert withheld == {"dukemtmc_reid", "occluded_duke"}
    assert not pictures_allowed("dukemtmc_reid") and not pictures_allowed("occluded_duke")
    assert pictures_allowed("msmt17:v2") and pictures_allowed("somebody's own")


def test_withdrawn_images_are_known_by_their_names(tmp_path) -> None:
    rule = withdrawn_names()
    names = [path.name for path in trees.duke(tmp_path).rglob("*.jpg")]
    assert len(names) == 8 and all(rule.match(name) for name in names)
    others = ["0002_c1s1_000451_03.jpg", "0001_019_07_0303morning_0020_1.jpg", "me.jpg"]
    assert not any(rule.match(name) for name in others)


@pytest.mark.parametrize("size", [(128, 64), (16, 8)])
def test_a_card_is_grey_and_bears_the_key(size: tuple[int, int]) -> None:
    picture = card("query/0005_c2_f0046985.jpg", size)
    assert picture.shape == (*size, 3) and picture.dtype == np.uint8
    assert (picture[0, 0] == GREY).all() and picture.min() < 130
    assert (picture != card("query/0005_c2_f0046986.jpg", size)).any() or size == (16, 8)
