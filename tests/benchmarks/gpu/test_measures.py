"""What is told of a device, of traces, of tests and of trajectories, on made-up figures."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gpu import checks, device
from benchmarks.gpu.drift import along, difference
from benchmarks.gpu.given import Given, Skipped
from benchmarks.gpu.sizes import FULL, REHEARSAL
from benchmarks.gpu.waits import Span, summary
from tests.reid_train.recipe.trajectories import Trajectory


@pytest.mark.parametrize(
    ("name", "peak", "source"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12, device.SHEET),
        ("NVIDIA H100 PCIe", 756e12, device.SHEET),
        ("NVIDIA H200", 989e12, device.SHEET),
        ("NVIDIA A100-SXM4-80GB", 312e12, device.SHEET),
        ("NVIDIA GeForce RTX 9999", 7e13, device.MEASURED),
    ],
)
def test_the_peak_of_a_known_device_is_its_sheets(name: str, peak: float, source: str):
    assert device.peak_of(name, 7e13) == (peak, source)


def test_nobody_knows_the_peak_of_an_unknown_device_that_was_not_measured(tmp_path):
    assert device.peak_of("cpu", None) == (None, "unknown")
    assert Given(tmp_path, "cpu", FULL).share(1e12) is None
    assert Given(tmp_path, "cpu", FULL, peak=4e12).share(1e12) == 0.25


def test_a_trace_is_summed_up():
    """Two steps: the device computes 0-100 and 50-200 at once, pauses, computes 600-700, then
    nothing for 20 microseconds, which nobody would look for."""
    spans = [
        Span("gemm", 0, 100, True), Span("norm", 50, 200, True), Span("gemm", 600, 700, True),
        Span("gemm", 720, 800, True),
        Span("cudaStreamSynchronize", 200, 500, False), Span("aten::add", 0, 900, False),
        Span("cudaLaunchKernel", 0, 40, False), Span("cuLaunchKernelEx", 50, 70, False),
    ]  # fmt: skip
    found = summary(spans, 2)
    assert found["device_busy"] == pytest.approx((200 + 100 + 80) / 800)
    assert found["pauses_per_step"] == 0.5 and found["paused_ms"] == pytest.approx(0.2)
    assert found["kernels"] == {"gemm": pytest.approx(280 / 430), "norm": pytest.approx(150 / 430)}
    assert found["kernels_per_step"] == 2 and found["launches_ms"] == pytest.approx(0.03)
    assert found["host_waits_ms"] == {"cudaStreamSynchronize": pytest.approx(0.15)}
    assert summary([span for span in spans if not span.on_device], 2)["device_busy"] is None


def test_what_pytest_told_is_counted():
    text = (
        "tests/test_gpu.py::test_a[fp32] PASSED    [ 20%]\n"
        "tests/test_gpu.py::test_b FAILED    [ 40%]\n"
        "tests/test_gpu.py::test_c SKIPPED (needs a GPU)\n"
        "FAILED tests/test_gpu.py::test_b - AssertionError: 1 == 2\n"
        "tests/test_gpu.py::test_cut "
    )
    failed = {"tests/test_gpu.py::test_b": "AssertionError: 1 == 2"}
    assert checks.counted(text) == {"passed": 1, "skipped": 1, "failed": failed, "told": text}
    assert "told" not in checks.counted(text.replace("FAILED", "PASSED"))
    assert "tests/test_gpu.py" in checks.marked()


def test_drift_is_the_difference_from_what_was_recorded():
    ours = Trajectory(loss=[1.0, 2.2], norm=[{"a": 0.0, "b": 0.0}, {"a": 1.1, "b": 4.0}])
    theirs = {
        "param_names": np.array(["a", "still", "b"]), "loss": np.array([1.0, 2.0]),
        "delta_norm": np.array([[1.0, 0.0, 2.0], [1.0, 0.0, 4.0]]),
    }  # fmt: skip
    found = difference(ours, theirs)
    assert found["loss"] == [0, pytest.approx(0.1)] and found["skipped"] == [1.0, 0.0]
    assert found["moved_median"] == [1.0, pytest.approx(0.05)]
    assert found["moved_largest"] == [1.0, pytest.approx(0.1)]


def test_missing_recordings_are_skipped_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("REIDPIPE_SHARED", str(tmp_path))
    given = Given(tmp_path, "cpu", FULL)
    with pytest.raises(Skipped, match="no recorded trajectory clipreid_vit_stage2: set REIDPIPE"):
        along(given, "clipreid_vit_stage2")
    with pytest.raises(Skipped, match="no recipe is known for the recorded trajectory of_others"):
        along(Given(tmp_path, "cpu", REHEARSAL), "of_others")
