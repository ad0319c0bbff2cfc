"""Devices that compute wrongly, precisions that change labels, maps of one class alone."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parsing_models import load_parser, work
from parsing_models.parsers.device_checks import OneClassGuard, check_device, check_precision
from parsing_models.parsers.interface import Parser, Reduced, in_precision
from pipeline.labels import shards, writing
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.sets import LIP
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine import units
from tests.finished import finished_keys
from tests.parsing_models.test_work import make_job, weights  # noqa: F401

IMAGES = list(np.random.default_rng(1).integers(0, 256, (3, 40, 20, 3), dtype=np.uint8))
SIZE = (64, 32)


def black(self: Any, images: Any, size: Any = (256, 128), **_: Any) -> Any:
    """What SCHP returns on some GPUs: zeros."""
    label = np.zeros((len(images), *size), np.uint8)
    return type("Maps", (), {"label": label, "confidence": np.ones(label.shape)})()


def test_a_device_that_returns_zeros_is_refused(monkeypatch: pytest.MonkeyPatch):
    parser, reference = load_parser("schp-tiny"), load_parser("schp-tiny")
    check_device(parser, reference, IMAGES, SIZE)
    monkeypatch.setattr(parser, "parse", lambda *a, **k: black(None, *a, **k))
    with pytest.raises(ReidpipeError, match="labels equal between cpu and the CPU.*--device cpu"):
        check_device(parser, reference, IMAGES, SIZE)


def guarded(share: float, images: int, device: str = "cpu") -> OneClassGuard:
    guard = OneClassGuard(LIP, device, Path("maps"))
    for _ in range(images):
        label = np.zeros(10_000, np.uint8)
        label[: round(10_000 * (1 - share))] = 5
        guard.add(label)
    return guard


@pytest.mark.parametrize("device", ["cuda:0", "mps", "xpu:1"])
def test_maps_of_one_class_are_refused_on_a_gpu(device: str):
    with pytest.raises(
        ReidpipeError, match="99.5% of the pixels of 40 images are 'background'.*cpu"
    ):
        guarded(0.995, 40, device).check()


def test_what_is_no_ground_for_refusal():
    guarded(0.99, 40, "cuda:0").check()  # people far away
    guarded(1.0, 31, "cuda:0").check()  # too few images to tell
    guard = guarded(0.9, 40, "cuda:0")
    guard.check()
    assert guard.images == 0
    for _ in range(40):
        guard.add(np.full(10_000, 7, np.uint8))
    with pytest.raises(ReidpipeError, match="100.0% of the pixels of 40 images are 'coat'"):
        guard.check()  # what came before does not water it down


def test_on_a_cpu_it_is_a_warning_told_once(caplog: pytest.LogCaptureFixture):
    guard = guarded(1.0, 40)
    guard.check()
    for _ in range(40):
        guard.add(np.zeros(10_000, np.uint8))
    guard.check()
    assert ["100.0% of the pixels of 40 images" in r.getMessage() for r in caplog.records] == [True]


def test_black_maps_never_reach_the_disk(
    tmp_path: Path,
    weights: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    """A device that fails after the first batch was right: whole shards stay, the black one is not
    stored, and a second command on the CPU makes what is missing."""
    job = make_job(tmp_path, weights, 96)
    parse, count = Parser.parse, 0

    def failing(self: Any, images: Any, *args: Any, **options: Any) -> Any:
        nonlocal count
        count += len(images)
        return (black if count > 48 else parse)(self, images, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Parser, "parse", failing)
        patch.setattr(writing, "SHARD_IMAGES", 32)
        patch.setattr(work, "SHARD_IMAGES", 32)
        patch.setattr(
            work, "OneClassGuard", lambda labels, _, folder: OneClassGuard(labels, "gpu", folder)
        )
        with pytest.raises(ReidpipeError, match="of 32 images are 'background', computed on gpu"):
            work.parse(job)
    stored = finished_keys(job.folder)
    assert len(stored) == 64 and shards.verify(job.folder) == []
    assert work.parse(job)["made"] == 32
    reader = LabelMapReader(job.folder)
    assert all(reader[key][0].any() for key in sorted(reader)[64:])


def test_precision_shares_the_weights_and_keeps_the_warps(
    weights: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(units, "has_units", lambda _: True)  # also where they are emulated
    full = load_parser("schp", weights, input_size=SIZE)
    reduced = in_precision(full, "bf16")
    assert reduced.precision == "bf16" and full.precision == "fp32"
    assert isinstance(reduced.network, Reduced) and reduced.network.network is full.network
    inputs = full.to_input(IMAGES)
    with torch.inference_mode():
        exact, close = full.network(inputs), reduced.network(inputs)
    assert close.dtype == torch.float32
    spread = float(exact.abs().max())
    # bfloat16 has 8 bits: off by parts of a per cent, and not equal.
    assert 0 < float((exact - close).abs().max()) < 0.1 * spread
    again = in_precision(reduced, "fp32")
    assert again.network is full.network and again.attributes() == full.attributes()
    same = check_precision(reduced, full, IMAGES, SIZE)
    assert 0.9 < same < 1


def test_low_agreement_with_fp32_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(units, "has_units", lambda _: True)
    full = load_parser("schp-tiny")
    reduced = in_precision(full, "bf16")
    monkeypatch.setattr(reduced, "parse", lambda *a, **k: black(None, *a, **k))
    same = check_precision(reduced, full, IMAGES, SIZE)
    assert same < 0.99 and "--precision fp32 is safe" in caplog.text


def test_agreement_is_kept_in_the_cache_and_told(
    tmp_path: Path,
    weights: Path,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(units, "has_units", lambda _: True)
    caplog.set_level(logging.ERROR)
    job = make_job(tmp_path, weights, 5, precision="bf16")
    summary = work.parse(job)
    facts = LabelMapReader(job.folder).attributes
    assert facts["precision"] == "bf16"
    assert 0.9 < summary["same_as_fp32"] == facts["same_as_fp32"] < 1
    assert work.parse(job)["same_as_fp32"] == summary["same_as_fp32"]


def test_a_cpu_without_units_computes_in_fp32_and_says_so(
    tmp_path: Path,
    weights: Path,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(units, "has_units", lambda precision: precision == "fp32")
    full = load_parser("schp", weights, input_size=SIZE)
    asked = in_precision(full, "bf16")
    assert asked.precision == "fp32" and asked.network is full.network
    assert "no units for bf16" in caplog.text
    work._parser.cache_clear()  # of a test before, which had them
    job = make_job(tmp_path, weights, 3, precision="bf16")
    for _ in range(2):  # made, then found made
        summary = work.parse(job)
        assert summary["computed_in"] == "fp32" and summary["same_as_fp32"] == 1
    assert LabelMapReader(job.folder).attributes["precision"] == "fp32"
    work._parser.cache_clear()


def test_a_device_is_compared_with_the_cpu_once_for_all_chunks(
    tmp_path: Path,
    weights: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    loaded: list[str] = []
    parser = load_parser("schp", weights, input_size=SIZE)
    monkeypatch.setattr("parsing_models.load_parser", lambda kind, *_, **__: loaded.append(kind))
    monkeypatch.setattr("reid_train.engine.runtime.on_cpu", lambda _: False)
    monkeypatch.setattr(work, "check_device", lambda *_: None)
    monkeypatch.setattr(work, "_compared", set(), raising=False)
    job = make_job(tmp_path, weights, 1)
    about = work._work(job, tmp_path, 1)
    for _ in range(2):
        assert work._checked(about, parser, IMAGES) == {}
    assert loaded == ["schp"]
    work._checked(replace(about, options='{"input_size": [32, 32]}'), parser, IMAGES)
    assert loaded == ["schp", "schp"]


def test_nan_is_no_map(monkeypatch: pytest.MonkeyPatch):
    """Half precision that overflows, or weights that were never set: its largest class is none."""
    parser = load_parser("schp-tiny")
    network = parser.network
    monkeypatch.setattr(parser, "network", lambda x: network(x).log())
    told = "found NaN in what schp-tiny made of an image, computed in fp32 on cpu.*--precision fp32"
    with pytest.raises(ReidpipeError, match=told):
        parser.parse(IMAGES, SIZE)
