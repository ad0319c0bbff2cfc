"""Commands on recipes whose trunk is one of timm's: trained, evaluated, exported, asked again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reid_train import load_model
from tests.cli.conftest import Console

PLAIN = """
base: baseline-tiny
model: {trunk: timm/resnet18}
"""
# pi-VL's student with another network, and the small CLIP as its teacher.
PARTS = """
base: distill-mobilenet-pi-vl
model:
  trunk: timm/tf_efficientnet_lite0
  pretrained: none
  text: {architecture: clip-tiny}
  teacher:
    trunk: clip-tiny
    pretrained: clip-tiny
    options: {positions: value}
    mean: [0.5, 0.5, 0.5]
    std: [0.5, 0.5, 0.5]
input: {size: [128, 64], train_filter: bilinear}
set:
  stages.identity-prompts.epochs: 1
  stages.part-prompts.epochs: 1
"""


def _train(console: Console, folder: Path, name: str, text: str) -> tuple[str, ...]:
    file = folder / f"{name}.yaml"
    file.write_text(text)
    small = ("epochs=1", "data.ids=4", "data.images_per_id=2")
    settings = [word for setting in small for word in ("--set", f"stages.image.{setting}")]
    words = ("train", str(file), "--dataset", "folder", *settings, "--device", "cpu")
    console(*words)
    return words


@pytest.mark.slow
@pytest.mark.parametrize(("name", "text", "dim"), [("plain", PLAIN, 512), ("parts", PARTS, 1280)])
def test_recipes_with_timms_networks_train_and_evaluate(
    console: Console, people: Path, tmp_path: Path, name: str, text: str, dim: int
):
    console("prepare", "folder", "--root", people)
    words = _train(console, tmp_path, name, text)
    assert 0 < console.json("eval")["mAP"] <= 1
    (folder,) = (path.parent for path in console.root.glob("artifacts/model/*/model.safetensors"))
    images = torch.rand(2, 3, 128, 64)
    with torch.no_grad():
        expected = load_model(folder)(images)
        assert expected.shape == (2, dim)
        console("export", name, "--format", "torch-export", "--out", tmp_path / "model.pt2")
        exported = torch.export.load(tmp_path / "model.pt2").module()
        torch.testing.assert_close(exported(images=images), expected, atol=1e-4, rtol=1e-4)
    assert console.json(*words)["made"] == []


def test_wrong_names_and_starts_are_one_line(console: Console, few_people: None):
    for trunk, said in (("tim/resnet18", "timm/NAME"), ("timm/resnet81", "'resnet18'")):
        result = console("train", "baseline-tiny", "--set", f"model.trunk={trunk}", code=2)
        *progress, line = result.stderr.splitlines()
        assert line.startswith("Error: ") and said in line
        assert all(note.startswith("making ") for note in progress)
    assert "open_clip:ARCH/TAG" in console.mistake("train", "--pretrained", "open_clip:ViT-B-16")
