"""load_model: published files in every wrapping, our own folders, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import reid_train
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import save_model
from reid_train.exchange.importers import FORMATS, import_checkpoint
from reid_train.models.clip.visual import ClipVit
from reid_train.models.deployable import build_model
from reid_train.models.heads import CosineSoftmax

SPEC = {
    "trunk": "slicenet2",
    "options": {"dropout": 0.1},
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.3, 0.4],
    "input_size": [64, 32],
}


@pytest.fixture
def state(golden_state):
    return {k: torch.as_tensor(v) for k, v in golden_state("col780_slicenet1.keys.json").items()}


@pytest.fixture
def own(tmp_path):
    """A workspace with one model and its run."""
    torch.manual_seed(0)
    model = build_model(SPEC)
    folder = tmp_path / "artifacts" / "model" / "0123abcd"
    save_model(folder, model, {"model": SPEC})
    run = tmp_path / "runs" / "slicenet2-toy"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"model_key": "0123abcd"}))
    return model.eval(), folder, run


@pytest.mark.parametrize(
    "network", ["bignet", "slicenet1", "slicenet1_wn", "slicenet2", "slicenet2_wn"]
)
def test_col780_files_give_the_recorded_features(network, golden, golden_state, fill, tmp_path):
    expected = golden(f"col780_{network}.npz")
    weights = golden_state(f"col780_{network}.keys.json")
    file = tmp_path / f"{network}.pth"
    torch.save({k: torch.as_tensor(v) for k, v in weights.items()}, file)
    model = reid_train.load_model(file, format="col780")
    assert model.input_size == (128, 48) and not model.training
    pixels = np.stack([fill.image(name, (128, 48, 3)) for name in ("person_a", "person_b")])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        features = model(images)
        logits = import_checkpoint(file, "col780").heads["embedding"](features)
    rows = len(expected["features"])
    np.testing.assert_allclose(features[:rows], expected["features"], rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(logits[:rows], expected["logits"], rtol=1e-4, atol=2e-5)


def test_wrappers_and_prefixes_are_stripped(state):
    plain = reid_train.load_model(state, format="col780")
    images = torch.rand(2, 3, 128, 48)
    for wrapped in (
        {f"module.{key}": value for key, value in state.items()},
        {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3},
        {"model": state},
    ):
        assert torch.equal(reid_train.load_model(wrapped, format="col780")(images), plain(images))


def test_counters_may_be_absent(state):
    without = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    reid_train.load_model(without, format="col780")


def test_class_count_comes_from_the_file(state):
    state["cosine_weights"] = torch.rand(128, 7)
    head = import_checkpoint(state, "col780").heads["embedding"]
    assert isinstance(head, CosineSoftmax) and head.cosine_weights.shape == (128, 7)


def test_new_weight_norm_names_are_accepted(golden_state):
    state = {
        k: torch.as_tensor(v) for k, v in golden_state("col780_slicenet2_wn.keys.json").items()
    }
    old = import_checkpoint(state, "col780")
    state["cosine_layer.parametrizations.weight.original0"] = state.pop("cosine_layer.weight_g")
    state["cosine_layer.parametrizations.weight.original1"] = state.pop("cosine_layer.weight_v")
    new = import_checkpoint(state, "col780")
    feature = torch.rand(2, 128)
    assert torch.equal(old.heads["embedding"](feature), new.heads["embedding"](feature))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda s: s.pop("bignet.residual_6.conv_up.bias"), "bignet.residual_6.conv_up.bias"),
        (lambda s: s.pop("k"), "'k'"),
        (lambda s: s.pop("cosine_weights"), "cosine_weights"),
        (lambda s: s.update(bogus=torch.zeros(2)), "bogus"),
        (lambda s: s.update({"bignet.conv_1.0.bias": torch.zeros(5)}), "bignet.conv_1.0.bias"),
        (lambda s: s.update({"bignet.dense_10.2.weight": torch.zeros(32, 9)}), "dense_10.2.weight"),
    ],
    ids=["missing", "no k", "no classifier", "unknown", "shape", "dense shape"],
)
def test_other_networks_are_refused_by_key(state, damage, named):
    damage(state)
    with pytest.raises(ReidpipeError, match=named) as caught:
        reid_train.load_model(state, format="col780")
    assert "\n" not in str(caught.value)


def test_unknown_format_option_and_device_are_one_line(state):
    for arguments, words in (
        ({"format": "colc780"}, ["did you mean 'col780'", *FORMATS]),
        ({"format": "col780", "input_sise": (128, 48)}, ["did you mean 'input_size'"]),
        ({"format": "col780", "input_size": 5}, ["input_size=5", "expected tuple[int, int]"]),
        ({"format": "col780", "input_size": (128, 0)}, ["(128, 0)", "1 pixel at least"]),
        ({"format": "col780", "mean": "grey"}, ["mean='grey' for format col780"]),
        ({"format": "col780", "device": "gpu"}, ["gpu"]),
        ({}, ["format"]),
    ):
        with pytest.raises(ReidpipeError) as caught:
            reid_train.load_model(state, **arguments)
        assert "\n" not in str(caught.value)
        for word in words:
            assert word in str(caught.value)


def test_weights_that_are_no_numbers_are_refused(state):
    odd = {k: v * float("nan") if v.is_floating_point() else v for k, v in state.items()}
    with pytest.raises(ReidpipeError, match="found '.*' in the state dict with NaN or infinite"):
        reid_train.load_model(odd, format="col780")


def test_an_input_size_that_the_network_makes_nothing_of(golden_state):
    state = {k: torch.as_tensor(v) for k, v in golden_state("osnet_x0_25.keys.json").items()}
    with pytest.raises(ReidpipeError, match=r"found input_size \[8, 8\], of which the network"):
        reid_train.load_model(state, format="torchreid", input_size=(8, 8))


def test_constants_of_the_older_files_can_be_given(state):
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    model = reid_train.load_model(state, format="col780", mean=mean, std=std)
    usual = reid_train.load_model(state, format="col780")
    x = torch.rand(1, 3, 128, 48)
    assert torch.equal(usual(x), usual(x.double()))
    with pytest.raises(ValueError, match="images are torch.uint8; this model takes floats"):
        usual((255 * x).byte())
    again = ((x - 0.5) / 0.25) * usual.std + usual.mean
    torch.testing.assert_close(model(x), usual(again))


def test_own_models_load_from_every_place(own):
    model, folder, run = own
    images = torch.rand(2, 3, 64, 32)
    for place in (folder, run, folder / "model.json", str(folder / "model.safetensors")):
        loaded = reid_train.load_model(place)
        assert loaded.input_size == (64, 32) and not loaded.training
        assert torch.equal(loaded(images), model(images))


def test_own_models_take_no_options_and_need_their_files(own, tmp_path):
    _, folder, _ = own
    with pytest.raises(ReidpipeError, match="stride"):
        reid_train.load_model(folder, stride=12)
    (folder / "model.json").unlink()
    with pytest.raises(ReidpipeError, match=r"no model\.json"):
        reid_train.load_model(folder)
    with pytest.raises(ReidpipeError, match="nowhere"):
        reid_train.load_model(tmp_path / "nowhere", format="col780")


def test_unknown_trunk_is_one_line():
    with pytest.raises(ReidpipeError, match="did you mean 'slicenet2'"):
        build_model({**SPEC, "trunk": "slicenet3"})


def _clip_reid_state(**options):
    """A CLIP-ReID checkpoint of a small ViT, as their training script saves it."""
    torch.manual_seed(1)
    trunk = ClipVit(width=64, layers=2, heads=1, output_dim=8, **options)
    file = nn.Module()
    for name, child in trunk.named_children():
        file.add_module(name, child)
    if options.get("cameras"):
        file.register_parameter("cv_embed", trunk.cv_embed)
    for tail, dim in (("", 64), ("_proj", 8)):
        file.add_module(f"classifier{tail}", nn.Linear(dim, 5, bias=False))
        file.add_module(f"bottleneck{tail}", nn.BatchNorm1d(dim))
    extra = {
        "prompt_learner.cls_ctx": torch.zeros(5, 4, 8),
        "prompt_learner.token_prefix": torch.zeros(1, 5, 8),
        "text_encoder.ln_final.weight": torch.ones(8),
    }
    return trunk.eval(), {**file.state_dict(), **extra}


@pytest.mark.parametrize(
    ("size", "stride"), [((256, 128), 16), ((256, 128), 12), ((256, 256), 16), ((256, 256), 12)]
)
def test_clip_reid_reads_size_and_stride_off_the_file(size, stride):
    trunk, state = _clip_reid_state(input_size=size, stride=stride)
    model = reid_train.load_model(state, format="clip-reid")
    assert model.input_size == size
    x = torch.rand(1, 3, *size)
    torch.testing.assert_close(model(x), trunk((x - 0.5) / 0.5)["embedding"])
    reid_train.load_model(state, format="clip-reid", stride=stride)
    with pytest.raises(ReidpipeError, match="positional_embedding"):
        reid_train.load_model(state, format="clip-reid", stride=14)


def test_clip_reid_side_information_options():
    trunk, state = _clip_reid_state(cameras=6, sie_coefficient=3.0)
    x, camids, views = torch.rand(2, 3, 256, 128), torch.tensor([5, 2]), torch.tensor([1, 0])
    model = reid_train.load_model(state, format="clip-reid", sie_coefficient=3.0)
    expected = trunk((x - 0.5) / 0.5, camids=camids)["embedding"]
    torch.testing.assert_close(model(x, camids=camids), expected)
    both = reid_train.load_model(
        state, format="clip-reid", sie_coefficient=3.0, sie="camera-view", views=2
    )
    torch.testing.assert_close(both(x, torch.tensor([2, 1]), views), expected)
    with pytest.raises(ReidpipeError, match="views=4"):
        reid_train.load_model(state, format="clip-reid", sie="camera-view", views=4)


def test_clip_reid_refuses_what_it_does_not_know():
    _, state = _clip_reid_state()
    for key in ("image_encoder.ln_post.bias", "bottleneck_proj.running_var", "classifier.weight"):
        with pytest.raises(ReidpipeError, match=key.replace(".", r"\.")):
            reid_train.load_model({k: v for k, v in state.items() if k != key}, format="clip-reid")
    with pytest.raises(ReidpipeError, match="pooler"):
        reid_train.load_model({**state, "pooler.weight": torch.ones(2)}, format="clip-reid")


def test_package_import_is_light():
    code = "import sys, reid_train; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
