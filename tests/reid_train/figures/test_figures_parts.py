"""Class activations and features by body part: by hand, against definitions, and in the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_samples
from torch import nn

from pipeline.artifacts.steps import Job
from pipeline.datasets.index import read_index
from pipeline.labels.sets import ATR, LIP, PARTS, PASCAL
from pipeline.labels.writing import MapWriter
from reid_train.evaluation.compared import encoder
from reid_train.evaluation.work import evaluate
from reid_train.figures.activation_maps import class_activation, class_rows
from reid_train.figures.embedding_map import part_map
from reid_train.figures.part_features import (
    GROUPS,
    dense_maps,
    part_consistency,
    part_groups,
    sample_cells,
)
from reid_train.figures.work import report
from reid_train.models.clip.trunks import with_neck
from reid_train.models.clip.visual import ClipResNet, ClipVit
from reid_train.models.deployable import ReidModel
from reid_train.models.mobilenet import MobileNetV2Quarter
from reid_train.models.timm_trunk import TimmTrunk
from reid_train.models.tiny import Tiny
from tests.reid_train.conftest import Prepared


def _model(trunk: nn.Module, size: tuple[int, int] = (64, 32)) -> ReidModel:
    torch.manual_seed(1)
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm1d):  # a neck that changes something
            module.running_var.uniform_(0.5, 4.0)  # type: ignore[union-attr]
            module.weight.data.uniform_(0.5, 2.0)
    return ReidModel(trunk, mean=[0.5] * 3, std=[0.5] * 3, input_size=size).eval()


def test_the_map_is_the_classifier_folded_through_the_neck():
    model = _model(MobileNetV2Quarter())
    trunk = model.trunk
    images, rows = torch.rand(2, 3, 64, 32), torch.randn(2, 1280)
    found = class_activation(model, images, rows)
    assert found is not None and found.shape == (2, 2, 1)
    with torch.no_grad():
        last = trunk.map((images - 0.5) / 0.5)  # type: ignore[operator]
        neck = trunk.neck
        folded = rows * (neck.weight / (neck.running_var + neck.eps).sqrt())  # type: ignore
        expected = (folded[:, :, None, None] * last).sum(1) / 2
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("neck", ["before", "after"])
def test_of_clip_s_feature_the_part_before_the_attention_pool_counts(neck):
    trunk = ClipResNet(input_size=(64, 32), layers=(1, 1, 1, 1), width=8, heads=4, output_dim=16)
    model = _model(with_neck(trunk, neck))
    images, rows = torch.rand(1, 3, 64, 32), torch.randn(1, 256 + 16)
    found = class_activation(model, images, rows)
    with torch.no_grad():
        final = trunk.tokens((images - 0.5) / 0.5).final
        scale = torch.ones(256)
        if neck == "after":
            norm = model.trunk.bottleneck
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()  # type: ignore
        expected = ((rows[0, :256] * scale)[:, None, None] * final[0]).sum(0) / 8
    assert found is not None
    np.testing.assert_allclose(found[0], expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("feature", "counted"),
    [(None, 32), ("embedding", 48), ("projected", 16), ("feature+projected", 48)],
)
def test_patches_speak_through_the_last_block_of_a_vit(feature: str | None, counted: int):
    trunk = ClipVit(input_size=(64, 32), width=32, layers=2, heads=2, output_dim=16)
    model = _model(trunk)
    images, rows = torch.rand(1, 3, 64, 32), torch.randn(1, 16 if feature == "projected" else 48)
    found = class_activation(model, images, rows, feature=feature)
    assert found is not None and found.shape == (1, 4, 2) and np.abs(found).min() > 0

    # a step along each token changes the score by the entry, to first order
    block, step = trunk.image_encoder.transformer.resblocks[-1], 1e-3

    def score(cell: int | None) -> float:
        def nudge(_module, given):
            tokens = given[0].clone()
            if cell is not None:
                tokens[:, 1 + cell] *= 1 + step
            return (tokens, *given[1:])

        handle = block.register_forward_pre_hook(nudge)
        with torch.no_grad():
            compared = encoder(model.double(), feature)(images.double())[0, :counted]
        handle.remove()
        return float((compared * rows[0, :counted].double()).sum())

    plain = score(None)
    slopes = [(score(cell) - plain) / step for cell in range(8)]
    np.testing.assert_allclose(found.flatten(), slopes, rtol=0.02, atol=1e-4)


def test_a_feature_from_below_the_last_map_has_no_activation():
    resnet = ClipResNet(input_size=(64, 32), layers=(1, 1, 1, 1), width=8, heads=4, output_dim=16)
    vit = ClipVit(input_size=(64, 32), width=32, layers=2, heads=2, output_dim=16)
    for trunk in (resnet, vit):
        rows = torch.randn(1, trunk.feature_dims["last"])
        images = torch.rand(1, 3, 64, 32)
        assert class_activation(_model(trunk), images, rows, feature="last") is None


def test_no_map_no_activation_and_no_hook_stays():
    model = _model(Tiny())
    before = len(model.trunk.blocks._forward_hooks)  # type: ignore[union-attr, arg-type]
    with pytest.raises(ValueError, match="takes N,3,64,32"):
        class_activation(model, torch.rand(1, 3, 8, 8), torch.randn(1, 128))
    assert len(model.trunk.blocks._forward_hooks) == before  # type: ignore[union-attr, arg-type]

    class Bare(nn.Module):
        def forward(self, x, camids=None, views=None):
            return {"embedding": x.flatten(1)}

    bare = ReidModel(Bare(), mean=[0] * 3, std=[1] * 3, input_size=(2, 2))
    assert class_activation(bare, torch.rand(1, 3, 2, 2), torch.randn(1, 12)) is None
    assert dense_maps(bare, torch.rand(1, 3, 2, 2)) == {}


def test_rows_of_classes_by_hand():
    features = np.array([[2.0, 0.0], [0.0, 5.0], [3.0, 0.0]])
    rows = class_rows(features, np.array([4, 9, 4]))
    np.testing.assert_allclose(rows[4], [0.5, -0.5])
    np.testing.assert_allclose(rows[9], [-0.5, 0.5])


def test_dense_maps_of_every_kind_of_trunk():
    x = torch.rand(2, 3, 64, 32)
    vit = ClipVit(input_size=(64, 32), width=32, layers=2, heads=2, output_dim=16)
    resnet = ClipResNet(input_size=(64, 32), layers=(1, 1, 1, 1), width=8, heads=4, output_dim=16)
    shapes = {
        name: {key: tuple(found.shape[1:]) for key, found in dense_maps(_model(trunk), x).items()}
        for name, trunk in {
            "vit": vit,
            "resnet": with_neck(resnet, "after"),
            "mobilenet": MobileNetV2Quarter(),
            "tiny": Tiny(),
        }.items()
    }
    assert shapes == {
        "vit": {"final": (32, 4, 2), "projected": (16, 4, 2)},
        "resnet": {"final": (256, 4, 2), "projected": (16, 4, 2), "level": (128, 4, 2)},
        "mobilenet": {"final": (1280, 2, 1), "level": (24, 4, 2)},
        "tiny": {"final": (96, 4, 2)},
    }


def test_dense_maps_of_timm_are_what_the_feature_is_made_of():
    x = torch.rand(2, 3, 64, 32)
    whole = _model(TimmTrunk("resnet10t", input_size=(64, 32)))
    cut = _model(TimmTrunk("resnet10t", input_size=(64, 32), stride=16, stripes=2))
    shape = {"depth": 2, "embed_dim": 32, "num_heads": 2}
    vit = _model(TimmTrunk("vit_tiny_patch16_224", input_size=(64, 32), options=shape))
    found = [dense_maps(model, x) for model in (whole, cut, vit)]
    assert [list(maps) for maps in found] == [["final"]] * 3
    shapes = [tuple(maps["final"].shape[1:]) for maps in found]
    assert shapes == [(512, 2, 1), (256, 4, 2), (32, 4, 2)]
    features = [model.features(x)["global"] for model in (whole, cut)]
    torch.testing.assert_close(found[0]["final"].mean((2, 3)), features[0])
    bands = found[1]["final"].unflatten(2, (2, 2)).mean((3, 4))  # of two rows each
    torch.testing.assert_close(bands.flatten(1), features[1])

    class NoMaps(nn.Module):
        takes_maps = False

        def map(self, x):
            raise AssertionError

    assert dense_maps(_model(NoMaps()), x) == {}


def test_three_groups_of_every_label_set():
    groups = part_groups(LIP)
    by_name = {name: [i for i, g in enumerate(groups) if g == n] for n, name in enumerate(GROUPS)}
    assert by_name == {
        "Head": [1, 2, 4, 13],
        "Body": [3, 5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17],
        "Shoes": [8, 18, 19],
    }
    assert part_groups(PASCAL).tolist() == [-1, 0, 1, 1, 1, 1, 2]
    assert part_groups(PARTS).tolist() == [-1, 0, 1, 1, 1]
    assert [ATR.names[i] for i in np.flatnonzero(part_groups(ATR) == -1)] == ["background", "bag"]


def test_cells_are_taken_evenly_from_each_identity_and_part():
    labels = np.zeros((3, 2, 4), np.uint8)
    labels[0, 0], labels[1, 0], labels[2, 1, 0], labels[2, 1, 1] = 5, 5, 5, 255
    features = np.arange(3 * 2 * 4, dtype=np.float32).reshape(3, 1, 2, 4)
    cells = sample_cells(features, labels, [7, 7, 3], cells=3)
    # identity 3 has one cell of part 5; identity 7 eight: the first, the last, one between
    assert cells.pids.tolist() == [3, 7, 7, 7] and cells.parts.tolist() == [5] * 4
    assert cells.images.tolist() == [2, 0, 1, 1]
    assert cells.features[:, 0].tolist() == [20, 0, 8, 11]
    assert len(sample_cells(features, np.zeros_like(labels), [7, 7, 3]).parts) == 0


def test_consistency_by_hand():
    features = [[1, 0], [1, 0], [0, 1], [0, 1], [1, 1], [-1, 0]]
    parts, ids = [1, 1, 2, 2, 2, 1], [1, 1, 1, 2, 2, 2]
    found = part_consistency(np.array(features), parts, ids)
    root = 0.5**0.5
    # part 1: pairs (a,b) of one person 1; (a,f), (b,f) of two, -1
    # part 2: pair (d,e) of person 2: root; (c,d) 1 and (c,e) root of two persons
    assert found["same_identity"] == pytest.approx((1 + root) / 2)
    assert found["other_identity"] == pytest.approx((-1 + (1 + root) / 2) / 2)
    assert found["gap"] == pytest.approx(found["same_identity"] - found["other_identity"])
    # each part against the other: the same nine pairs
    assert found["other_part"] == pytest.approx(root / 9)
    # silhouettes by hand, part 1: a and b: inside (0 + 2)/2 = 1, outside (1 + 1 + 1 - root)/3
    outside = (3 - root) / 3
    a = (outside - 1) / 1
    far = (1 + 1 + 1 + root) / 3
    f = (far - 2) / 2
    assert found["by_part"][1] == pytest.approx((2 * a + f) / 3)
    assert found["cells"] == 6 and found["identities"] == 2
    # of one image: the pairs of one person go, the others stay
    apart = part_consistency(np.array(features), parts, ids, images=ids)
    assert apart["same_identity"] is None and apart["gap"] is None
    assert apart["other_identity"] == pytest.approx(found["other_identity"])
    with pytest.raises(ValueError, match="two parts"):
        part_consistency(np.eye(3), [1, 1, 1], [1, 2, 3])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_silhouettes_are_scikit_learn_s(seed):
    rng = np.random.default_rng(seed)
    features, parts = rng.normal(size=(30, 4)), np.array([0, 1, 2] * 9 + [0, 1, 5])
    found = part_consistency(features, parts, rng.integers(0, 3, 30))
    expected = np.asarray(silhouette_samples(features, parts, metric="cosine"))
    for part, value in found["by_part"].items():
        assert value == pytest.approx(expected[parts == part].mean(), abs=1e-6)
    assert found["silhouette"] == pytest.approx(np.mean(list(found["by_part"].values())))


def test_parts_apart_and_persons_apart_are_told_from_noise():
    rng = np.random.default_rng(0)
    parts, ids = np.repeat([1, 2, 3], 40), np.tile(np.arange(8), 15)
    centres, persons = rng.normal(size=(4, 16)), rng.normal(size=(8, 16))
    noise = rng.normal(size=(120, 16))
    blind = part_consistency(noise, parts, ids)
    by_part = part_consistency(4 * centres[parts] + noise, parts, ids)
    both = part_consistency(4 * centres[parts] + 2 * persons[ids] + noise, parts, ids)
    assert blind["silhouette"] < 0.05 < 0.5 < by_part["silhouette"]
    assert abs(blind["gap"]) < 0.05 and abs(by_part["gap"]) < 0.05 < 0.1 < both["gap"]


def test_the_picture_of_parts_repeats():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(24, 5)).astype(np.float32)
    groups, pids = [0, 1, 2] * 8, [3] * 12 + [8] * 12
    first = part_map(features, groups, pids)
    assert first == part_map(features, groups, pids)
    assert "<svg" in first


def test_a_report_compares_runs_and_writes_the_numbers(prepared: Prepared, tmp_path: Path) -> None:
    job = prepared.job("compared")
    evaluate(job)
    index = read_index(job.inputs["index"])
    label = np.zeros((128, 48), np.uint8)  # as ``picture`` paints
    label[30:75, 10:38], label[75:120, 12:36], label[10:30, 15:30] = 5, 9, 13
    maps = tmp_path / "maps"
    with MapWriter(maps, LIP, size=(128, 48)) as writer:
        for row in index.rows:
            sure = np.ones((128, 48), np.float32)
            writer.add(row.key, label, sure, source_size=(128, 48), source_digest=row.digest)
    inputs = {"evaluation0": job.folder, "maps": maps}
    inputs |= {"model0": job.inputs["model"], "index0": job.inputs["index"]}
    params = {"title": "parts", "evaluations": 1}
    report(Job(tmp_path, params, inputs, prepared.root))
    page = (tmp_path / "report.html").read_text()
    assert "What speaks for an identity</h3>" in page and "Features by body part</h2>" in page
    written = json.loads((tmp_path / "parts.json").read_text())
    (numbers,) = written["runs"].values()
    assert set(numbers) == {"final"} and set(numbers["final"]["by_part"]) == {
        "upper-clothes", "pants", "face",
    }  # fmt: skip
    assert numbers["final"]["identities"] == 5 and "30 test images" in written["protocol"]
