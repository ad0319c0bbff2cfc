"""Published weights on a machine that cannot download: one line, before anything is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.artifacts.weights import bring
from pipeline.terminal.errors import ReidpipeError
from reid_train.models.clip import tags
from tests.cli.conftest import Console

VIT = ("--set", "model.options={width: 64, heads: 1, layers: 1}")
RN50 = ("--set", "model.options={width: 8, heads: 4, layers: [1, 1, 1, 1]}")


@pytest.fixture(autouse=True)
def no_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, few_people: None) -> None:
    """A home without caches, and no server but a port of this machine where nobody listens."""
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy", "REIDPIPE_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home" / "torch"))
    monkeypatch.setattr("pipeline.datasets.fetch._ATTEMPTS", 1)


@pytest.mark.parametrize(
    ("words", "file", "instead"),
    [
        (("train", "baseline-vit", *VIT), "ViT-B-16.pt", "--pretrained none"),
        (("run", "clip-reid-rn50", *RN50), "RN50.pt", "--pretrained none"),
        (("run", "resnet50-triplet"), "resnet50-0676ba61.pth", "--pretrained none"),
        (
            ("train", "distill-mobilenet-clip-reid"),
            "RN50.pt",
            "--set model.teacher.pretrained=none",
        ),
        (("run", "distill-mobilenet-none"), "mobilenetv2_0.25-b61d2159.pth", "--pretrained none"),
        (("classify", "zero-shot", "coop"), "ViT-B-16.pt", "--pretrained clip-tiny-vit"),
        (("classify", "coop", "--speed"), "ViT-B-16.pt", "--pretrained clip-tiny-vit"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else None,
)
def test_nothing_is_made_for_weights_that_cannot_be_had(
    console: Console, words: tuple[str, ...], file: str, instead: str
):
    line = console.mistake(*words)
    assert f"found no {file} (" in line and line.endswith(f"or type {instead}")
    assert str(console.root / "weights") in line and len(line) <= 500
    assert not (console.root / "artifacts").exists()


def test_nothing_is_made_for_a_parser_without_weights(console: Console):
    for words in (("parse", "mannequins", "--model"), ("train", "pi-vl-tiny", "--parsing")):
        line = console.mistake(*words, "schp")
        assert "found no weights for parser 'schp'" in line
        assert not (console.root / "artifacts").exists()


def test_a_tag_of_open_clip_is_looked_for_first(console: Console, monkeypatch):
    def offline(_: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(tags, "download_pretrained", offline)
    tag = "open_clip:ViT-B-16/laion2b_s34b_b88k"
    for words in (("train", "baseline-vit"), ("classify", "zero-shot")):
        line = console.mistake(*words, "--pretrained", tag)
        assert f"found no weights {tag}" in line and "no route to host" in line
        assert ("--pretrained none" in line) == (words[0] == "train")
        assert not (console.root / "artifacts").exists()


def test_a_network_of_timm_is_looked_for_first(console: Console, monkeypatch):
    import timm

    made = timm.create_model

    def offline(*words: Any, pretrained: bool = False, **options: Any) -> Any:
        if pretrained:
            raise OSError("no route to host")
        return made(*words, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    words = ("--set", "model.trunk=timm/test_resnet", "--pretrained", "imagenet")
    line = console.mistake("train", "baseline-lite", *words)
    assert "found no weights for trunk 'timm/test_resnet'" in line and "no route to host" in line
    assert not (console.root / "artifacts").exists()


def test_what_workers_may_have_is_a_warning_here(tmp_path: Path, caplog):
    params = {"text": {"architecture": "ViT-B-16"}, "pretrained": "openai", "seed": 0}
    steps = [Step("text", params)]
    with pytest.raises(ReidpipeError, match=r"found no ViT-B-16\.pt"):
        bring(Workspace(tmp_path), steps, elsewhere=False)
    bring(Workspace(tmp_path), steps, elsewhere=True)
    assert "found no ViT-B-16.pt" in caplog.text and "the workers may have them" in caplog.text
