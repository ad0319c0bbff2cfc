"""Writes the section of docs/benchmarks.md about a GPU from what ``python -m benchmarks.gpu``
measured: ``python -m docs.building.gpu``. Without a measurement it says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from docs.building.scale import table

HERE = Path(__file__).parent
PAGE, LINES = HERE.parent / "benchmarks.md", HERE / "gpu.jsonl"
SECTION = re.compile(r"(<!-- gpu .*?-->\n).*?(?=<!-- end gpu -->)", re.DOTALL)
NOTHING = "Not measured: anything on a GPU.\n"
Line = Mapping[str, Any]


def measured(path: Path = LINES) -> dict[str, Line]:
    """Lines by the name of their measurement; none where there is no file."""
    if not path.is_file():
        return {}
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {line["measurement"]: line for line in lines}


def section(lines: Mapping[str, Line]) -> str:
    """What is between the marks."""
    if not lines:
        return NOTHING
    parts = [_machine(lines.get("machine", {})), _tests(lines.get("tests", {}))]
    for title, heads, prefixes, cells in TABLES:
        rows = [
            [f"`{name}`", *(cells(line) if _taken(line) else _empty(line, len(heads)))]
            for name, line in lines.items()
            if name.startswith(prefixes)
        ]
        if rows:
            parts.append(f"{title}\n\n{table(['', *heads], rows)}")
    return "\n".join(part for part in parts if part)


def _taken(line: Line) -> bool:
    return line["outcome"] == "measured"


def _untaken(line: Line) -> str:
    reason = line.get("reason", "")
    return f"{line['outcome']}{f': {reason[:120]}' if reason else ''}".replace("|", "/")


def _empty(line: Line, cells: int) -> list[str]:
    return [_untaken(line), *[""] * (cells - 1)]


def _machine(line: Line) -> str:
    if not line or not _taken(line):
        return "The device was not told.\n"
    peak = line.get("peak_flops")
    told = (
        f", peak {peak / 1e12:,.0f} TFLOP/s in half precision ({line['peak_from']})" if peak else ""
    )
    reached = ", ".join(
        f"{name} {line[f'product_{name}_flops'] / 1e12:,.0f}" for name in ("bf16", "fp16", "fp32")
    )
    return (
        f"{line['device']}, torch {line['torch']}{told}. Products of matrices reached {reached} "
        f"TFLOP/s, copies within its memory {line['copy_bytes'] / 1e9:,.0f} GB/s, to it "
        f"{line['upload_bytes'] / 1e9:,.1f} GB/s.\n"
    )


def _tests(line: Line) -> str:
    if not line or not _taken(line):
        return f"Its tests: {_untaken(line)}.\n" if line else ""
    failed = "".join(f"; failed: `{name}`" for name in line["failed"])
    cut = "; the time was over before the last" if line["cut"] else ""
    return f"Its tests (`pytest -m gpu`): {line['passed']} passed{failed}{cut}.\n"


def _number(value: Any, form: str = ",.0f") -> str:
    return "–" if value is None else format(value, form)


def _percent(value: Any) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _steps(line: Line) -> list[str]:
    more = f" ({_percent(line['more'])} more than `{line['base']}`)" if "more" in line else ""
    return [
        f"{_number(line['images_per_s'])}", f"{line['step_ms']:.1f} ms{more}",
        _percent(line["share_of_peak"]), _number(line["memory_gib"], ".1f"),
        _percent(line["waits_for_batches"]),
    ]  # fmt: skip


def _maps(line: Line) -> list[str]:
    return [
        _number(line["images_per_s"]), _percent(line["share_of_peak"]),
        _number(line["network_images_per_s"]), _percent(line["network_share_of_peak"]),
        _number(line["memory_gib"], ".1f"),
    ]  # fmt: skip


def _batches(line: Line) -> list[str]:
    return [_number(line[name]) for name in ("made_per_core", "made_images_per_s",
            "moved_per_core", "moved_images_per_s")]  # fmt: skip


def _waits(line: Line) -> list[str]:
    kernels = ", ".join(f"`{name[:40]}` {_percent(part)}" for name, part in line["kernels"].items())
    host = ", ".join(f"`{name}` {ms:.2f}" for name, ms in line["host_waits_ms"].items())
    launches = f"{line['kernels_per_step']:,.0f} in {_number(line['launches_ms'], '.1f')} ms"
    busy = _percent(line["device_busy"])
    return [busy, _number(line["pauses_per_step"], ".1f"), launches, host.replace("|", "/"),
            kernels.replace("|", "/")]  # fmt: skip


def _drift(line: Line) -> list[str]:
    ways = (line["drift"][way] for way in ("fp32", "tf32", "bf16", "fp16"))
    return [
        ", ".join(
            f"{value:.0e}{' (skipped)' if skipped else ''}"
            for value, skipped in zip(way["loss"], way["skipped"], strict=True)
        )
        for way in ways
    ]


def _retrieval(line: Line) -> list[str]:
    size = ""
    if "queries" in line:
        size = f"{line['queries']:,} x {line['gallery']:,}, D {line['dims']}"
    seconds = (_number(line.get(name), ".1f") for name in ("seconds", "cpu_seconds"))
    return [size, *seconds, _number(line.get("images_per_s"))]


TABLES: tuple[tuple[str, Sequence[str], tuple[str, ...], Callable[[Line], list[str]]], ...] = (
    (
        "Training steps (goal: 40 % of the peak for stage 2 of ViT-B/16 in bf16):",
        ("images/s", "a step", "of the peak", "GiB", "waits for batches"),
        ("stage", "pi-vl", "parts"), _steps,
    ),
    (
        "Label maps, with decoding and writing; the network alone (goal: SCHP at 30 %):",
        ("images/s", "of the peak", "alone, images/s", "alone, of the peak", "GiB"),
        ("maps",), _maps,
    ),
    (
        "Batches from packed pixels, images a second (goal: 10,000 for each core):",
        ("for each core", "made", "for each core, with the way to the device", "with it"),
        ("batches",), _batches,
    ),
    (
        "Where a step waits:",
        ("device computes", "pauses a step", "kernels launched a step", "host waits, ms a step",
         "kernels, of their time"),
        ("waits",), _waits,
    ),
    (
        "Loss beside the authors' in float64, relative, step by step:",
        ("fp32", "fp32 with TF32", "bf16", "fp16"), ("drift",), _drift,
    ),
    (
        "Retrieval at MSMT17's size, on the machine's cores; features on the device:",
        ("size", "s", "CPU s", "images/s"), ("evaluation", "reranking", "features"), _retrieval,
    ),
)  # fmt: skip


def page(text: str, lines: Mapping[str, Line]) -> str:
    """The page with its section written anew."""
    return SECTION.sub(lambda found: found[1] + section(lines), text)


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), measured()), encoding="utf-8")


if __name__ == "__main__":
    main()
