"""Writes the tables and the picture of docs/scale.md from what ``python -m benchmarks.scale``
measured: ``python -m docs.building.scale``. No figure of a table is typed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE, PICTURE, LINES = HERE.parent / "scale.md", HERE.parent / "scale.svg", HERE / "scale.jsonl"
TABLE = re.compile(r"(<!-- table (\w+) .*?-->\n).*?(?=<!-- end -->)", re.DOTALL)
WORDS = {
    "prepare": "`prepare`: index and pack",
    "again": "`prepare` again: nothing to do",
    "parse": "`parse`, maps written",
    "resumed": "`parse`, killed at its end and gone on with",
    "rows": "books of an index and of packed pixels, no image",
    "shards": "books of maps: written, counted, 2,000 read at random",
    "train": "`train`, one epoch over half of the images",
    "eval": "`eval`, 200 queries",
    "embed": "`embed`, a gallery of all images",
    "search": "`search`, one query",
}
GRAPH = "graph"  # of benchmarks/graph.py: its "images" are steps
# A difference of fewer CPU seconds than this is lost in what imports take, now more, now less.
CLEAR = 1.5
LARGEST, CHECKED_BY = 128_000, 32_000
MILLION = 1_000_000

# As docs/reproduce.md: an A100's dense bf16 peak, of which this share is reached.
RATE = 0.35 * 312e12
VIT, SCHP = 22.7e9, 153e9  # operations of an image: ViT-B/16 at 256 x 128, SCHP at 473 x 473
PIXELS = 256 * 128 * 3
# Bytes of a map with its confidence, packed: the mean of schp-tiny's maps of 32 mannequins. Images
# per CPU second of packing 64 x 128 JPEGs (docs/benchmarks.md).
MAP, PACKED = 6_000, 1_705
DIMENSIONS = 768


@dataclass(frozen=True)
class Measured:
    """One phase: lines of the benchmark by number of images, the last of each; the smallest tells
    what does not depend on the number.
    """

    phase: str
    lines: dict[int, dict[str, Any]]

    @property
    def least(self) -> int:
        return min(self.lines)

    @cached_property
    def sizes(self) -> list[int]:
        return [n for n in sorted(self.lines) if self.least < n <= LARGEST]

    def more(self, images: int, what: str = "cpu") -> float:
        """CPU seconds (or MiB) beyond those of the smallest size."""
        return self.lines[images][what] - self.lines[self.least][what]

    def each(self, images: int) -> float:
        """Bytes of an image."""
        return self.more(images, "own_mib") * 2**20 / (images - self.least)

    def fit(self, most: int = LARGEST) -> tuple[float, float] | None:
        """(factor, exponent) of CPU seconds = factor * images ** exponent, by least squares of the
        logarithms over the sizes up to ``most`` where they are clear; None where two are not.
        """
        clear = [n for n in self.sizes if n <= most and self.more(n) >= CLEAR]
        if len(clear) < 2:
            return None
        x = [math.log(n - self.least) for n in clear]
        y = [math.log(self.more(n)) for n in clear]
        middle, height = sum(x) / len(x), sum(y) / len(y)
        slope = sum((a - middle) * (b - height) for a, b in zip(x, y, strict=True))
        slope /= sum((a - middle) ** 2 for a in x)
        return math.exp(height - slope * middle), slope

    def predicted(self, images: int, most: int = LARGEST) -> float:
        """CPU seconds of so many images, all in all; where no exponent is known, as the largest
        size has it for an image.
        """
        base, found = self.lines[self.least]["cpu"], self.fit(most)
        if found is None:
            last = max(n for n in self.sizes if n <= most)
            return base + max(0.0, self.more(last)) * images / last
        return base + found[0] * (images - self.least) ** found[1]

    def memory(self, images: int, most: int = LARGEST) -> float:
        """MiB of so many images: those of the smallest size and as much for each image as at the
        largest.
        """
        last = max(n for n in self.sizes if n <= most)
        return self.lines[self.least]["own_mib"] + self.each(last) * images / 2**20


def measured(path: Path = LINES) -> dict[str, Measured]:
    """Phases of a file that the benchmark wrote."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        found.setdefault(line["phase"], {})[line["images"]] = line
    return {name: Measured(name, found[name]) for name in (*WORDS, GRAPH) if name in found}


def commands(phases: dict[str, Measured]) -> list[Measured]:
    """Those that are about images."""
    return [phase for name, phase in phases.items() if name != GRAPH]


def growth(phases: dict[str, Measured]) -> str:
    """CPU seconds by size, exponent and bytes of an image."""
    sizes = sorted({n for phase in commands(phases) for n in (phase.least, *phase.sizes)})
    rows = []
    for phase in commands(phases):
        fit = phase.fit()
        rows.append([
            WORDS[phase.phase],
            *(f"{phase.lines[n]['cpu']:.1f}" if n in phase.lines else "" for n in sizes),
            f"{fit[1]:.2f}" if fit else "–",
            f"{max(0, phase.each(max(phase.sizes))):,.0f}",
            f"{phase.lines[phase.least]['own_mib']:.0f}",
        ])  # fmt: skip
    heads = ["CPU s", *(f"{n:,}" for n in sizes), "exponent", "bytes an image", "MiB beside them"]
    return table(heads, rows)


