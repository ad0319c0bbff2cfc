"""SOLIDER's parser: recorded outputs of the authors' code, its semantic weight, its files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from parsing_models import load_parser
from parsing_models.networks.schp.network import Widths
from parsing_models.networks.solider import Solider, SoliderSizes
from parsing_models.networks.swin import SwinSizes
from parsing_models.parsers.interface import Parser
from parsing_models.parsers.solider import HEADS, backbone_state, build
from parsing_models.parsers.warp import to_grid
from pipeline.images.normalisation import IMAGENET_MEAN, IMAGENET_STD
from pipeline.labels.sets import ATR, CIHP, LIP
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import load_strict

SMALL = SoliderSizes(
    SwinSizes(dim=8, depths=(1, 2, 1, 1), heads=(1, 2, 2, 4)),
    Widths(context=8, head=8, skip=4, edge=4),
)
LOGITS = 1e-4
PIXELS = 0.999

Recorded = dict[str, np.ndarray]
State = dict[str, torch.Tensor]


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float((a == b).mean())


@pytest.fixture(scope="module")
def recorded(golden: Callable[[str], Recorded]) -> Recorded:
    return golden("solider_swin_tiny.npz")


@pytest.fixture(scope="module")
def parser(shared: Path, golden_state) -> Parser:
    """The recorded parser, from a checkpoint as the authors' training writes it."""
    state = golden_state("solider_swin_tiny.keys.json")
    rule = json.loads((shared / "golden" / "solider_swin_tiny.rule.json").read_text())
    for key, factor in rule["scale"].items():
        state[key] = state[key] * np.float32(factor)
    for key, values in rule["set"].items():
        state[key] = np.array(values, dtype=np.float32)
    module = {f"module.{key}": torch.from_numpy(value) for key, value in state.items()}
    # The recorded file has zeros where the index of the attention bias is: it must not be read.
    assert not module["module.stages.0.blocks.0.attn.w_msa.relative_position_index"].any()
    file = {"state_dict": module, "cycle_n": 4}
    return load_parser("solider", file, semantic_weight=rule["semantic_weight"])


@pytest.fixture(scope="module")
def image(fill) -> torch.Tensor:
    pixels = torch.from_numpy(fill.image("solider_input_a", (572, 384, 3))).permute(2, 0, 1)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((pixels.float() / 255 - mean) / std)[None]


def network_of(parser: Parser) -> Solider:
    network = parser.network.network  # type: ignore[attr-defined]
    assert isinstance(network, Solider)
    return network


def test_recorded_input_gives_the_recorded_heads(parser, recorded, image):
    assert np.array_equal(image[0, :, ::16, ::16].numpy(), recorded["a_input_s16"])
    with torch.inference_mode():
        out = network_of(parser)(image)
        resized = F.interpolate(out.fusion, (572, 384), mode="bilinear", align_corners=True)
    for name in ("fusion", "parsing", "edge"):
        logits = getattr(out, name)[0].numpy()
        expected = recorded[f"a_{name}_logits_s8"]
        assert np.abs(logits[:, ::8, ::8] - expected).max() < LOGITS * np.abs(expected).max()
    assert agreement(out.fusion[0].argmax(0).numpy(), recorded["a_labels_raw"]) >= PIXELS
    labels = resized[0].argmax(0)[::2, ::2].numpy()
    assert agreement(labels, recorded["a_labels_s2"]) >= PIXELS


@pytest.mark.slow
def test_recorded_semantic_weight_of_zero(parser, recorded, image):
    network = build(network_of(parser).state_dict() | {"semantic_weight": torch.tensor(0.0)})
    with torch.inference_mode():
        logits = network(image).fusion[0, :, ::8, ::8].numpy()
    expected = recorded["a_fusion_logits_s8_sw0"]
    assert np.abs(logits - expected).max() < LOGITS * np.abs(expected).max()
    assert np.abs(logits - recorded["a_fusion_logits_s8"]).max() > 6


