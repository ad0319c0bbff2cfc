"""SCHP: recorded outputs of the authors' code, the norm's rule, loading and refusing weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parsing_models import load_parser
from parsing_models.commands import maps_step
from parsing_models.networks.schp.network import ABN, SCHP, Widths, fold_norms
from parsing_models.parsers.interface import Parser
from parsing_models.parsers.schp import build
from parsing_models.parsers.warp import to_grid
from parsing_models.training.published import save_parser
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.labels.sets import ATR, CIHP, LIP
from pipeline.terminal.commandline import Terminal
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import save_tensors

SMALL = Widths(layers=(1, 1, 2, 1), stem=4, planes=4, context=8, head=8, skip=4, edge=4)
LOGITS = 1e-4
PIXELS = 0.999


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float((a == b).mean())


@pytest.fixture(scope="module")
def published(shared: Path, golden_state) -> dict[str, torch.Tensor]:
    """The recorded LIP checkpoint as the authors publish it: with ``module.`` before every key."""
    state = golden_state("schp_lip.keys.json")
    rule = json.loads((shared / "golden" / "schp_lip.rule.json").read_text())
    for key, factor in rule["scale"].items():
        state[key] = state[key] * np.float32(factor)
    for key, values in rule["set"].items():
        state[key] = np.array(values, dtype=np.float32)
    return {f"module.{key}": torch.from_numpy(value) for key, value in state.items()}


@pytest.fixture(scope="module")
def recorded(golden: Callable[[str], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return golden("schp_lip.npz")


@pytest.fixture(scope="module")
def parser(published) -> Parser:
    return load_parser("schp", {"state_dict": published, "epoch": torch.tensor(150)})


def test_abn_computes_what_the_compiled_one_does(golden):
    record = golden("inplace_abn.npz")
    x = torch.from_numpy(record["x"])
    for leaky, expected in ((False, "y_identity"), (True, "y_leaky")):
        norm = ABN(8, leaky=leaky).eval()
        fields = {"weight": "weight", "bias": "bias", "running_mean": "mean", "running_var": "var"}
        norm.load_state_dict({k: torch.from_numpy(record[v]) for k, v in fields.items()})
        with torch.no_grad():
            assert torch.allclose(norm(x), torch.from_numpy(record[expected]), atol=2e-6)


@pytest.mark.slow
def test_recorded_input_gives_the_recorded_heads(published, recorded, fill, parser):
    image = fill.image("schp_input_a", (473, 473, 3))
    inputs = parser.to_input([image])
    assert np.array_equal(inputs[0, :, ::16, ::16].numpy(), recorded["a_input_s16"])
    network = build({key.removeprefix("module."): value for key, value in published.items()})
    with torch.inference_mode():
        out = network(inputs)
        folded = parser.network(inputs)
    for name in ("fusion", "parsing", "edge"):
        logits = getattr(out, name)[0].numpy()
        assert np.abs(logits[:, ::8, ::8] - recorded[f"a_{name}_logits_s8"]).max() < LOGITS
    assert (folded - out.fusion).abs().max() < LOGITS
    assert agreement(out.fusion[0].argmax(0).numpy(), recorded["a_labels_raw"]) >= PIXELS
    maps = parser.parse(image[None], None)
    assert agreement(np.asarray(maps.label)[0], recorded["a_labels"]) >= PIXELS


@pytest.mark.slow
def test_recorded_crop_through_the_warp(recorded, fill, parser):
    crop = recorded["c64_image"]
    assert np.array_equal(crop, fill.image("crop_c64", (128, 64, 3)))
    inputs = parser.to_input([crop])
    assert np.array_equal(inputs[0, :, ::16, ::16].numpy(), recorded["c64_input_s16"])
    maps = parser.parse([crop], None)
    assert agreement(maps.label[0], recorded["c64_labels"]) >= PIXELS
    with torch.inference_mode():
        (flipped,) = parser.logits(inputs, flip=True)
        flipped = to_grid(flipped, (473, 473), (473, 473), (473, 473))[0, :, ::32, ::32]
        warped = to_grid(parser.logits(inputs)[0], (473, 473), (128, 64), (128, 64))[0]
    strided = warped[:, ::4, ::4].permute(1, 2, 0).numpy()
    assert np.abs(strided - recorded["c64_logits_s4"]).max() < LOGITS
    expected = recorded["c64_flip_logits_s32"].transpose(2, 0, 1)
    assert np.abs(flipped.numpy() - expected).max() < LOGITS


def test_recorded_classes_are_told_apart(golden_state):
    state = {key: torch.from_numpy(v) for key, v in golden_state("schp_atr.keys.json").items()}
    parser = load_parser("schp", state)
    assert parser.label_set == ATR and parser.input_size == (512, 512)


def random_state(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = SCHP(SMALL).state_dict()
    return {
        key: torch.rand(value.shape, generator=generator) - (0 if "var" in key else 0.5)
        for key, value in state.items()
    }


def test_sizes_are_read_off_the_weights():
    assert Widths.of(random_state()) == SMALL


def test_folding_keeps_the_output_even_with_negative_scales():
    network = build(random_state())
    x = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = network(x)
        after = fold_norms(network)(x)
    assert not any(isinstance(module, ABN) for module in network.modules())
    scale = before.fusion.abs().max()
    assert (after.fusion - before.fusion).abs().max() < 1e-5 * scale
    assert (after.edge - before.edge).abs().max() < 1e-5 * before.edge.abs().max()


def test_output_is_a_quarter_of_the_input():
    out = SCHP(SMALL)(torch.zeros(2, 3, 96, 48))
    assert out.fusion.shape == out.parsing.shape == (2, 20, 24, 12)
    assert out.edge.shape == (2, 2, 24, 12)


def test_weights_of_another_network_are_refused_by_name():
    state = random_state()
    del state["fushion.3.weight"]
    state["head.conv.weight"] = torch.zeros(1)
    with pytest.raises(ReidpipeError, match="'fushion.3.weight'.*'head.conv.weight'") as caught:
        load_parser("schp", state)
    assert "\n" not in str(caught.value)
    with pytest.raises(ReidpipeError, match="missing keys, first 'conv1.weight'"):
        load_parser("schp", {"patch_embed.proj.weight": torch.zeros(1)})


def test_options_and_kinds_are_checked():
    assert load_parser("schp", random_state(), label_set="cihp").label_set == CIHP
    assert load_parser("schp", random_state(), input_size=(64, 32)).input_size == (64, 32)
    with pytest.raises(ReidpipeError, match="did you mean 'schp-tiny'"):
        load_parser("shcp-tiny")
    with pytest.raises(ReidpipeError, match="did you mean 'label_set'"):
        load_parser("schp", random_state(), labelset="lip")
    with pytest.raises(ReidpipeError, match="20 classes; expected 18"):
        load_parser("schp", random_state(), label_set="atr")


def test_trained_weights_say_their_labels_and_input_themselves(tmp_path: Path):
    network = build(random_state())
    for folder in (tmp_path, tmp_path / "again"):
        folder.mkdir(exist_ok=True)
        save_parser(folder, network, CIHP, (64, 32), {"seed": 0})
    file = tmp_path / "model.safetensors"
    assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()
    for kind in ("schp", "schp-tiny"):
        parser = load_parser(kind, file)
        assert (parser.label_set, parser.input_size) == (CIHP, (64, 32))
    assert load_parser("schp", file, input_size=(32, 32)).input_size == (32, 32)
    with pytest.raises(ReidpipeError, match="label_set=lip for weights trained on labels of cihp"):
        load_parser("schp", file, label_set=LIP)

    # The key of its maps is that of the options typed.
    terminal, index = Terminal(Workspace(tmp_path), as_json=True), Step("index", {"dataset": "a"})
    step = maps_step(terminal, index, "schp", weights=file)
    assert step.params["options"] == {"label_set": "cihp", "input_size": [64, 32]}
    typed = ("input_size=[64,32]", "label_set=cihp")
    assert maps_step(terminal, index, "schp", weights=file, settings=typed).key == step.key
    with pytest.raises(ReidpipeError, match="label_set=lip for weights"):
        maps_step(terminal, index, "schp", weights=file, settings=("label_set=lip",))
    other = tmp_path / "other.safetensors"
    save_tensors(other, network.state_dict())
    assert maps_step(terminal, index, "schp", weights=other).params["options"] == {}
    assert load_parser("schp", other).label_set == LIP
    for text in ("[", '{"label_set": 3}', '{"colour": 3}', "7"):
        save_tensors(other, network.state_dict(), inside={"reidpipe": text})
        with pytest.raises(ReidpipeError, match=r"other\.safetensors"):
            load_parser("schp", other)


def test_files_are_found_where_the_message_says(tmp_path: Path, monkeypatch: Any):
    monkeypatch.delenv("REIDPIPE_WEIGHTS", raising=False)
    monkeypatch.setenv("REIDPIPE_WORKSPACE", str(tmp_path))
    with pytest.raises(ReidpipeError, match="exp-schp-201908261155-lip.pth") as caught:
        load_parser("schp")
    message = str(caught.value)
    assert "\n" not in message and "267 MB" in message and "--model schp-tiny" in message
    assert str(tmp_path / "weights") in message
    folder = tmp_path / "weights"
    folder.mkdir()
    name = "exp-schp-201908261155-lip.pth"
    module = {f"module.{key}": value for key, value in random_state().items()}
    torch.save({"state_dict": module, "cycle_n": 4}, folder / name)
    assert load_parser("schp").label_set == LIP
    assert load_parser("schp", folder).facts == load_parser("schp", folder / name).facts
    monkeypatch.setenv("REIDPIPE_WORKSPACE", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("REIDPIPE_WEIGHTS", str(folder))
    assert len(load_parser("schp").facts["weights_sha256"]) == 64
    with pytest.raises(ReidpipeError, match="found no file"):
        load_parser("schp", tmp_path / "absent.pth")