def checked(phases: dict[str, Measured]) -> str:
    """What the sizes up to 32,000 say of the largest, beside what it took."""
    rows = []
    for phase in commands(phases):
        if LARGEST not in phase.lines or CHECKED_BY not in phase.lines:
            continue
        pairs = [
            (phase.predicted(LARGEST, CHECKED_BY), phase.lines[LARGEST]["cpu"]),
            (phase.memory(LARGEST, CHECKED_BY), phase.lines[LARGEST]["own_mib"]),
        ]
        cells = [f"{a:,.1f} / {b:,.1f} ({100 * (a / b - 1):+.0f} %)" for a, b in pairs]
        rows.append([WORDS[phase.phase], *cells])
    return table([f"{LARGEST:,} images", "CPU s: said / measured", "MiB: said / measured"], rows)


def million(phases: dict[str, Measured]) -> str:
    """What was measured at a million, beside what the sizes up to 128,000 say."""
    rows = [
        [
            WORDS[phase.phase],
            f"{phase.lines[MILLION]['cpu']:,.0f} ({phase.predicted(MILLION):,.0f})",
            f"{phase.lines[MILLION]['own_mib']:,.0f} ({phase.memory(MILLION):,.0f})",
            f"{phase.each(MILLION):,.0f}",
        ]
        for phase in commands(phases)
        if MILLION in phase.lines
    ]
    heads = ["1,000,000 images", "CPU s (said)", "MiB (said)", "bytes an image"]
    return table(heads, rows)


def steps(phases: dict[str, Measured]) -> str:
    """The graph by its number of steps."""
    rows = [
        [f"{n:,}", f"{line['cpu']:.1f}", f"{line['own_mib']:.0f}"]
        for n, line in sorted(phases[GRAPH].lines.items())
    ]
    return table(["steps", "CPU s", "MiB at most"], rows)


@dataclass(frozen=True)
class Task:
    """A set and what is done with it. trained: images of the training split, 60 epochs."""

    name: str
    images: int
    trained: int
    parsed: bool = True


TASKS = (
    Task("MSMT17", 126_441, 32_621),
    Task("a set of 230,000 images, 150,000 of them for training", 230_000, 150_000),
    Task("a gallery of ten million images", 10_000_000, 0, parsed=False),
)


def estimates(phases: dict[str, Measured]) -> str:
    """Disk, memory, CPU and GPU hours of ``TASKS``: calculated."""
    rows = []
    for task in TASKS:
        disk = {"pixels": PIXELS * task.images, "maps": MAP * task.images}
        if not task.parsed:
            disk = {"features": DIMENSIONS * 4 * task.images, "names": 160 * task.images}
        names = ("prepare", "parse", "eval") if task.parsed else ("embed", "search")
        held = max(phases[name].memory(task.images) for name in names if name in phases)
        cpu = task.images / PACKED + sum(
            phases[name].predicted(task.images) for name in names[:1] if name in phases
        )
        gpu = {
            "maps": SCHP * task.images * task.parsed,
            "training": 3 * VIT * task.trained * 60,
            "features": VIT * (task.images - task.trained),
        }
        rows.append([
            task.name,
            ", ".join(f"{name} {size / 1e9:,.1f} GB" for name, size in disk.items()),
            f"{held / 1024:.1f} GiB",
            f"{cpu / 3600:.2f}",
            ", ".join(f"{name} {hours(done):.2g}" for name, done in gpu.items() if done),
        ])  # fmt: skip
    heads = ["", "disk", "memory of the largest command", "CPU hours", "GPU hours"]
    return table(heads, rows)


def hours(operations: float) -> float:
    return operations / RATE / 3600


def machines(phases: dict[str, Measured]) -> str:
    """Where and when it was measured."""
    lines = [line for phase in phases.values() for line in phase.lines.values()]
    told = sorted({
        f"{li['processor']}, {li['cores']} cores, Python {li['python']}, {li['day']}"
        for li in lines
    })  # fmt: skip
    return "".join(f"- {text}\n" for text in told)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


WRITTEN = {
    "growth": growth, "checked": checked, "million": million, "steps": steps,
    "estimates": estimates, "machines": machines,
}  # fmt: skip


def page(text: str, phases: dict[str, Measured]) -> str:
    """The page with its tables written anew."""
    return TABLE.sub(lambda found: found[1] + WRITTEN[found[2]](phases), text)


def picture(phases: dict[str, Measured]) -> Any:
    """CPU seconds and memory against the number of images, both logarithmic, less the smallest
    size's; a grey line is what grows with the number.
    """
    from reid_train.figures.charts.style import FAINT, look, name_runs, panels, styled

    with styled():
        figure, axes = panels(2, width="two", height=2.6)
        handles: dict[str, Any] = {}
        for number, phase in enumerate(commands(phases)):
            how = look(number)
            for axis, what, least in zip(axes, ("cpu", "own_mib"), (0.1, 0.5), strict=True):
                shown = [n for n in sorted(phase.lines) if n > phase.least]
                shown = [n for n in shown if phase.more(n, what) >= least]
                (line,) = axis.plot(
                    shown, [phase.more(n, what) for n in shown],
                    color=how.colour, linestyle=how.dashes, marker=how.mark,
                )  # fmt: skip
                handles.setdefault(phase.phase, line)
        for axis, label, height in zip(
            axes, ("CPU s beyond 512 images", "MiB beyond 512 images"), (2.0, 4.0), strict=True
        ):
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.plot([2e3, 128e3], [height, 64 * height], color=FAINT, linewidth=0.6)
            for along in (axis.xaxis, axis.yaxis):
                along.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axis.set_xlabel("images")
            axis.set_ylabel(label)
            axis.grid(True)
        name_runs(figure, list(handles.values()), list(handles), "two")
    return figure


def main() -> None:
    from reid_train.figures.charts.saving import save

    phases = measured()
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), phases), encoding="utf-8")
    save(
        picture(phases), PICTURE, title="CPU time and memory by number of images",
        caption="Each phase in a process of its own; a grey line grows with the number of images.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
