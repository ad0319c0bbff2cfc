"""The device that is measured: what it is called, what it could do at most, how full it was."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.gpu.given import Given
from reid_train.engine.runtime import Runtime, on_cpu

# Dense operations a second in bf16 and fp16 by the data sheets (without sparsity, which doubles
# them there); the first name that is part of the device's.
PEAKS = (
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H200 NVL", 835e12),
    ("H200", 989e12),
    ("GH200", 989e12),
    ("A100", 312e12),
)
MEASURED, SHEET = "measured: the largest product of matrices", "data sheet"


def name_of(device: torch.device) -> str:
    """As the driver calls it."""
    return str(Runtime(device).facts()["device"])


def sheet_peak(name: str) -> float | None:
    """Operations a second by a data sheet; None for a device that is not in the table."""
    return next((peak for part, peak in PEAKS if part in name), None)


def peak_of(name: str, measured: float | None) -> tuple[float | None, str]:
    """Operations a second in half precision, and where that is from: the data sheet of a known
    device, of another what a product of matrices reached, if that was measured.
    """
    known = sheet_peak(name)
    if known is not None:
        return known, SHEET
    return measured, MEASURED if measured is not None else "unknown"


def seconds_of(
    work: Callable[[], Any], runtime: Runtime, *, least: float, warmup: int = 3
) -> float:
    """Mean seconds of ``work`` over as many calls as take ``least`` seconds, after ``warmup``."""
    for _ in range(warmup):
        work()
    runtime.synchronise()
    started, calls = time.perf_counter(), 0
    while True:
        work()
        calls += 1
        if calls % 4 == 0 or least < 0.1:
            runtime.synchronise()
            taken = time.perf_counter() - started
            if taken >= least:
                return taken / calls


def forget_peak(runtime: Runtime) -> None:
    """From here on ``peak_gib`` looks at what is allocated."""
    if not on_cpu(runtime.device):
        torch.accelerator.reset_peak_memory_stats(runtime.device)


def peak_gib(runtime: Runtime) -> float | None:
    """Most GiB that tensors held on the device since ``forget_peak``; None on a CPU."""
    if on_cpu(runtime.device):
        return None
    return torch.accelerator.max_memory_allocated(runtime.device) / 2**30


@contextlib.contextmanager
def plain_float32() -> Iterator[None]:
    """Convolutions in float32 as it is: torch lets cuDNN take TF32, which has 10 bits, for them."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def machine(given: Given) -> dict[str, Any]:
    """What the device is, and what it reaches with nothing around it: products of square matrices
    in each precision, copies within its memory and to it.
    """
    size, mib, least = given.sizes.product, given.sizes.mib, given.sizes.least
    runtime = Runtime.create(given.device)
    place = runtime.device
    found: dict[str, Any] = {"device": name_of(place), "torch": torch.__version__}
    if not on_cpu(place):
        about = torch.cuda.get_device_properties(place)
        found["memory_gib"] = about.total_memory / 2**30
        found["capability"] = f"{about.major}.{about.minor}"
        found["cuda"] = torch.version.cuda
    for precision in ("bf16", "fp16", "fp32"):
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
        one = torch.randn(size, size, device=place).to(kind)
        taken = seconds_of(lambda one=one: one @ one, runtime, least=least)
        found[f"product_{precision}_flops"] = 2 * size**3 / taken
    block = torch.empty(mib * 2**20, dtype=torch.uint8, device=place)
    other = torch.empty_like(block)
    found["copy_bytes"] = (
        2 * block.numel() / seconds_of(lambda: other.copy_(block), runtime, least=least)
    )  # read and written
    host = {"block": torch.empty(mib * 2**20, dtype=torch.uint8)}
    # As batches go there: through memory that the device reads by itself.
    found["upload_bytes"] = block.numel() / seconds_of(
        lambda: runtime.move(host), runtime, least=least
    )
    best = max(found["product_bf16_flops"], found["product_fp16_flops"])
    peak, source = peak_of(found["device"], best)
    return {**found, "peak_flops": peak, "peak_from": source}
