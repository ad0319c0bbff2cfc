"""Where a training step waits: a trace of some steps, summed up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu import steps
from benchmarks.gpu.given import Given
from benchmarks.gpu.sizes import Sizes
from reid_train.engine.runtime import Runtime, on_cpu

# Calls in which the host waits for the device, or takes memory that both can read.
HOST_WAITS = (
    "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpyAsync",
    "cudaHostAlloc", "cudaMalloc", "cudaFree", "aten::_local_scalar_dense", "aten::nonzero",
    "aten::unique", "aten::_unique2", "aten::equal",
)  # fmt: skip
# Calls that hand the device a kernel.
LAUNCH = "LaunchKernel"
LISTED = 8
# Of a pause of the device that somebody would look for, in microseconds.
PAUSE = 100.0


class Span(NamedTuple):
    """A call or a kernel: name, start and end in microseconds, whether it ran on the device."""

    name: str
    start: float
    end: float
    on_device: bool


class Traced(steps.Untimed):
    """A trace of the measured steps."""

    spans: Sequence[Span] = ()

    def began(self) -> None:
        super().began()
        activities = [ProfilerActivity.CPU]
        if not on_cpu(self.runtime.device):
            activities.append(ProfilerActivity.CUDA)
        self.trace = profile(activities=activities)
        self.trace.__enter__()

    def after_step(self, task: Any) -> None:
        try:
            super().after_step(task)
        except steps.Over:
            self.trace.__exit__(None, None, None)
            self.spans = [
                Span(
                    event.name, event.time_range.start, event.time_range.end,
                    event.device_type != DeviceType.CPU,
                )
                for event in self.trace.events() or ()
                if not event.is_user_annotation  # a name for what others do meanwhile
            ]  # fmt: skip
            raise


def of_images(given: Given, recipe: str, precision: str) -> dict[str, Any]:
    """Where steps of the stage on images of ``recipe`` wait. Tracing makes the host slower: the
    shares are what to read, not the milliseconds.
    """
    runtime = Runtime.create(given.device, precision)
    task, stage, channels_last = steps.image_stage(given, recipe, runtime)
    few: Sizes = replace(given.sizes, steps=given.sizes.profiled)
    found = steps.taken(
        replace(given, sizes=few), task, stage, runtime, channels_last=channels_last, watch=Traced
    )
    return {
        "recipe": recipe,
        "precision": precision,
        "traced_steps": few.steps,
        "waits_for_batches": found["waited"] / found["seconds"],
        **summary(found["hook"].spans, few.steps),
    }


def summary(spans: Iterable[Span], count: int) -> dict[str, Any]:
    """Of ``count`` steps: the share of the time in which the device computes (None where nothing
    ran on one), its pauses of ``PAUSE`` and more, the kernels that take most of its time, the calls
    in which the host waits and those that launch kernels, as milliseconds a step, and how many
    kernels a step has.
    """
    spans = list(spans)
    kernels = sorted((s for s in spans if s.on_device), key=lambda span: span.start)
    calls = [span for span in spans if not span.on_device]
    waits = sums(span for span in calls if span.name in HOST_WAITS)
    found: dict[str, Any] = {
        "device_busy": None, "pauses_per_step": None, "paused_ms": None,
        "kernels_per_step": len(kernels) / count, "kernels": {},
        "host_waits_ms": {name: us / 1000 / count for name, us in largest(waits)},
        "launches_ms": sum(s.end - s.start for s in calls if LAUNCH in s.name) / 1000 / count,
    }  # fmt: skip
    if not kernels:
        return found
    busy, reached, pauses = 0.0, kernels[0].start, []
    for kernel in kernels:
        if kernel.start > reached:
            pauses.append(kernel.start - reached)
        busy += max(0.0, kernel.end - max(kernel.start, reached))
        reached = max(reached, kernel.end)
    total = sums(kernels)
    whole = sum(total.values())
    long = [pause for pause in pauses if pause >= PAUSE]
    return {
        **found,
        "device_busy": busy / max(reached - kernels[0].start, 1e-9),
        "pauses_per_step": len(long) / count,
        "paused_ms": sum(long) / 1000 / count,
        "kernels": {name[:80]: us / whole for name, us in largest(total)},
    }


def sums(spans: Iterable[Span]) -> dict[str, float]:
    """Microseconds by name."""
    total: dict[str, float] = defaultdict(float)
    for span in spans:
        total[span.name] += span.end - span.start
    return dict(total)


def largest(total: dict[str, float]) -> list[tuple[str, float]]:
    """The entries that take most."""
    return sorted(total.items(), key=lambda item: -item[1])[:LISTED]
