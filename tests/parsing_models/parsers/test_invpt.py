"""InvPT: recorded outputs of the authors' code, its input, loading and refusing weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from parsing_models import load_parser
from parsing_models.networks.invpt.network import UNUSED, InvPT, Sizes
from parsing_models.parsers.catalogue import CATALOGUE
from parsing_models.parsers.interface import Parser, Preprocessing
from parsing_models.parsers.invpt import Centred, build
from pipeline.images.normalisation import IMAGENET_MEAN, IMAGENET_STD
from pipeline.labels.sets import LIP, PASCAL
from pipeline.terminal.errors import ReidpipeError

SMALL = Sizes(grid=8, patch=4, width=64, depth=4, heads=1, features=8, tokens=16)
# Shares of the largest absolute value of what is compared.
CLOSE = 1e-4
PIXELS = 0.999


def error(found: torch.Tensor, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def recorded(golden: Callable[[str], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return golden("invpt_vitl.npz")


def padding_only(upscale: bool) -> Parser:
    """A parser that shows its input; the network gives no information."""
    return Parser(
        network=lambda x: x.new_zeros(len(x), 7, 128, 128),
        label_set=PASCAL,
        preprocessing=Preprocessing((512, 512), "rgb", IMAGENET_MEAN, IMAGENET_STD),
        device=torch.empty(0).device,
        name="invpt",
        placement=Centred(upscale),
    )


@pytest.mark.slow
def test_recorded_outputs_of_the_published_sizes(shared: Path, golden_state, recorded, fill):
    """One test, so the 423 million weights exist once: a whole image, then a crop."""
    state = golden_state("invpt_vitl.keys.json")
    rule = json.loads((shared / "golden" / "invpt_vitl.rule.json").read_text())
    for key, factor in rule["scale"].items():
        state[key] = state[key] * np.float32(factor)
    for key, values in rule["set"].items():
        state[key] = np.array(values, dtype=np.float32)
    model = {f"module.{key}": torch.from_numpy(state.pop(key)) for key in list(state)}
    # As published: the weights beside the optimizer's and the scheduler's state.
    file = {"optimizer": {}, "scheduler": {}, "model": model, "epoch": 0, "iter_count": 1}
    parser = load_parser("invpt", file, upscale=False)
    del file, model, state
    network: Any = parser.network
    assert network.network.sizes == Sizes()

    inputs = parser.to_input([fill.image("invpt_input_a", (512, 512, 3))])
    assert np.array_equal(inputs[0, :, ::16, ::16].numpy(), recorded["a_input_s16"])
    with torch.inference_mode():
        out = network.network(inputs)
    errors = {
        "head": error(out.logits["human_parts"][0, :, ::4, ::4], recorded["a_human_parts_head_s4"]),
        "inter": error(out.preliminary["human_parts"][0], recorded["a_inter_human_parts"]),
    }
    for task in ("semseg", "sal", "edge", "normals"):
        full = F.interpolate(out.logits[task], (512, 512), mode="bilinear", align_corners=False)
        errors[task] = error(full[0, :, ::32, ::32], recorded[f"a_{task}_s32"])
    assert max(errors.values()) < CLOSE, errors
    parts = F.interpolate(
        out.logits["human_parts"], (512, 512), mode="bilinear", align_corners=False
    )
    labels = parts[0].argmax(0)[::2, ::2].numpy()
    assert (labels == recorded["a_human_parts_labels_s2"]).mean() >= PIXELS

    crop = recorded["c64_image"]
    with torch.inference_mode():
        (logits,) = parser.logits(parser.to_input([crop]))
    parser.network = lambda _: logits
    maps = parser.parse([crop], None)
    assert (maps.label[0] == recorded["c64_labels"]).mean() >= PIXELS
    top, left, height, width = recorded["c64_box_yxhw"].tolist()
    full = F.interpolate(logits, (512, 512), mode="bilinear", align_corners=False)[0]
    cut = full[:, top : top + height, left : left + width]
    assert error(cut[:, ::4, ::4], recorded["c64_logits_s4"]) < CLOSE


def test_recorded_crop_is_padded_as_the_authors_do(recorded, fill):
    crop = recorded["c64_image"]
    assert np.array_equal(crop, fill.image("crop_c64", (128, 64, 3)))
    parser = padding_only(upscale=False)
    inputs = parser.to_input([crop])[0]
    top, left, height, width = recorded["c64_box_yxhw"].tolist()
    assert parser.placement.similarity((128, 64), (512, 512)).cells == (top, left, height, width)
    inside = inputs[:, top : top + height, left : left + width]
    assert np.array_equal(inside[:, ::4, ::4].numpy(), recorded["c64_input_crop_s4"])
    rest = inputs.clone()
    rest[:, top : top + height, left : left + width] = 0
    assert not rest.any()
    mean, std = inputs.mean((1, 2)), inputs.std((1, 2), correction=0)
    stats = recorded["c64_input_stats"]
    assert np.allclose(torch.stack([mean, std], 1), stats[:, :2], atol=1e-5)
    assert np.array_equal(inputs.amax((1, 2)), stats[:, 4])


def test_upscaled_crops_are_480_high_and_keep_their_aspect():
    placement = Centred()
    found = placement.similarity((128, 64), (512, 512))
    assert found.scale == 3.75 and found.cells == (16, 136, 480, 240)
    # Half-integer centres: the corner (-0.5, -0.5) of the crop is the corner of its rectangle.
    assert (found.top - 0.5 * 3.75, found.left - 0.5 * 3.75) == (15.5, 135.5)
    assert placement.similarity((64, 128), (512, 512)).cells == (136, 16, 240, 480)
    assert placement.similarity((960, 100), (512, 512)).cells == (16, 231, 480, 50)
    image = np.full((128, 64, 3), (10, 120, 250), dtype=np.uint8)
    inputs = padding_only(upscale=True).to_input([image])[0]
    expected = (torch.tensor([10.0, 120, 250]) / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(
        IMAGENET_STD
    )
    inside = inputs[:, 16:496, 136:376]
    assert torch.allclose(inside, expected[:, None, None].expand_as(inside), atol=1e-6)
    assert not inputs[:, :16].any() and not inputs[:, 496:].any()
    assert not inputs[:, :, :136].any() and not inputs[:, :, 376:].any()


def test_upscaling_equals_bilinear_resizing():
    image = np.random.default_rng(0).integers(0, 256, (120, 60, 3), dtype=np.uint8)
    inputs = padding_only(upscale=True).to_input([image])[0, :, 16:496, 136:376]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    resized = F.interpolate(pixels, (480, 240), mode="bilinear", align_corners=False)[0]
    back = (
        inputs * torch.tensor(IMAGENET_STD)[:, None, None]
        + torch.tensor(IMAGENET_MEAN)[:, None, None]
    ) * 255
    assert (back - resized).abs().max() < 0.51  # rounded to whole numbers


@given(st.integers(1, 2000), st.integers(1, 2000), st.booleans())
def test_every_image_fits_and_nothing_small_is_resized_without_upscaling(
    height: int, width: int, upscale: bool
):
    found = Centred(upscale).similarity((height, width), (512, 512))
    assert found.cells is not None
    top, left, rows, columns = found.cells
    assert top >= 0 and left >= 0 and top + rows <= 512 and left + columns <= 512
    assert rows >= 1 and columns >= 1
    if upscale:
        assert max(rows, columns) == 480
    elif max(height, width) <= 512:
        assert found.scale == 1 and (rows, columns) == (height, width)
        assert (found.top, found.left) == ((512 - height) // 2, (512 - width) // 2)
    else:
        assert max(rows, columns) == 512


@pytest.mark.parametrize("upscale", [True, False])
@pytest.mark.parametrize("size", [(40, 20), (128, 64), (31, 90), (700, 300)])
def test_maps_are_cut_back_to_the_image(upscale: bool, size: tuple[int, int]):
    """Red is a head, padding is a torso: no cell of a map may show the padding."""
    parser = padding_only(upscale)

    def network(x: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(x), 7, *x.shape[2:])
        logits[:, 1] = 8 * x[:, 0]
        logits[:, 2] = 50 * (x == 0).all(1)
        return logits

    parser.network = network
    image = np.zeros((*size, 3), np.uint8)
    image[: size[0] // 2, :, 0] = 255
    (own,) = parser.parse([image], None).label
    assert own.shape == size
    half = size[0] // 2
    assert (own[: half - 1] == 1).all() and (own[half + 1 :] == 0).all()
    (grid,) = parser.parse([image]).label
    assert (grid[:110] == 1).all() and (grid[146:] == 0).all()


def random_state(sizes: Sizes = SMALL, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.rand(value.shape, generator=generator) - (0 if "var" in key else 0.5)
        for key, value in InvPT(sizes).state_dict().items()
    }


UNREAD = {
    "multi_task_decoder.invpt.norm_mt.weight": torch.ones(20),
    "multi_task_decoder.scale_embed.2.weight": torch.ones(16, 64, 3, 3),
    "multi_task_decoder.invpt.redu_chan.0.4.bias": torch.ones(16),
    "multi_task_decoder.invpt.invpt_stages.0.blocks.0.attn.fuse_attn.bias": torch.ones(2),
}


def test_every_recorded_key_is_built_or_known_to_be_unread(shared: Path):
    recorded_keys = json.loads((shared / "golden" / "invpt_vitl.keys.json").read_text())
    with torch.device("meta"):
        own = {key: list(value.shape) for key, value in InvPT().state_dict().items()}
    assert {key: shape for key, (shape, _) in recorded_keys.items() if key in own} == own
    unread = sorted(set(recorded_keys) - set(own))
    assert len(unread) == 16
    assert all(any(fnmatchcase(key, pattern) for pattern in UNUSED) for key in unread)


def test_shapes_tasks_and_determinism():
    network = build(random_state())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        out, again = network(images), network(images)
        alone = network(images[1:], tasks=("human_parts",))
    for name, channels in SMALL.tasks:
        assert out.logits[name].shape == (2, channels, 32, 32)
        assert out.preliminary[name].shape == (2, channels, 4, 4)
        assert torch.equal(out.logits[name], again.logits[name])
    assert set(alone.logits) == {"human_parts"} and set(alone.preliminary) == set(out.preliminary)
    assert torch.allclose(alone.logits["human_parts"], out.logits["human_parts"][1:], atol=1e-5)


def test_tasks_exchange_information():
    """Changing what only the edge task sees must move the human parts: tokens attend jointly."""
    state = random_state()
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        before = build(state)(images, ["human_parts"]).logits["human_parts"]
        state["multi_task_decoder.preliminary_decoder.edge.0.bn1.bias"] += 1
        after = build(state)(images, ["human_parts"]).logits["human_parts"]
    assert (before - after).abs().max() > 1e-4


def test_sizes_are_read_off_the_weights():
    assert Sizes.of(random_state()) == SMALL
    assert Sizes.of({}) == Sizes()


def test_published_wrapping_is_opened_and_unread_entries_are_ignored(caplog):
    state = random_state()
    plain = load_parser("invpt", state)
    model = {f"module.{key}": value for key, value in {**state, **UNREAD}.items()}
    file = {"optimizer": {"state": {}}, "scheduler": {}, "model": model, "epoch": 3}
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        wrapped = load_parser("invpt", file)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "CC BY-NC 4.0" in caplog.text and "not for commercial use" in caplog.text
    image = np.random.default_rng(0).integers(0, 256, (128, 64, 3), dtype=np.uint8)
    maps, same = plain.parse([image]), wrapped.parse([image])
    assert np.array_equal(maps.label, same.label) and maps.label[0].shape == (256, 128)
    assert maps.label[0].max() < 7 and len(np.unique(maps.label)) > 1


def test_what_the_cache_records():
    parser = load_parser("invpt", random_state())
    assert parser.label_set == PASCAL and parser.input_size == (32, 32)
    found = parser.attributes()
    assert found["align_corners"] is False and found["channel_order"] == "rgb"
    assert found["upscale"] is True and "not the authors'" in found["warp"]
    assert "CC BY-NC 4.0" in found["licence"] and CATALOGUE["invpt"].licence == "CC BY-NC 4.0"
    theirs = load_parser("invpt", random_state(), upscale=False).attributes()
    assert theirs["upscale"] is False and "not resized" in theirs["warp"]
    assert json.loads(json.dumps(found)) == found


def test_a_head_for_other_labels():
    sizes = Sizes(**{**SMALL.__dict__, "tasks": (("semseg", 21), ("human_parts", 20))})
    state = random_state(sizes)
    assert Sizes.of(state) == sizes
    assert load_parser("invpt", state, label_set="lip").label_set == LIP
    with pytest.raises(ReidpipeError, match="20 classes; expected 7"):
        load_parser("invpt", state)


def test_weights_of_another_network_are_refused_by_name():
    state = random_state()
    del state["heads.human_parts.linear_pred.bias"]
    state["heads.depth.linear_pred.bias"] = torch.zeros(1)
    message = "'heads.human_parts.linear_pred.bias'.*'heads.depth.linear_pred.bias'"
    with pytest.raises(ReidpipeError, match=message) as caught:
        load_parser("invpt", state)
    assert "\n" not in str(caught.value)
    state = random_state()
    state["multi_task_decoder.invpt.mix_proj.sal.0.bias"] = torch.zeros(3)
    with pytest.raises(ReidpipeError, match=r"mix_proj.sal.0.bias' \(3,\) instead of \(16,\)"):
        load_parser("invpt", state)


def test_options_and_scales_are_checked(tmp_path: Path):
    with pytest.raises(ReidpipeError, match="did you mean 'upscale'"):
        load_parser("invpt", random_state(), upscal=False)
    with pytest.raises(ReidpipeError, match="upscale='no'.*expected true or false"):
        load_parser("invpt", random_state(), upscale="no")
    parser = load_parser("invpt", random_state())
    with pytest.raises(ReidpipeError, match="24x24; expected 32x32, the only size InvPT takes"):
        parser.parse([np.zeros((8, 4, 3), np.uint8)], scales=(0.75, 1.0))


def test_missing_weights_are_described(tmp_path: Path, monkeypatch: Any):
    monkeypatch.delenv("REIDPIPE_WEIGHTS", raising=False)
    monkeypatch.setenv("REIDPIPE_WORKSPACE", str(tmp_path))
    with pytest.raises(ReidpipeError, match="prismformore/Multi-Task-Transformer") as caught:
        load_parser("invpt")
    assert "\n" not in str(caught.value)
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save({"model": random_state(), "epoch": 1}, folder / "invpt.pth")
    assert load_parser("invpt").input_size == (32, 32)
