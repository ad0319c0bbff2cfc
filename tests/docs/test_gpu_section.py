"""The section of docs/benchmarks.md about a GPU against what was measured."""

from __future__ import annotations

import json

from docs.building.gpu import NOTHING, PAGE, SECTION, measured, page, section

STEP = {
    "images_per_s": 5000.4, "step_ms": 12.8, "share_of_peak": 0.3456, "memory_gib": 7.25,
    "waits_for_batches": 0.01,
}  # fmt: skip
LINES = [
    {"measurement": "machine", "outcome": "measured", "device": "NVIDIA H100", "torch": "2.15",
     "peak_flops": 989e12, "peak_from": "data sheet", "product_bf16_flops": 7e14,
     "product_fp16_flops": 6e14, "product_fp32_flops": 5e13, "copy_bytes": 2.5e12,
     "upload_bytes": 5e10},
    {"measurement": "tests", "outcome": "measured", "passed": 8, "failed": {"t::a": ""},
     "cut": False},
    {"measurement": "stage2-vit-bf16", "outcome": "measured", **STEP},
    {"measurement": "pi-vl-vit-bf16", "outcome": "measured", **STEP, "more": 0.15, "base": "b"},
    {"measurement": "stage2-olp-bf16", "outcome": "out of memory", "reason": "20 GiB | no"},
    {"measurement": "drift-x", "outcome": "measured",
     "drift": {
         "fp32": {"loss": [1e-5, 0.02], "skipped": [0.0, 0.0]},
         "tf32": {"loss": [1e-5, 0.02], "skipped": [0.0, 0.0]},
         "bf16": {"loss": [1e-3, 0.02], "skipped": [0.0, 0.0]},
         "fp16": {"loss": [1e-4, 0.01], "skipped": [1.0, 0.0]}}},
    {"measurement": "waits-x", "outcome": "measured", "device_busy": 0.25, "pauses_per_step": 3.5,
     "kernels_per_step": 1300.0, "launches_ms": 10.1, "host_waits_ms": {"cudaFree": 1.0},
     "kernels": {"a|b": 0.5}},
    {"measurement": "evaluation", "outcome": "not reached"},
]  # fmt: skip


def test_the_page_says_what_was_measured():
    text = PAGE.read_text(encoding="utf-8")
    assert len(SECTION.findall(text)) == 1
    assert page(text, measured()) == text, "type python -m docs.building.gpu"


def test_without_a_measurement_it_says_so(tmp_path):
    assert section(measured(tmp_path / "none.jsonl")) == NOTHING


def test_lines_become_tables_whatever_became_of_them(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    text = section(measured(path))
    assert "peak 989 TFLOP/s in half precision (data sheet)" in text
    assert "8 passed; failed: `t::a`." in text
    assert "| `stage2-vit-bf16` | 5,000 | 12.8 ms | 34.6 % | 7.2 | 1.0 % |" in text
    assert "12.8 ms (15.0 % more than `b`)" in text
    assert "| `stage2-olp-bf16` | out of memory: 20 GiB / no |  |  |  |  |" in text
    assert "| `drift-x` | 1e-05, 2e-02 | 1e-05, 2e-02 | 1e-03, 2e-02 | 1e-04 (sk" in text
    assert "1e-04 (skipped), 1e-02 |" in text
    assert "| 25.0 % | 3.5 | 1,300 in 10.1 ms | `cudaFree` 1.00 | `a/b` 50.0 % |" in text
    assert "| `evaluation` | not reached |" in text