@pytest.mark.slow
def test_recorded_crop_through_the_warp(parser, recorded, fill):
    crop = recorded["c64_image"]
    assert np.array_equal(crop, fill.image("crop_c64", (128, 64, 3)))
    inputs = parser.to_input([crop])
    std = np.array(IMAGENET_STD)[:, None, None]
    levels = np.abs(inputs[0, :, ::16, ::16].numpy() - recorded["c64_input_s16"]) * std * 255
    # The authors' box is in float32: a rounding falls the other way in a pixel here and there.
    assert levels.max() < 1.01 and (levels > 0.01).mean() < 0.002
    with torch.inference_mode():
        warped = to_grid(parser.logits(inputs)[0], (572, 384), (128, 64), (128, 64))[0]
    assert agreement(warped.argmax(0).numpy(), recorded["c64_labels"]) >= PIXELS
    strided = warped[:, ::4, ::4].permute(1, 2, 0).numpy()
    assert np.abs(strided - recorded["c64_logits_s4"]).max() < 0.01


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("tiny", SwinSizes(96, (2, 2, 6, 2), (3, 6, 12, 24))),
        ("small", SwinSizes(96, (2, 2, 18, 2), (3, 6, 12, 24))),
        ("base", SwinSizes(128, (2, 2, 18, 2), (4, 8, 16, 32))),
    ],
)
def test_published_sizes_are_told_apart(shared: Path, name, sizes):
    keys = json.loads((shared / "golden" / f"solider_swin_{name}.keys.json").read_text())
    state = {key: torch.zeros(()).expand(shape) for key, (shape, _) in keys.items()}
    found = SoliderSizes.of(state)
    network = Solider(found, semantic_weight=0.0)
    assert found.backbone == sizes
    own = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert own == {key: shape for key, (shape, _) in keys.items()} | {"semantic_weight": []}
    backbone = {key: value for key, value in state.items() if key.startswith(("stages", "patch"))}
    assert SoliderSizes.of(backbone) == found  # heads of the published sizes follow from it


def random_state(
    seed: int = 0, *, semantic_weight: float | None = None, classes: int = 20
) -> State:
    sizes = SoliderSizes(SMALL.backbone, Widths(classes, context=8, head=8, skip=4, edge=4))
    generator = torch.Generator().manual_seed(seed)
    state = {
        key: torch.rand(value.shape, generator=generator) - (0 if "var" in key else 0.5)
        for key, value in Solider(sizes, semantic_weight=0.0).state_dict().items()
        if not key.endswith(("num_batches_tracked", "relative_position_index", "semantic_weight"))
    }
    if semantic_weight is not None:
        state["semantic_weight"] = torch.tensor(semantic_weight)
    return state


def refusal(*arguments, **options) -> str:
    with pytest.raises(ReidpipeError) as caught:
        load_parser("solider", *arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_plain_state_dict_is_a_parser_with_all_options():
    parser = load_parser("solider", random_state(), semantic_weight=0.8, input_size=(72, 48))
    assert parser.label_set == LIP
    facts = parser.attributes()
    assert facts["semantic_weight"] == 0.8 and facts["channel_order"] == "rgb"
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 24, 3), np.uint8)
    maps = parser.parse(images, (20, 12), flip=True, scales=(0.75, 1.0))
    assert np.asarray(maps.label).shape == (2, 20, 12)
    # Averaged with its mirror image, a parser is symmetric: sides swap when the image does.
    mirrored = parser.parse(images[:, :, ::-1], (20, 12), flip=True, scales=(0.75, 1.0))
    swapped = LIP.flip_order[np.asarray(mirrored.label)[:, :, ::-1]]
    assert agreement(np.asarray(maps.label), swapped) > 0.99
    assert len(np.unique(maps.label)) > 1
    assert load_parser("solider", random_state(), semantic_weight=0).input_size == (572, 384)


def test_the_semantic_weight_is_never_assumed():
    message = refusal(random_state())
    assert "0.8" in message and "0.0" in message and "semantic_weight=" in message
    own = random_state(semantic_weight=0.3)
    assert load_parser("solider", own).facts["semantic_weight"] == 0.3
    assert load_parser("solider", own, semantic_weight=0.3).facts["semantic_weight"] == 0.3
    assert "weights trained at 0.3" in refusal(own, semantic_weight=0.8)
    for wrong in (True, "0.8", 1.5, float("nan")):
        assert "a number from 0 to 1" in refusal(random_state(), semantic_weight=wrong)


def test_weights_trained_without_a_controller_need_none():
    state = {k: v for k, v in random_state().items() if not k.startswith("semantic_embed_")}
    assert load_parser("solider", state, semantic_weight=-1).facts["semantic_weight"] == -1
    assert "first 'semantic_embed_w.0.weight'" in refusal(state, semantic_weight=0.8)


