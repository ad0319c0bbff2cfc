"""Prototypes before every epoch, and training on clusters instead of identities."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.artifacts.atomic import write_json
from pipeline.artifacts.steps import Job
from pipeline.datasets.index import Index, write_index
from pipeline.images.packed import KEYS, PIXELS, PackedImages
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine import loop
from reid_train.engine.checkpoint import load_state, load_strict, read_state_dict
from reid_train.engine.runtime import Runtime
from reid_train.hooks.cluster import ClusterHook
from reid_train.hooks.memory import MemoryHook
from reid_train.losses.memory import CameraPrototypes, PrototypeMemory
from reid_train.recipe import work
from reid_train.recipe.assembly import build_task
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.stages import build_stages, training_set
from tests.reid_train.people import people
from tests.reid_train.toy import gradient

RUNTIME = Runtime.create("cpu")
SIZE = "input.size"
SMALL = {
    "model.trunk": "tiny",
    "model.options": "{}",
    "model.pretrained": "none",
    SIZE: "[64, 32]",
    "stages.0.epochs": "3",
    "stages.0.data": "{kind: identity-batches, ids: 4, images_per_id: 2, iterations: 5, "
    "augment: {flip: 0.5, pad: 2}}",
}
USL = {
    **SMALL,
    "stages.0.hooks.0.options": "{eps: 0.7, min_samples: 2, k1: 5, k2: 2}",
}
CAMERAS = "[{loss: prototypes, on: embedding}, {loss: camera-prototypes, on: embedding, " \
    "weight: 0.5, options: {inter_from: 1}}]"  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    _, rows, _ = people(folder, size=(64, 32))
    write_index(folder, Index("crowd", folder, rows))
    return folder


def built(inputs, name, **overrides):
    """Task, stage and its hook, ready for an epoch."""
    images, rows, _ = people(inputs, size=(64, 32))
    recipe = load_recipe(name, {**(USL if "usl" in name else SMALL), **overrides})
    data = training_set(recipe, images, rows)
    task: Any = build_task(recipe, classes=len(data.pids))
    (stage,) = build_stages(recipe, data, seed=0, runtime=RUNTIME)
    task.begin_stage(stage.name)
    (hook,) = stage.hooks
    assert isinstance(hook, MemoryHook)
    hook.begin_stage(task)
    return task, stage, hook


def features_of(task, data):
    pixels = torch.from_numpy(data.images.pixels[data.places]).permute(0, 3, 1, 2)
    with torch.no_grad():
        return F.normalize(task.eval().model(pixels.float() / 255), dim=1)


def prototypes_of(features, labels):
    means = [features[labels == label].mean(0) for label in range(int(labels.max()) + 1)]
    return F.normalize(torch.stack(means), dim=1)


# --------------------------------------------------------------------------- with labels


def test_prototypes_are_the_means_of_what_the_model_sees_in_tests(inputs):
    task, stage, hook = built(inputs, "pcl-clip-tiny")
    memory = task.active[0].loss
    assert isinstance(memory, PrototypeMemory) and len(memory.prototypes) == 0
    task.train()
    hook.begin_epoch(task, 0)
    expected = prototypes_of(features_of(task, hook.batches.data), hook.batches.data.labels)
    torch.testing.assert_close(memory.prototypes, expected, atol=1e-5, rtol=0)
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.mul_(1.5).add_(0.01)
    before = memory.prototypes
    hook.begin_epoch(task, 1)
    assert (memory.prototypes - before).abs().max() > 0.01
    expected = prototypes_of(features_of(task, hook.batches.data), hook.batches.data.labels)
    torch.testing.assert_close(memory.prototypes, expected, atol=1e-5, rtol=0)


def test_the_memory_is_of_no_state_dict_and_follows_the_task_s_mode(inputs):
    task, _, hook = built(inputs, "pcl-clip-tiny")
    hook.begin_epoch(task, 0)
    assert not [name for name in task.state_dict() if "memor" in name or "prototypes" in name]
    memory = task.active[0].loss
    assert memory.training is False
    task.train()
    assert memory.training is True
    assert "prototypes" in " ".join(name for name, _ in task.named_buffers())


def test_prototypes_move_once_per_optimiser_step(inputs, tmp_path, monkeypatch):
    task, stage, hook = built(inputs, "pcl-clip-tiny")
    seen = []
    monkeypatch.setattr(hook, "after_step", lambda task: seen.append(len(memory.remembered)))
    memory = task.active[0].loss
    stage = replace(stage, accumulate=2, epochs=1)
    loop.train(task, [stage], runtime=RUNTIME, folder=tmp_path)
    # 5 batches, two per step; nothing clears the memory here, so what waits adds up.
    assert seen == [2, 4, 5]
    monkeypatch.undo()
    before = memory.prototypes
    hook.after_step(task)
    assert memory.remembered == [] and not torch.equal(memory.prototypes, before)


@pytest.mark.slow
def test_one_step_of_the_authors_code(tmp_path, golden, golden_state, fill):
    """``memory_before`` of the recording was changed in place by the recorded step and equals
    ``memory_after``; that ours is right before the step follows from the loss and what comes after.
    """
    z = golden("pcl_clip_vit_b16.npz")
    names = [str(name) for name in z["train_image_names"]]
    labels = torch.from_numpy(z["train_labels"]).long()
    np.save(tmp_path / PIXELS, np.stack([fill.image(name, (256, 128, 3)) for name in names]))
    write_json(tmp_path / KEYS, {"keys": names, "size": [256, 128], "filter": "bicubic"})
    _, rows, _ = people(tmp_path / "people")
    rows = [
        replace(row, key=name, pid=int(label))
        for row, name, label in zip(rows, names, labels, strict=False)
    ]
    recipe = load_recipe(
        "pcl-clip",
        {"stages.0.data.ids": "4", "stages.0.data.images_per_id": "2", "model.pretrained": "none"},
    )
    data = training_set(recipe, PackedImages.open(tmp_path), rows)
    # The recorded classifier knows Market's 751 people.
    task: Any = build_task(recipe, classes=751)
    state = {k: torch.as_tensor(v) for k, v in golden_state("pcl_clip_vit_b16.keys.json").items()}
    own = {
        key.replace("image_encoder.", "trunk.image_encoder.", 1): value
        for key, value in state.items()
    }
    own["heads.identity.classifier.weight"] = own.pop("classifier.weight")
    trunk = {
        key if key.startswith("heads.") else f"model.trunk.{key}": value
        for key, value in own.items()
    }
    load_strict(task, trunk, optional=["model.mean", "model.std"])
    (stage,) = build_stages(recipe, data, seed=0, runtime=RUNTIME)
    (hook,) = stage.hooks
    task.begin_stage(stage.name)
    hook.begin_stage(task)
    hook.begin_epoch(task, 0)
    memory = task.active[0].loss
    assert isinstance(memory, PrototypeMemory)
    expected = prototypes_of(features_of(task, data), labels)
    torch.testing.assert_close(memory.prototypes, expected, atol=1e-5, rtol=0)
    task.train()
    images = torch.from_numpy(data.read(np.arange(8))).permute(0, 3, 1, 2)
    losses, _ = task.training_forward({"images": images, "labels": labels})
    assert losses["prototypes/embedding"].item() == pytest.approx(float(z["pcl_loss"]), rel=1e-4)
    found = losses["cross-entropy/identity"].item()
    assert found == pytest.approx(float(z["id_loss_weighted"]), rel=1e-4)
    torch.stack(list(losses.values())).sum().backward()
    frozen = {name for name, _ in task.named_parameters()} - stage.select(
        [name for name, parameter in task.named_parameters() if parameter.requires_grad]
    ).keys()
    # Patches, and the shifts of the two batch norms as in CLIP-ReID.
    assert frozen == {
        "model.trunk.trunk.image_encoder.conv1.weight",
        "model.trunk.bottleneck.bias",
        "model.trunk.bottleneck_proj.bias",
    }
    projection = gradient(task.get_parameter("model.trunk.trunk.image_encoder.proj"))
    assert projection.abs().sum() > 0
    torch.testing.assert_close(memory.prototypes, expected, atol=1e-5, rtol=0)
    hook.after_step(task)
    np.testing.assert_allclose(memory.prototypes, z["memory_after"], atol=2e-6)


# --------------------------------------------------------------------------- without labels


def test_batches_are_of_clusters_and_outliers_are_in_none(inputs):
    task, stage, hook = built(inputs, "pcl-clip-usl-tiny")
    assert isinstance(hook, ClusterHook)
    data = hook.batches.data
    assert set(data.labels) == {-1}
    figures = hook.begin_epoch(task, 0)
    found = hook.batches.data.labels
    assert figures["clusters"] == found.max() + 1 >= 2
    assert figures["outliers"] == (found == -1).sum()
    memory = task.active[0].loss
    kept = torch.from_numpy(found) >= 0
    features = features_of(task, data)[kept]
    expected = prototypes_of(features, torch.from_numpy(found)[kept])
    torch.testing.assert_close(memory.prototypes, expected, atol=1e-5, rtol=0)
    seen = set()
    for batch in stage.batches.epoch(0, 0, 1):
        assert torch.equal(batch["labels"], torch.from_numpy(found)[batch["positions"]])
        assert (batch["labels"].view(-1, 2).diff(dim=1) == 0).all()
        seen |= set(batch["labels"].tolist())
    assert min(seen) >= 0 and len(list(stage.batches.epoch(0, 0, 1))) == 5


@pytest.mark.parametrize(("world", "ids"), [(1, 3), (2, 2), (3, 3)])
def test_few_clusters_are_shared_by_several_processes(inputs, world, ids):
    """Three clusters where a batch has four: two processes take two of them at a time."""
    _, stage, hook = built(inputs, "pcl-clip-usl-tiny")
    hook.runtime = replace(RUNTIME, world=world)
    labels = torch.arange(30) % 3
    hook.load_state_dict({**hook.state_dict(), "labels": labels})
    shares = [list(stage.batches.epoch(0, rank, world)) for rank in range(world)]
    assert all(len(batches) == 5 for batches in shares)
    seen = set()
    for parts in zip(*shares, strict=True):
        found = torch.cat([part["labels"] for part in parts])
        assert len(found) == 2 * ids and len(found.unique()) == ids
        assert torch.equal(found, labels[torch.cat([part["positions"] for part in parts])])
        seen |= set(found.tolist())
    assert seen == {0, 1, 2}


def job_of(inputs, folder, **overrides):
    folder.mkdir(exist_ok=True)
    recipe = load_recipe("pcl-clip-usl-tiny", {**USL, **overrides}).plain()
    params = {"recipe": json.loads(json.dumps(recipe)), "seed": 0, "pretrained": "none"}
    return Job(folder, params, {"index": inputs, "images": inputs}, folder.parent, device="cpu")


def log_of(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    timed = ("seconds", "images_per_s")
    return [{k: v for k, v in line.items() if k not in timed} for line in lines]


def test_identities_are_for_the_log_alone(inputs, tmp_path):
    """Images swap their identities at random: every weight stays, only NMI and ARI change."""
    _, rows, _ = people(tmp_path / "crowd", size=(64, 32))
    pids = np.random.default_rng(0).permutation([row.pid or 0 for row in rows])
    swapped = [replace(row, pid=int(pid)) for row, pid in zip(rows, pids, strict=True)]
    write_index(tmp_path / "crowd", Index("crowd", tmp_path / "crowd", swapped))
    summary = work.model(job_of(inputs, tmp_path / "true"))
    work.model(job_of(tmp_path / "crowd", tmp_path / "swapped"))
    a, b = (tmp_path / name for name in ("true", "swapped"))
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    assert summary["steps"] == 15
    hooks = [[line for line in log_of(f) if line["event"] == "hook"] for f in (a, b)]
    assert [line["epoch"] for line in hooks[0]] == [0, 1, 2]
    for one, other in zip(*hooks, strict=True):
        assert one["clusters"] == other["clusters"] and one["outliers"] == other["outliers"]
        assert one["ari"] > other["ari"] + 0.3 and one["nmi"] > other["nmi"]


@pytest.mark.parametrize(
    ("place", "losses"), [((0, 3), "plain"), ((1, 0), "cameras"), ((2, 4), "cameras")]
)
def test_a_killed_training_ends_the_same(inputs, tmp_path, monkeypatch, place, losses):
    options = {} if losses == "plain" else {"stages.0.losses": CAMERAS}
    work.model(job_of(inputs, tmp_path / "whole", **options))
    original, train = loop.save_state, loop.train

    def stop_there(path, state):
        original(path, state)
        if (state["epoch"], state["step"]) == place:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", stop_there)
    monkeypatch.setattr(loop, "train", lambda *a, **k: train(*a, **k, save_every=1))
    with pytest.raises(KeyboardInterrupt):
        work.model(job_of(inputs, tmp_path / "parts", **options))
    saved = load_state(tmp_path / "parts" / "state.pt")
    assert (saved["epoch"], saved["step"]) == place
    monkeypatch.undo()
    work.model(job_of(inputs, tmp_path / "parts", **options))
    whole, parts = (tmp_path / f / "model.safetensors" for f in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "parts")


def test_proxies_of_cameras(inputs):
    losses = {"stages.0.losses": CAMERAS}
    task, stage, hook = built(inputs, "pcl-clip-usl-tiny", **losses)
    hook.begin_epoch(task, 0)
    memory = task.active[1].loss
    assert isinstance(memory, CameraPrototypes)
    data = hook.batches.data
    assert data.camids is not None
    pairs = {(a, b) for a, b in zip(data.labels, data.camids, strict=True) if a >= 0}
    found = zip(memory.identities.tolist(), memory.cameras.tolist(), strict=True)
    assert set(found) == pairs
    task.train()
    batch = next(stage.batches.epoch(0, 0, 1))
    first = task.training_forward(batch)[0]["camera-prototypes/embedding"]
    again = memory(task.model(task.pixels(batch)), batch["labels"], batch["camids"], inter=False)
    assert first.item() == pytest.approx(0.5 * again.item(), rel=1e-4)
    memory.epoch = 1
    later = task.training_forward(batch)[0]["camera-prototypes/embedding"]
    assert later > first


def test_a_trained_model_is_where_another_training_starts(inputs, tmp_path):
    """Domain adaptation: weights of a run, labels of nobody."""
    source = tmp_path / "source"
    work.model(job_of(inputs, source))
    file = source / "model.safetensors"
    recipe = load_recipe("pcl-clip-usl-tiny", USL)
    task: Any = build_task(recipe, classes=6, pretrained=str(file))
    for key, value in read_state_dict(file).items():
        torch.testing.assert_close(task.model.state_dict()[key], value, rtol=0, atol=0)
    job = job_of(inputs, tmp_path / "target")
    job = replace(job, params={**job.params, "pretrained": "file"}, files={"pretrained": file})
    work.model(job)
    first, start = (
        next(line["loss"] for line in log_of(folder) if line["event"] == "step")
        for folder in (tmp_path / "target", source)
    )
    assert first < 0.9 * start
    for options, words in (
        ({"model.trunk": "clip-tiny"}, "weights of another network"),
        ({"input.mean": "[0.4, 0.5, 0.5]"}, r"--set 'input.mean=\[0.5, 0.5, 0.5\]'"),
    ):
        other = load_recipe("pcl-clip-usl-tiny", {**USL, **options})
        with pytest.raises(ReidpipeError, match=words):
            build_task(other, classes=6, pretrained=str(file))


# --------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("pcl-clip-tiny", {"stages.0.hooks": "[]"}, "together with a hook"),
        ("baseline-tiny", {"stages.0.hooks": "[{hook: memory}]"}, "together with a hook"),
        ("pcl-clip-tiny", {"stages.0.losses.0.on": "identity"}, "on embedding"),
        ("pcl-clip-tiny", {"stages.0.hooks.0.hook": "cluster"}, "no heads and no text"),
        ("pcl-clip-tiny", {"input.test_filter": "bicubic"}, "one filter"),
        ("pcl-clip-usl-tiny", {"stages.0.data.iterations": "null"}, "with iterations"),
        ("pcl-clip-usl-tiny", {"stages.0.hooks.0.hook": "clusters"}, "did you mean 'cluster'"),
        ("pcl-clip-usl-tiny", {"stages.0.hooks.0.eps": "0.5"}, "'stages.0.hooks.0.eps'"),
    ],
)
def test_recipes_that_do_not_fit(name, overrides, words):
    with pytest.raises(ReidpipeError, match=words):
        load_recipe(name, overrides)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [("eps", "1.2", "eps 1.2"), ("epsilon", "0.5", "did you mean 'eps'"),
     ("min_samples", "0", "min_samples"), ("batch", "0", "batch is 0")],
)  # fmt: skip
def test_wrong_options(inputs, option, value, words):
    with pytest.raises(ReidpipeError, match=words):
        built(inputs, "pcl-clip-usl-tiny", **{f"stages.0.hooks.0.options.{option}": value})


def test_too_few_clusters_are_told_with_what_to_type(inputs):
    task, _, hook = built(inputs, "pcl-clip-usl-tiny", **{
        "stages.0.hooks.0.options.min_samples": "25", "stages.0.hooks.0.options.eps": "0.05",
    })  # fmt: skip
    with pytest.raises(ReidpipeError, match=r"found 0 clusters of 30 images.*options.eps="):
        hook.begin_epoch(task, 0)


def test_proxies_of_cameras_need_cameras(tmp_path):
    images, rows, _ = people(tmp_path, size=(64, 32))
    recipe = load_recipe("pcl-clip-usl-tiny", {**USL, "stages.0.losses": CAMERAS})
    data = training_set(recipe, images, [replace(row, camid=None) for row in rows])
    with pytest.raises(ReidpipeError, match="found no image with a camid"):
        build_stages(recipe, data, seed=0, runtime=RUNTIME)
