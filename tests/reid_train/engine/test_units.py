"""Half precision on CPUs: computed where there are units for it, in fp32 and told elsewhere."""

from __future__ import annotations

import pytest

from reid_train.engine import units
from reid_train.engine.runtime import Runtime
from reid_train.engine.units import LIMIT, has_units

HASWELL = {"architecture": "x86_64", "avx2": True}
ZEN4 = HASWELL | {"avx512_f": True, "avx512_bf16": True}
SAPPHIRE_RAPIDS = ZEN4 | {"avx512_fp16": True, "amx_bf16": True, "amx_fp16": False}
GRAVITON3 = {"architecture": "aarch64", "neon": True, "bf16": True, "fp16_arith": True}


@pytest.mark.parametrize(
    ("processor", "bf16", "fp16"),
    [
        (HASWELL, False, False),
        (HASWELL | {"avx512_f": True, "avx512_vnni": True}, False, False),
        (ZEN4, True, False),
        (SAPPHIRE_RAPIDS, True, True),
        (GRAVITON3, True, True),
    ],
)
def test_units_of_processors(monkeypatch, processor, bf16, fp16):
    monkeypatch.delenv(LIMIT, raising=False)
    assert has_units("bf16", processor) is bf16 and has_units("fp16", processor) is fp16
    assert has_units("fp32", processor) and has_units("fp64", processor)


@pytest.mark.parametrize(
    ("limit", "bf16", "fp16"),
    [
        ("AVX2", False, False),
        ("avx512_core_vnni", False, False),
        ("AVX512_CORE_BF16", True, False),
        ("AVX512_CORE_FP16", True, True),
        ("AVX512_CORE_AMX", True, True),
        ("ALL", True, True),
    ],
)
def test_units_that_may_not_be_used_are_none(monkeypatch, limit, bf16, fp16):
    monkeypatch.setenv(LIMIT, limit)
    found = [has_units(name, SAPPHIRE_RAPIDS) for name in ("bf16", "fp16")]
    assert found == [bf16, fp16]
    assert not has_units("bf16", HASWELL)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_training_without_units_is_in_fp32_and_told(monkeypatch, caplog, precision):
    monkeypatch.setattr(units, "has_units", lambda _: False)
    runtime = Runtime.create("cpu", precision)
    assert runtime.precision == runtime.facts()["precision"] == "fp32"
    assert f"no units for {precision}" in caplog.text


def test_this_processor_is_known():
    assert set(units.UNITS["bf16"]) & set(units._capabilities())