def test_our_own_file_says_its_semantic_weight(tmp_path: Path):
    network = build(random_state(), semantic_weight=0.8)
    save_file(network.state_dict(), tmp_path / "solider.safetensors")
    parser = load_parser("solider", tmp_path)
    assert parser.facts["semantic_weight"] == 0.8 and len(parser.facts["weights_sha256"]) == 64
    x = torch.rand(1, 3, 48, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(network_of(parser)(x).fusion, network(x).fusion, atol=1e-5)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "teacher"])
def test_wrapped_checkpoints_load(tmp_path: Path, wrapper):
    state = random_state()
    module = {f"module.{key}": value for key, value in state.items()}
    path = tmp_path / "schp_4_checkpoint.pth.tar"
    torch.save({wrapper: module, "cycle_n": 4}, path)
    loaded = network_of(load_parser("solider", path, semantic_weight=0.8)).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_classes_come_from_the_file():
    atr = random_state(classes=18)
    assert load_parser("solider", atr, semantic_weight=0, label_set="atr").label_set == ATR
    assert "18 classes; expected 20" in refusal(atr, semantic_weight=0)
    cihp = load_parser("solider", random_state(), semantic_weight=0, label_set="cihp")
    assert cihp.label_set == CIHP
    assert "did you mean 'semantic_weight'" in refusal(atr, semantic_weigth=0.8)


def test_other_networks_are_refused_by_name():
    state = random_state()
    del state["fushion.4.bias"]
    state["head.weight"] = torch.zeros(1)
    message = refusal(state, semantic_weight=0)
    assert "'fushion.4.bias'" in message and "'head.weight'" in message
    assert "another network" in refusal({"conv1.weight": torch.zeros(1)}, semantic_weight=0)


@pytest.fixture
def pretraining(tmp_path: Path) -> Path:
    """A file of self-supervised pre-training: two networks with heads, and the command line."""
    path = tmp_path / "checkpoint0100.pth"
    networks = {}
    for name, seed in (("student", 1), ("teacher", 2)):
        backbone = {
            f"backbone.{key}": value
            for key, value in random_state(seed).items()
            if not key.startswith(("context_encoding", "edge", "decoder", "fushion"))
        }
        networks[name] = {**backbone, "head.mlp.0.weight": torch.zeros(2, 64)}
    arguments = argparse.Namespace(arch="swin_tiny", batch_size_per_gpu=48, lr=5e-4)
    torch.save({**networks, "optimizer": {"state": {}}, "epoch": 100, "args": arguments}, path)
    return path


def test_a_pretraining_file_is_no_parser(pretraining: Path, tmp_path: Path):
    message = refusal(pretraining, semantic_weight=0.8)
    assert "backbone from pre-training" in message and "do not publish" in message
    bare = tmp_path / "backbone.pth"
    torch.save(backbone_state(pretraining), bare)
    assert "backbone from pre-training" in refusal(bare, semantic_weight=0.8)


def test_a_parser_starts_from_a_pretraining_file(pretraining: Path, tmp_path: Path):
    state = backbone_state(pretraining)
    teacher = random_state(2)
    assert state and all(torch.equal(value, teacher[key]) for key, value in state.items())
    assert not any(key.startswith(("head.", "fushion.", "backbone.")) for key in state)
    network = Solider(SoliderSizes(SMALL.backbone, SMALL.heads), semantic_weight=0.8)
    load_strict(network, state, optional=HEADS)
    own = network.state_dict()
    assert all(torch.equal(own[key], value) for key, value in state.items())
    assert float(network.semantic_weight) == pytest.approx(0.8)
    bare = tmp_path / "bare.pth"
    torch.save(state, bare)
    assert backbone_state(bare).keys() == state.keys()
    torch.save({"conv1.weight": torch.zeros(1)}, bare)
    with pytest.raises(ReidpipeError, match="another network.*patch_embed.projection.weight"):
        backbone_state(bare)


def test_missing_weights_are_told_honestly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("REIDPIPE_WEIGHTS", raising=False)
    monkeypatch.setenv("REIDPIPE_WORKSPACE", str(tmp_path))
    message = refusal()
    assert "no trained parser" in message and "schp_4_checkpoint.pth.tar" in message


def test_all_of_the_parser_trains():
    network = Solider(SMALL, semantic_weight=0.8)
    out = network(torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(0)))
    assert out.fusion.shape == out.parsing.shape == (2, 20, 16, 12)
    assert out.edge.shape == (2, 2, 16, 12)
    heads = (out.fusion, out.parsing, out.edge)
    torch.stack([each.square().sum() for each in heads]).sum().backward()
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert without == {f"semantic_embed_{k}.3.{p}" for k in "wb" for p in ("weight", "bias")}
