"""What an evaluation compares in place of the embedding."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.runtime import Runtime
from reid_train.evaluation.compared import check_feature, compared, encoder, read_feature
from reid_train.evaluation.embeddings import embed
from reid_train.recipe.loading import load_recipe


class Model(SimpleNamespace):
    """Outputs of 1 and 2 columns; a camera's number is added to the first."""

    def features(self, images: Tensor, camids: Tensor | None = None) -> dict[str, Tensor]:
        table = 0 if camids is None else camids[:, None]
        return {
            "short": torch.tensor([[2.0], [5.0]]) + table,
            "long": torch.tensor([[3.0, 4.0]] * 2),
        }


@pytest.fixture
def model() -> Any:
    return Model(trunk=SimpleNamespace(feature_dims={"short": 1, "long": 2}))


def test_by_hand(model: Any):
    images = torch.zeros(2, 3, 1, 1)
    assert encoder(model, None) is model
    assert encoder(model, "short")(images).tolist() == [[2], [5]]
    camids = torch.tensor([1, 2])
    assert encoder(model, "short")(images, camids=camids).tolist() == [[3], [7]]
    both = encoder(model, "long+short")(images, camids=camids)
    torch.testing.assert_close(both, torch.tensor([[0.6, 0.8, 1.0]] * 2))


class Left:
    """``plane``: red and green of the left pixel, ``line``: its blue."""

    trunk = SimpleNamespace(feature_dims={"plane": 2, "line": 1})

    def features(self, images: Tensor) -> dict[str, Tensor]:
        return {"plane": images[:, :2, 0, 0], "line": images[:, 2:, 0, 0]}


@pytest.mark.parametrize(
    ("feature", "flip", "expected"),
    [
        ("plane+line", False, [[1, 0, 1], [1, 0, 1]]),
        # (0.8, 0) and (0, 0.6) make (0.8, 0.6); (0.2, 0) and (0.2, 0.8) make (0.4, 0.8)
        ("plane+line", True, [[0.8, 0.6, 1], [0.2**0.5, 0.8**0.5, 1]]),
        ("line+plane", True, [[1, 0.8, 0.6], [1, 0.2**0.5, 0.8**0.5]]),
        ("plane", True, [[0.8, 0.6], [0.4, 0.8]]),
        ("line", True, [[0.6], [1.4]]),
    ],
)
def test_views_are_added_before_each_part_has_length_1(feature: str, flip: bool, expected: list):
    left, right = np.array([[204, 0, 51], [51, 0, 102]]), np.array([[0, 153, 102], [51, 204, 255]])
    pixels = np.stack([left, right], axis=1)[:, None].astype(np.uint8)  # 2 images, 1 by 2 pixels
    runtime = Runtime.create("cpu", "fp32")
    encode, joined = compared(cast("Any", Left()), feature)
    found = embed(encode, pixels, [0, 1], runtime=runtime, flip=flip, joined=joined)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("feature", ["", "+", "shor", "short+short", "short,long"])
def test_other_names(model: Any, feature: str):
    with pytest.raises(ReidpipeError, match=r"expected one of long, short, or different ones"):
        encoder(model, feature)


@pytest.mark.parametrize(
    ("recipe", "names"),
    [
        # with a table of cameras whose length the data says
        ("clip-reid-vit-sie-olp-veri", ["embedding", "feature", "last", "projected"]),
        ("clip-reid-tiny", ["embedding", "feature", "last", "projected"]),
        ("baseline-tiny", ["embedding", "global"]),
    ],
)
def test_what_a_recipe_has_is_known_before_it_is_trained(recipe: str, names: list[str]):
    plain = load_recipe(recipe).plain()
    before = torch.get_rng_state()
    check_feature(plain, "+".join(names))
    with pytest.raises(ReidpipeError, match=f"expected one of {', '.join(names)}, or"):
        check_feature(plain, "levels")
    assert torch.equal(torch.get_rng_state(), before)


def test_order_is_kept():
    assert read_feature("b+a", {"a": 1, "b": 2}) == ["b", "a"]
