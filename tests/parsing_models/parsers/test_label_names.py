"""Names of other people's labels, and what their image processors ask for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from parsing_models.parsers.image_processors import preprocessing
from parsing_models.parsers.label_names import (
    SYNONYMS,
    class_table,
    plain,
    read_label_map,
    target_set,
)
from pipeline.labels.sets import ATR, CIHP, LABEL_SETS, LIP, PASCAL, LabelSet
from pipeline.terminal.errors import ReidpipeError


@pytest.mark.parametrize("target", [LIP, ATR, PASCAL], ids=lambda labels: labels.name)
@pytest.mark.parametrize("labels", LABEL_SETS.values(), ids=lambda labels: labels.name)
def test_our_own_names_follow_the_way_between_the_sets(labels: LabelSet, target: LabelSet):
    odd = [name.upper().replace("-", " ") for name in labels.names]
    np.testing.assert_array_equal(class_table(odd, target), labels.map_to(target))


def test_synonyms_are_plain_and_lead_to_names_we_have():
    ours = {plain(name) for labels in LABEL_SETS.values() for name in labels.names}
    for theirs, name in SYNONYMS.items():
        assert plain(theirs) == theirs and name in ours and theirs not in ours


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Upper-clothes", "upperclothes"), ("left_ SHOE", "leftshoe"), ("hat", "hat")],
)
def test_plain_names(name: str, expected: str):
    assert plain(name) == expected


def test_the_set_is_told_by_all_names_together():
    assert class_table(["Bag", "background", "Trousers"]) == (0, 0, 9)
    # Neck skin is CIHP's; beside it stand only names that CIHP has.
    assert class_table(["torso skin", "Hat"], CIHP) == (10, 1)
    assert class_table(["torso skin", "Hat"]) == (13, 1)
    # Belts are ATR's and socks LIP's: nobody has both.
    with pytest.raises(ReidpipeError, match="found label 'socks' in fashion"):
        class_table(["hat", "belt", "bag", "socks"], source="fashion")
    with pytest.raises(ReidpipeError, match=r"'upper-cloths' \(did you mean 'upper-clothes'\?\)"):
        class_table(["background", "upper-cloths"])


def test_a_map_decides_alone():
    given = {"Arms ": "left-arm", "hands": "Left_Arm", "hat": "hair"}
    assert class_table(["HANDS", "arms", "Hat"], LIP, given) == (14, 14, 2)


def test_label_maps_are_read_or_refused(tmp_path: Path):
    file = tmp_path / "labels.json"
    with pytest.raises(ReidpipeError, match="no readable label map"):
        read_label_map(file)
    for text in ("{", '["hat"]', '{"hat": 1}'):
        file.write_text(text)
        with pytest.raises(ReidpipeError):
            read_label_map(str(file))
    file.write_text('{"cap": "hat", "Belt": "coat", "cap": "hair"}')
    with pytest.raises(ReidpipeError, match="'cap' stands twice"):
        read_label_map(file)
    file.write_text('{"cap": "hat"}')
    assert read_label_map(file) == {"cap": "hat"}
    with pytest.raises(ReidpipeError, match=r"'lipp' \(did you mean 'lip'\?\)"):
        target_set("lipp")


@pytest.mark.parametrize(
    ("model_type", "size", "expected"),
    [
        ("segformer", {"height": 512, "width": 512}, (512, 256)),
        ("segformer", {"height": 576, "width": 384}, (576, 384)),
        ("segformer", 640, (640, 320)),
        ("segformer", None, (512, 256)),
        ("sapiens2", None, (1024, 768)),
        ("mobilevit", {"shortest_edge": 288}, (576, 288)),
        ("mask2former", {"shortest_edge": 800, "longest_edge": 1333}, (1280, 640)),
        ("dpt", None, (384, 384)),
        ("beit", {"height": 512, "width": 512}, (640, 640)),
    ],
)
def test_input_size_suits_upright_crops(model_type: str, size: Any, expected: tuple[int, int]):
    given, _ = preprocessing(model_type, SimpleNamespace(image_size=640), {"size": size})
    assert given.input_size == expected


def test_constants_come_from_the_processor_or_the_type():
    config = SimpleNamespace()
    plain_mobile, resample = preprocessing("mobilevit", config, {})
    assert plain_mobile.channel_order == "bgr" and resample == "bicubic"
    assert plain_mobile.mean == (0, 0, 0) and plain_mobile.std == (1, 1, 1)
    segformer, resample = preprocessing("segformer", config, {})
    assert segformer.channel_order == "rgb" and resample == "bilinear"
    assert segformer.mean == (0.485, 0.456, 0.406) and segformer.std == (0.229, 0.224, 0.225)
    own = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]}
    assert preprocessing("dpt", config, own)[0].mean == (0.1, 0.2, 0.3)
    # Pixels divided by 127.5 run from 0 to 2: half the mean and std on a scale of 0 to 1.
    doubled, _ = preprocessing("dpt", config, own | {"rescale_factor": 1 / 127.5})
    assert doubled.mean == pytest.approx((0.05, 0.1, 0.15))
    assert doubled.std == pytest.approx((0.5, 1, 1.5))
    raw, _ = preprocessing("dpt", config, own | {"do_rescale": False})
    assert raw.std == pytest.approx((1 / 255, 2 / 255, 3 / 255))
    for key, value in (("resample", 1), ("size", {"area": 3}), ("image_mean", [0.5])):
        with pytest.raises(ReidpipeError, match=key):
            preprocessing("segformer", config, {key: value})
