"""What only a GPU can show: precisions that scale losses, streams, its own random numbers. Skipped
by name where there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.labels.maps import LabelMapReader
from reid_train import load_model
from reid_train.engine.loop import train
from reid_train.engine.runtime import Runtime
from tests.cli.conftest import TRAIN, Console, people, same_threads  # noqa: F401
from tests.cli.test_torchrun import PARTS
from tests.reid_train.engine.test_loop import Interrupt
from tests.reid_train.on_pretended import settings
from tests.reid_train.toy import Toy, toy_stages

pytestmark = pytest.mark.gpu
GPU = "cuda"


@pytest.fixture(autouse=True)
def float32_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch lets cuDNN take TF32, of 10 bits, for float32: no measure of what is compared here."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def prepared(people: Path, tmp_path: Path) -> Console:  # noqa: F811
    console = Console(tmp_path / "workspace")
    console("prepare", "folder", "--root", people, "--size", "32x16", "--filter", "bilinear")
    return console


def first_and_all_losses(console: Console, *words: str) -> tuple[float, list[float], Path]:
    given = ("train", "baseline-tiny", "--dataset", "folder", *TRAIN)
    folder = Path(console.json(*given, *words)["model"])
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["event"] == "step"]
    return losses[0], losses, folder


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_begins_where_the_cpu_does(prepared: Console, precision: str):
    expected, _, folder = first_and_all_losses(prepared, "--device", "cpu")
    shutil.rmtree(folder)
    words = ("--set", f"precision={precision}", "--device", GPU)
    found, losses, folder = first_and_all_losses(prepared, *words)
    assert found == pytest.approx(expected, rel=1e-3 if precision == "fp32" else 0.03)
    assert len(losses) > 3 and np.isfinite(losses).all()
    assert json.loads((folder / "model.json").read_text())["runtime"]["precision"] == precision
    assert prepared.json("eval", "--device", GPU)["valid_queries"] == 12


def test_part_informed_training_runs(prepared: Console):
    words = ("train", "pi-vl-tiny", "--dataset", "folder", *TRAIN[:2], *PARTS, "--device", GPU)
    assert np.isfinite(prepared.json(*words)["loss"])


@pytest.mark.parametrize(
    ("recipe", "precision"),
    [
        ("resnet50-triplet", "fp16"),
        ("slicenet2-plus", "bf16"),
        ("clip-reid-vit-sie-olp", "fp16"),
        ("pi-vl-vit-w", "bf16"),
        ("pi-vl-rn50", "fp16"),
        ("pcl-clip", "bf16"),
        ("pcl-clip-usl-tiny", "fp16"),
    ],
)
def test_recipes_of_every_family_take_steps(prepared: Console, recipe: str, precision: str):
    """Small: tensors and types that do not fit are an error at any size."""
    words = ("train", recipe, "--dataset", "folder", *settings(recipe), "--device", GPU)
    found = prepared.json(*words, "--set", f"precision={precision}")
    assert np.isfinite(found["loss"]) and found["precision"] == precision
    assert np.isfinite(prepared.json("eval", "--device", GPU)["mAP"])


def test_features_are_those_of_the_cpu(prepared: Console):
    words = ("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", GPU)
    folder = Path(prepared.json(*words)["model"])
    images = torch.rand(6, 3, 32, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = load_model(folder)(images)
        found = load_model(folder, device=GPU)(images.to(GPU)).cpu()
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=5e-3)


def test_label_maps_are_those_of_the_cpu(prepared: Console):
    keys: list[str] = []
    labels = []
    for device in ("cpu", GPU):
        prepared("cache", "rm", "maps") if keys else None
        folder = prepared.json("parse", "folder", "--device", device)["folder"]
        reader = LabelMapReader(folder)
        keys = sorted(reader)
        labels.append(np.stack([reader[key][0] for key in keys]))
    assert len(keys) == 60 and len(np.unique(labels[0])) > 5
    assert (labels[0] == labels[1]).mean() > 0.999


def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path: Path):
    """The state of the GPU's generator, which draws the dropout, is saved too."""
    runtime = Runtime.create(GPU)

    def run(folder: str, interrupt: int | None) -> dict[str, torch.Tensor]:
        task = Toy(dropout=0.5, norm=True).to(runtime.device)
        stages = toy_stages()
        stages[1].hooks = [Interrupt(interrupt)]
        train(task, stages, runtime=runtime, folder=tmp_path / folder, seed=3)
        return task.state_dict()

    whole = run("whole", None)
    with pytest.raises(KeyboardInterrupt):
        run("parts", 1)
    resumed = run("parts", None)
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, msg=key)
