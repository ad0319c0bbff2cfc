"""Devices, precisions and seeds as a user names them."""

from __future__ import annotations

import pytest
import torch

from pipeline.terminal.errors import ReidpipeError
from reid_train.engine import units
from reid_train.engine.runtime import Runtime, derive_seed, gather, synchronised


def test_seeds_differ_by_purpose_and_never_change():
    assert derive_seed(0, "init") == derive_seed(0, "init")
    seeds = {derive_seed(s, *p) for s in range(20) for p in (("init",), ("step", 0), ("step", 1))}
    assert len(seeds) == 60
    # Fixed for ever: models of different versions must be comparable.
    assert derive_seed(0, "init") == 1519069808562059438
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "", "mps"])
def test_unknown_devices(device):
    with pytest.raises(ReidpipeError, match="expected auto, cpu, cuda or cuda:<n>"):
        Runtime.create(device)


def test_a_gpu_that_is_not_there():
    count = torch.cuda.device_count()
    with pytest.raises(ReidpipeError, match=f"found {count} usable GPUs; expected GPU {count}"):
        Runtime.create(f"cuda:{count}")


def test_unknown_precision():
    with pytest.raises(ReidpipeError, match="fp32, bf16, fp16"):
        Runtime.create("cpu", "fp8")


def test_facts_name_what_sums_depend_on():
    before = torch.get_num_threads()
    try:
        runtime = Runtime.create("cpu", "auto", threads=1)
    finally:
        torch.set_num_threads(before)
    facts = runtime.facts()
    assert facts["threads"] == 1 and facts["precision"] == "fp32" and facts["processes"] == 1
    assert facts["device"] == "cpu" and runtime.main


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_autocast_decides_the_type_of_products(monkeypatch, precision):
    monkeypatch.setattr(units, "has_units", lambda _: True)  # also where they are emulated
    runtime = Runtime.create("cpu", precision)
    with runtime.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    assert product.dtype == names[precision]


def test_batches_take_the_memory_order_asked_for():
    runtime = Runtime.create("cpu")
    nhwc = torch.zeros(2, 4, 5, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    batch = {"images": nhwc, "labels": torch.zeros(2)}
    assert runtime.move(batch)["images"].is_contiguous()
    kept = runtime.move(batch, channels_last=True)["images"]
    assert kept.data_ptr() == nhwc.data_ptr(), "already in that order: not copied"


def test_batch_norm_over_processes_keeps_the_activations_it_holds():
    timm = pytest.importorskip("timm")
    network = timm.create_model("efficientnet_lite0", pretrained=False, num_classes=0).eval()
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
        changed = synchronised(network)
        kinds = {type(part) for part in changed.modules()}
        assert any(issubclass(kind, torch.nn.SyncBatchNorm) for kind in kinds)
        torch.testing.assert_close(changed(images), expected)
    plain = synchronised(torch.nn.BatchNorm1d(4))
    assert isinstance(plain, torch.nn.SyncBatchNorm)


def test_gathering_alone_changes_nothing():
    rows = torch.ones(2, 3, requires_grad=True)
    assert gather(rows) is rows
