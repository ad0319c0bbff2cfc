"""The worker: from folders to a model that can be loaded."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from pipeline.artifacts.atomic import write_json
from pipeline.artifacts.steps import Job
from pipeline.datasets.index import Index, write_index
from reid_train import load_model
from reid_train.engine import loop, units
from reid_train.engine.checkpoint import load_state, read_state_dict
from reid_train.recipe import work
from reid_train.recipe.loading import load_recipe
from tests.reid_train.people import people

RECIPE = {
    "stages.0.epochs": "4",
    "stages.0.data.ids": "4",
    "stages.0.data.images_per_id": "2",
    "input.size": "[64, 32]",
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    _, rows, _ = people(folder, size=(64, 32))
    write_index(folder, Index("crowd", folder, rows))
    return folder


def job_of(inputs, folder, *, maps=False, seed=0, **overrides):
    folder.mkdir(exist_ok=True)
    sources = {"index": inputs, "images": inputs, **({"maps": inputs} if maps else {})}
    recipe = load_recipe("baseline-tiny", {**RECIPE, **overrides}).plain()
    params = {"recipe": json.loads(json.dumps(recipe)), "seed": seed, "pretrained": "none"}
    return Job(folder, params, sources, folder.parent, device="cpu")


def test_a_trained_model_loads_and_knows_its_origin(tmp_path, inputs):
    summary = work.model(job_of(inputs, tmp_path / "run"))
    files = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert files == [
        "heads.safetensors", "log.csv", "log.jsonl", "model.json", "model.safetensors"
    ]  # fmt: skip
    assert summary["identities"] == 6 and summary["images"] == 30 and summary["epochs"] == 4
    assert summary["loss"] < 3 and summary["steps"] == 12 and summary["images_per_s"] > 0
    meta = json.loads((tmp_path / "run" / "model.json").read_text())
    assert meta["identity_order"] == [10, 20, 30, 40, 50, 60]
    assert meta["preprocessing"]["size"] == [64, 32] and meta["dataset"] == "crowd"
    assert meta["recipe"]["name"] == "baseline-tiny" and meta["runtime"]["threads"] >= 1
    assert not [key for key in read_state_dict(tmp_path / "run" / "model.safetensors")
                if key.startswith("heads")]  # fmt: skip
    model = load_model(tmp_path / "run")
    features = model(torch.rand(2, 3, 64, 32))
    assert features.shape[0] == 2 and not model.training
    assert sum(p.numel() for p in model.parameters()) == summary["parameters"]


def test_equal_seeds_give_equal_models(tmp_path, inputs):
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        work.model(job_of(inputs, tmp_path / name, seed=seed))
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_it_goes_on_from_a_state_and_ends_the_same(tmp_path, inputs, monkeypatch):
    work.model(job_of(inputs, tmp_path / "whole"))
    original = loop.save_state

    def stop_after_two_epochs(path, state):
        original(path, state)
        if state["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", stop_after_two_epochs)
    with pytest.raises(KeyboardInterrupt):
        work.model(job_of(inputs, tmp_path / "parts"))
    assert load_state(tmp_path / "parts" / "state.pt")["epoch"] == 2
    monkeypatch.setattr(loop, "save_state", original)
    work.model(job_of(inputs, tmp_path / "parts"))
    whole, parts = (tmp_path / f / "model.safetensors" for f in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    assert not (tmp_path / "parts" / "state.pt").exists()


def test_a_model_that_was_written_is_not_trained_again(tmp_path, inputs):
    job = job_of(inputs, tmp_path / "run")
    summary = work.model(job)
    log = (tmp_path / "run" / "log.jsonl").read_bytes()
    assert work.model(job) == summary
    assert (tmp_path / "run" / "log.jsonl").read_bytes() == log
    # Unless its weights are not the ones the description speaks of.
    meta = json.loads((tmp_path / "run" / "model.json").read_text())
    write_json(tmp_path / "run" / "model.json", {**meta, "weights_sha256": "0" * 64})
    work.model(job)
    assert json.loads((tmp_path / "run" / "model.json").read_text())["weights_sha256"] != "0" * 64


def test_label_maps_are_read_when_they_are_given(tmp_path, inputs):
    job = job_of(inputs, tmp_path / "run", maps=True)
    assert work.model(job)["steps"] == 12


def test_colour_and_half_precision_and_channels_last(tmp_path, inputs, monkeypatch):
    monkeypatch.setattr(units, "has_units", lambda _: True)  # also where they are emulated
    strong: dict[str, Any] = {
        "channels_last": "true",
        "stages.0.data.augment": "{flip: 0.5, pad: 4, brightness: 0.2, contrast: 0.2, "
        "saturation: 0.2, erase: 1.0, erase_fill: mean}",
    }
    first = {}
    for precision in ("fp32", "bf16"):
        folder = tmp_path / precision
        work.model(job_of(inputs, folder, precision=precision, **strong))
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        first[precision] = next(line["loss"] for line in log if line["event"] == "epoch")
    assert first["bf16"] == pytest.approx(first["fp32"], rel=0.02)
    assert first["bf16"] != first["fp32"]
    state = read_state_dict(tmp_path / "bf16" / "model.safetensors")
    assert all(v.dtype == torch.float32 for v in state.values() if v.is_floating_point())
