"""Published files of PCL-CLIP, Simple-ReID and IANet: recorded features, counts, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation import evaluate_distances
from reid_train.exchange.importers import import_checkpoint, load_model
from reid_train.models.clip.visual import ClipVit
from reid_train.models.ianet import IANet
from reid_train.models.resnet import ResNet50


def test_pcl_clip_gives_the_recorded_features(golden, golden_state, fill):
    expected = golden("pcl_clip_vit_b16.npz")
    state = {k: torch.as_tensor(v) for k, v in golden_state("pcl_clip_vit_b16.keys.json").items()}
    rows = len(expected["feature"])
    names = [str(name) for name in expected["image_names"][:rows]]
    pixels = np.stack([fill.image(name, tuple(expected["image_shape"])) for name in names])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    model = load_model(state, format="pcl-clip")
    assert model.input_size == (256, 128)
    with torch.no_grad():
        feature = model(images)
    np.testing.assert_allclose(feature, expected["feature"], atol=1e-4)
    np.testing.assert_allclose(F.normalize(feature), expected["feature_l2"], atol=1e-5)


def _pcl_clip_state(classes=5, **options):
    torch.manual_seed(1)
    trunk = ClipVit(width=64, layers=2, heads=1, output_dim=8, **options).eval()
    file = nn.Module()
    for name, child in trunk.named_children():
        file.add_module(name, child)
    if options.get("cameras"):
        file.register_parameter("cv_embed", trunk.cv_embed)
    for name, dim in (("bottleneck", 64), ("bottleneck_proj", 8)):
        norm = nn.BatchNorm1d(dim)
        nn.init.uniform_(norm.weight)
        nn.init.uniform_(norm.bias)
        norm.running_mean = torch.rand(dim)
        file.add_module(name, norm.eval())
    file.add_module("classifier", nn.Linear(72, classes, bias=False))
    return trunk, file, file.state_dict()


def test_pcl_clip_normalises_each_half():
    trunk, file, state = _pcl_clip_state()
    x = torch.rand(2, 3, 256, 128)
    with torch.no_grad():
        features = trunk((x - 0.5) / 0.5)
        halves = [
            file.get_submodule("bottleneck")(features["feature"]),
            file.get_submodule("bottleneck_proj")(features["projected"]),
        ]
        found = import_checkpoint(state, "pcl-clip")
        embedding = found.model.eval()(x)
        torch.testing.assert_close(embedding, torch.cat(halves, 1))
        logits = found.heads["embedding"](embedding)
    torch.testing.assert_close(logits, embedding @ state["classifier.weight"].T)


@pytest.mark.parametrize(("size", "stride"), [((256, 128), 12), ((256, 256), 16)])
def test_pcl_clip_reads_size_stride_and_cameras_off_the_file(size, stride):
    trunk, _, state = _pcl_clip_state(input_size=size, stride=stride, cameras=6)
    found = import_checkpoint(state, "pcl-clip", sie_coefficient=3.0)
    assert found.model.input_size == size
    tower = found.model.trunk.get_submodule("trunk")
    assert isinstance(tower, ClipVit) and tower.cameras == 6 and tower.sie_coefficient == 3.0
    assert torch.equal(tower.cv_embed, trunk.cv_embed)


def _simple_reid_state():
    torch.manual_seed(2)
    trunk = ResNet50()
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    state = {}
    for key, value in trunk.state_dict().items():
        first, _, rest = key.partition(".")
        state[f"base.{numbers[first]}.{rest}" if first in numbers else key] = value
    return state


def test_simple_reid_reads_the_authors_layout_at_any_size():
    state = _simple_reid_state()
    model = load_model({f"module.{k}": v for k, v in state.items()}, format="simple-reid")
    assert model.input_size == (256, 128)
    wide = load_model(state, format="simple-reid", input_size=(64, 64))
    with torch.no_grad():
        assert wide(torch.rand(1, 3, 64, 64)).shape == (1, 2048)


def test_ianet_takes_its_number_of_identities_from_the_file():
    state = {
        **IANet().state_dict(),
        "classifier.weight": torch.rand(7, 2048),
        "classifier.bias": torch.rand(7),
    }
    head = import_checkpoint(state, "ianet").heads["embedding"]
    x = torch.rand(2, 2048)
    expected = F.linear(x, state["classifier.weight"], state["classifier.bias"])
    torch.testing.assert_close(head(x), expected)
    without = {k: v for k, v in state.items() if not k.startswith("layer3.6.")}
    with pytest.raises(ReidpipeError, match=r"layer3\.6\.W1"):
        load_model(without, format="ianet")
    with pytest.raises(ReidpipeError, match=r"classifier\.weight"):
        load_model(IANet().state_dict(), format="ianet")


def test_refusals_name_the_keys_of_the_file():
    state = _simple_reid_state()
    with pytest.raises(ReidpipeError, match=r"base\.7\.2\.conv3\.weight"):
        load_model(
            {k: v for k, v in state.items() if k != "base.7.2.conv3.weight"}, format="simple-reid"
        )
    _, _, pcl = _pcl_clip_state()
    del pcl["bottleneck_proj.running_var"]
    with pytest.raises(ReidpipeError, match=r"bottleneck_proj\.running_var"):
        load_model(pcl, format="pcl-clip")
    with pytest.raises(ReidpipeError, match="did you mean 'stride'"):
        load_model(pcl, format="pcl-clip", strides=12)


def test_our_evaluator_gives_simple_reids_figures(golden):
    recorded = golden("simplereid_eval.npz")
    metrics = evaluate_distances(
        *(recorded[name] for name in ("dist", "q_pids", "g_pids", "q_cams", "g_cams"))
    )
    assert metrics.valid.sum() == 5
    length = min(len(recorded["cmc"]), len(metrics.cmc))
    np.testing.assert_allclose(metrics.cmc[:length], recorded["cmc"][:length], atol=1e-7)
    assert metrics.mAP == pytest.approx(float(recorded["mAP"]), abs=1e-7)
