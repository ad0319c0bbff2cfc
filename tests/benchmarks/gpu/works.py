"""Work for measurements of tests: what it may come to."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import torch

from benchmarks.gpu.given import Given, Skipped


def fine(given: Given, number: int = 1) -> dict[str, Any]:
    return {"number": number, "limit": given.limit, "peak": given.peak}


def machine(given: Given) -> dict[str, Any]:
    del given
    return {"peak_flops": 5e12}


def wrong(given: Given) -> dict[str, Any]:
    del given
    raise ValueError("found this\nand that")


def full(given: Given) -> dict[str, Any]:
    del given
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")


def absent(given: Given) -> dict[str, Any]:
    del given
    raise Skipped("nothing is recorded")


def dying(given: Given) -> dict[str, Any]:
    del given
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def hanging(given: Given) -> dict[str, Any]:
    del given
    time.sleep(600)
    return {}
