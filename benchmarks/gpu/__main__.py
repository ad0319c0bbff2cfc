"""What one GPU does with the project, as lines of JSON, in under eight minutes.

    python -m benchmarks.gpu --out docs/building/gpu.jsonl      # then: python -m docs.building.gpu
    python -m benchmarks.gpu --out lines.jsonl --rehearse       # the same on a CPU, tiny: seconds

It runs the tests that need a GPU and then measures, in order of worth (``order.py``): training
steps of CLIP-ReID and pi-VL with their share of the device's peak and their memory, where a step
waits, parsing with writing, batches from packed pixels, how far bf16 and fp16 drift from the
authors' steps, evaluation and re-ranking at MSMT17's size. Weights are random, people are made up,
there is no network. Each measurement is a process with a limit of its own; its line is on the disk
when it ends, so a run that is cut short has what it came to.

A share of the peak is that of the device's data sheet for dense products in half precision, from a
table by the device's name; of a device that is not in it, of the largest product measured here.
The line ``machine`` says which.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu import running
from benchmarks.gpu.given import Given
from benchmarks.gpu.order import MODULES, Measurement, order, recorded
from benchmarks.gpu.sizes import FULL, REHEARSAL

PATIENCE = 20.0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="what one GPU does with the project")
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines to write")
    parser.add_argument("--device", default="cuda:0", help="default: cuda:0")
    parser.add_argument("--rehearse", action="store_true", help="tiny, on the CPU")
    parser.add_argument("--seconds", type=float, default=470.0, help="all in all; default: 470")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these measurements")
    options = parser.parse_args(arguments)
    device = "cpu" if options.rehearse else options.device
    listed = chosen(options.only)
    if options.rehearse:  # on a CPU that is busy with other things, somebody's tests for one
        listed = [replace(m, limit=PATIENCE * m.limit) for m in listed]
    os.environ.update(running.ENVIRONMENT)
    from pipeline.artifacts.executors import server

    with tempfile.TemporaryDirectory(prefix="reidpipe-gpu-") as folder:
        given = Given(Path(folder), device, REHEARSAL if options.rehearse else FULL)
        output = running.Output(options.out)
        server.start(list(MODULES))
        try:
            running.run(
                listed, given, seconds=options.seconds, line=lambda entry: tell(output, entry)
            )
        finally:
            server.kill()


def chosen(names: Sequence[str] | None) -> list[Measurement]:
    """The measurements of these names, all without any; ends the command for an unknown one."""
    everything = order(recorded())
    known = [measurement.name for measurement in everything]
    if unknown := [name for name in names or () if name not in known]:
        sys.exit(f"found measurement '{unknown[0]}'; expected some of {', '.join(known)}")
    return [m for m in everything if names is None or m.name in (*names, "machine")]


def tell(output: running.Output, entry: dict[str, Any]) -> None:
    """Write a line; show what is most of it."""
    output.line(entry)
    shown = ("reason", "images_per_s", "share_of_peak", "more", "seconds", "device", "failed")
    parts = [f"{name} {entry[name]}" for name in shown if entry.get(name) not in (None, {})]
    print(f"{entry['measurement']}: {entry['outcome']} {', '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
